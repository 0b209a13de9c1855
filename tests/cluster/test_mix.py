"""A cluster of unlike machines: the mix is named before anything is trained."""

import pytest

from core.machine import instruction_set
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from tests.cluster.conftest import join
from tests.conftest import sweep_text

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(400)]
INLINE = ("executor.kind=inline", "executor.address=null", "executor.workers=auto")


def test_a_node_with_other_instructions_is_named_before_anything_is_trained(two_hosts, tmp_path):
    alpha, beta = two_hosts
    join(beta, "10.77.0.2", ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE")
    path = tmp_path / "mix.yaml"
    path.write_text(
        sweep_text(tmp_path / "runs", executor="{kind: ray, workers: 2, address: '10.77.0.1:6379'}")
    )
    shown = alpha.must("supsup", "run", path)
    (note,) = (line for line in shown.splitlines() if "note: node beta (10.77.0.2) has" in line)
    assert "instructions default, blas MKL" in note
    assert f"; this machine has instructions {instruction_set()}, blas MKL" in note
    assert shown.index(note) < shown.index("training 0/4")
    assert "note: node alpha" not in shown
    elsewhere = beta.must(
        *("supsup", "run", path, "benchmark.num_tasks=6", *INLINE),
        ATEN_CPU_CAPABILITY="default",
        MKL_CBWR="COMPATIBLE",
    )
    begun = f"note: this run was started with instructions {instruction_set()}, blas MKL"
    assert begun in elsewhere
    assert elsewhere.index(begun) < elsewhere.index("training 4/6")
    verified = alpha.must("supsup", "verify", locate_run(load_sweep(path)).layout.root)
    assert (
        "note: the masks were not all made in the same way (engine, device, torch, instructions, BLAS): "
        in verified
    )
