"""A sweep file in; masks, tables and an answer out; the same command again resumes."""

import json
import random
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.machine import instruction_set
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from storage.layout import TableKey
from storage.summary import read_summary
from tests.conftest import supsup, sweep_text
from tests.orchestrator.fakes import Recorder


def digests(run) -> list[str]:
    return run.store.info_table()["digest"].to_pylist()


def masks(run) -> dict[str, tuple[int, bytes]]:
    """Name -> (modification time, content) of each mask file."""
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in run.layout.masks.iterdir()}


@pytest.fixture
def run(sweep):
    assert supsup("run", sweep) == 0
    return locate_run(load_sweep(sweep))


def test_the_run_folder_holds_what_the_contract_says(run):
    names = {p.relative_to(run.layout.root).as_posix() for p in run.layout.root.rglob("*") if p.is_file()}
    assert names == {
        "run.json",
        "sessions.json",
        ".lock",
        "masks/cohort-00000-00001.parquet",
        "masks/cohort-00002-00003.parquet",
        "evaluations/GG-2.parquet",
        "evaluations/GG-4.parquet",
        "report/summary.json",
        "report/tasks.parquet",
        "report/matrix-GG.parquet",
        "report/config.yaml",
    }
    assert run.layout.root.name == f"tiny-{run.fingerprint[:8]}"


def test_evaluation_summary_and_mask_files_agree(run):
    table = pq.read_table(run.layout.evaluations / "GG-4.parquet")
    assert table["first_image"].to_pylist() == [0, 128] * 4
    assert table["num_images"].to_pylist() == [128, 72] * 4
    assert table["inferred_task"].null_count == 8
    stored = np.array(run.store.info_table()["test_accuracy"].to_pylist())
    counted = np.array(table["num_correct"].to_pylist()).reshape(4, 2).sum(axis=1) / 200
    np.testing.assert_allclose(stored, counted, atol=1e-6)
    summary = read_summary(run.layout.summary)[0]
    assert summary["GG"]["4"]["accuracy"] == pytest.approx(counted.mean())
    assert summary["GG"]["2"]["accuracy"] == pytest.approx(counted[:2].mean())
    assert stored.mean() > 0.5  # chance is 0.25


def test_a_second_run_trains_nothing_and_touches_no_mask(run, sweep, capsys):
    before = masks(run)
    assert supsup("run", sweep) == 0
    assert masks(run) == before
    assert "nothing to train" in capsys.readouterr().out


def test_growing_trains_only_the_new_tasks(run, sweep, capsys):
    before, old = masks(run), digests(run)
    assert supsup("run", sweep, "benchmark.num_tasks=7", "evaluation.at=[7]") == 0
    assert "trained 3 tasks" in capsys.readouterr().out
    assert before.items() <= masks(run).items()
    assert digests(run)[:4] == old
    assert len(digests(run)) == 7
    assert supsup("verify", run.layout.root) == 0
    assert set(read_summary(run.layout.summary)[0]["GG"]) == {"2", "4", "7"}


def test_order_of_tasks_and_size_of_cohorts_do_not_change_a_bit(run, tmp_path):
    for number, (size, reverse) in enumerate([(1, True), (3, False), (4, True)]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(sweep_text(tmp_path / f"other-{number}"))
        config = load_sweep(path, [f"training.cohort_size={size}"])
        if reverse:  # the last tasks first: a run whose first tasks were lost
            run_sweep(config, None, Recorder())
            other = locate_run(config)
            for file in other.store.files()[: -(-2 // size)]:
                file.unlink()
        run_sweep(config, None, Recorder())
        assert digests(locate_run(config)) == digests(run)


def test_another_cohort_size_later_is_said_and_cuts_only_what_is_missing(run, sweep, capsys):
    run.layout.cohort(2, 3).unlink()
    assert supsup("run", sweep, "training.cohort_size=1") == 0
    assert "this run was made with 2; the missing tasks use cohorts of 1" in capsys.readouterr().out
    assert sorted(masks(run)) == [
        "cohort-00000-00001.parquet",
        "cohort-00002-00002.parquet",
        "cohort-00003-00003.parquet",
    ]


def test_another_engine_later_is_said_and_not_used(run, sweep, capsys):
    run.layout.cohort(2, 3).unlink()
    assert supsup("run", sweep, "executor.engine=compiled") == 0
    assert "this run was made with fused and keeps it" in capsys.readouterr().out
    assert run.store.provenance(run.layout.cohort(2, 3))["engine"] == "fused"


def test_num_tasks_2_and_3_share_task_1(sweep, tmp_path):
    found = []
    for number in (2, 3):
        settings = [
            f"benchmark.num_tasks={number}",
            f"storage.uri={tmp_path / str(number)}",
            "training.cohort_size=auto",
        ]
        config = load_sweep(sweep, [*settings, "evaluation.at=null"])
        run_sweep(config, None, Recorder())
        found.append(digests(locate_run(config)))
    assert found[0] == found[1][:2]


def damage(run) -> dict[str, str]:
    """Flip a byte, truncate, add a foreign file, take one away; return name -> kind."""
    first, second = run.store.files()
    content = bytearray(first.read_bytes())
    content[random.Random(1).randrange(len(content))] ^= 1
    first.write_bytes(bytes(content))
    foreign = run.layout.cohort(8, 9)
    shutil.copyfile(second, foreign)
    foreign.write_bytes(foreign.read_bytes().replace(run.fingerprint.encode(), b"0" * 64))
    second.write_bytes(second.read_bytes()[:1000])
    return {first.name: "damaged", second.name: "damaged", foreign.name: "foreign"}


def test_verify_names_what_is_bad_and_repair_and_run_bring_it_back(run, sweep, capsys):
    before = digests(run)
    bad = damage(run)
    assert supsup("verify", run.layout.root) == 1
    lines = capsys.readouterr().out.splitlines()
    for name, kind in bad.items():
        assert any(line.startswith(kind) and name in line for line in lines), name
    assert "task 3: missing" in lines
    assert supsup("verify", run.layout.root, "--repair") == 1  # the tasks of the files that it moved
    assert "task 3: missing" in capsys.readouterr().out
    assert supsup("run", sweep) == 0
    assert digests(run) == before
    assert supsup("verify", run.layout.root) == 0
    assert {p.name for p in run.layout.quarantine.iterdir()} == set(bad)  # nothing was deleted


def test_run_alone_repairs_too_and_says_so(run, sweep, capsys):
    before = digests(run)
    damage(run)
    assert supsup("run", sweep) == 0
    assert "its tasks will be trained again" in capsys.readouterr().out
    assert digests(run) == before


def test_plan_touches_nothing(sweep, tmp_path, capsys):
    assert supsup("plan", sweep) == 0
    assert "4: 0 done, 4 to train" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_status_counts_from_the_folder_alone(run, tmp_path, capsys):
    run.layout.cohort(2, 3).unlink()
    assert supsup("status", run.name, "--storage", tmp_path / "runs") == 0
    shown = capsys.readouterr().out
    assert run.name in shown
    assert "2/4" in shown
    assert "stopped" in shown
    assert supsup("status", "--storage", tmp_path / "nowhere") == 0
    assert "no runs in" in capsys.readouterr().out


def test_one_unreadable_run_does_not_hide_the_others(run, tmp_path, capsys):
    other = tmp_path / "runs" / "other"
    shutil.copytree(run.layout.root, other)
    (other / "run.json").write_text("{")
    assert supsup("status", "--storage", tmp_path / "runs") == 0
    shown = capsys.readouterr().out
    assert "4/4" in shown
    assert "other" in shown
    assert supsup("status", other) == 2


def test_trouble_with_the_disk_is_one_line_and_exit_code_1(sweep, monkeypatch, capsys):
    def no_space(*arguments):
        raise OSError(28, "No space left on device", "run.json")

    monkeypatch.setattr("orchestrator.runs.record.write_run", no_space)
    assert supsup("run", sweep) == 1
    words = capsys.readouterr().err
    assert "No space left on device (run.json)" in words
    assert "Traceback" not in words


def test_a_failed_task_is_reported_and_the_rest_is_kept(sweep, monkeypatch, capsys):
    """Task 2 cannot be trained: exit code 1, a table says why, and later it is tried again."""
    from core.errors import TrainingError
    from orchestrator.worker.supermasks import Cohorts

    honest = Cohorts.train

    def failing(self, job, checkpointer):
        if 2 in job.tasks:
            raise TrainingError("the loss of task 2 is not finite")
        return honest(self, job, checkpointer)

    monkeypatch.setattr(Cohorts, "train", failing)
    assert supsup("run", sweep) == 1
    shown = capsys.readouterr().out
    assert "the loss of task 2 is not finite" in shown
    run = locate_run(load_sweep(sweep))
    assert run.store.info_table()["task"].to_pylist() == [0, 1, 3]
    assert [row["task"] for row in json.loads(run.layout.failures.read_text())] == [2]
    assert set(read_summary(run.layout.summary)[0]["GG"]) == {"2"}  # k = 4 is not complete
    monkeypatch.setattr(Cohorts, "train", honest)
    assert supsup("run", sweep) == 0
    assert not run.layout.failures.exists()
    assert len(digests(run)) == 4


@pytest.mark.parametrize(
    "more",
    [(), ("mask.rule=top_k", "mask.density=0.3"), ("network={kind: bn_mlp, hidden: [8], outputs: 8}",)],
)
def test_training_that_diverges_fails_and_stores_no_mask(sweep, capsys, more):
    """Scores that are no numbers make an empty mask, whose loss is finite."""
    assert (
        supsup("run", sweep, "training.optimizer={kind: sgd, lr: 1.0e+30}", "evaluation.at=null", *more) == 1
    )
    assert "training diverged: scores of task" in " ".join(capsys.readouterr().out.split())
    assert not list(sweep.parent.glob("runs/*/masks/*"))


def test_only_failed_trains_what_failed_and_leaves_other_gaps_alone(sweep, monkeypatch, capsys):
    """Equal errors of many tasks are one row; a log says where each attempt went wrong."""
    from core.errors import TrainingError
    from orchestrator.worker.supermasks import Cohorts

    honest = Cohorts.train

    def failing(self, job, checkpointer):
        if job.first in (0, 1, 2):
            raise TrainingError(f"the loss of task {job.first} is not finite")
        return honest(self, job, checkpointer)

    monkeypatch.setattr(Cohorts, "train", failing)
    assert supsup("run", sweep, "benchmark.num_tasks=6") == 1
    shown = capsys.readouterr().out
    assert "2 more given up with the same error (tasks 1-2)" in shown
    assert re.search(r"train +│ tasks 0-2 +│ 1 +│ the loss of task N", shown), shown
    run = locate_run(load_sweep(sweep))
    run.store.locate()[5].unlink()
    assert supsup("logs", run.layout.root, "--task", 2) == 0
    assert "TrainingError: the loss of task 2 is not finite" in capsys.readouterr().out
    monkeypatch.setattr(Cohorts, "train", honest)
    assert supsup("run", sweep, "benchmark.num_tasks=6", "--only-failed") == 1
    assert run.store.info_table()["task"].to_pylist() == [0, 1, 2, 3]
    assert "trained 3 tasks" in capsys.readouterr().out
    assert supsup("run", sweep, "benchmark.num_tasks=6", "--only-failed") == 1
    assert "no task failed in the last run" in capsys.readouterr().out
    assert supsup("run", sweep, "benchmark.num_tasks=6") == 0
    assert run.store.info_table()["task"].to_pylist() == list(range(6))


def test_a_worker_whose_network_was_overwritten_stores_nothing_and_is_replaced(sweep, monkeypatch, capsys):
    """What is shared is read-only for a reason; here somebody wrote into it once."""
    from orchestrator.worker.supermasks import Cohorts

    honest, damaged = Cohorts.train, []

    def overwriting(self, job, checkpointer):
        result = honest(self, job, checkpointer)
        if job.first == 2 and not damaged:
            damaged.append(self)
            self._context.problem.base[0][0, 0] += 1
        return result

    monkeypatch.setattr(Cohorts, "train", overwriting)
    assert supsup("run", sweep) == 0
    assert "has changed in memory" in capsys.readouterr().out
    monkeypatch.setattr(Cohorts, "train", honest)
    run = locate_run(load_sweep(sweep))
    plain = load_sweep(sweep, ["storage.uri=" + str(run.layout.root.parent / "plain")])
    run_sweep(plain, None, Recorder())
    assert digests(run) == digests(locate_run(plain))


def test_a_second_controller_is_turned_away_with_host_and_process(run, sweep, capsys):
    code = (
        "import sys, time, pathlib; from orchestrator.runs.lock import locked; "
        "from storage.layout import RunLayout\n"
        "with locked(RunLayout(pathlib.Path(sys.argv[1]))):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run.layout.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert supsup("run", sweep) == 3
        words = " ".join(capsys.readouterr().err.split())
        assert "already running" in words
        assert f"process {holder.pid} on " in words
        assert supsup("verify", run.layout.root, "--repair") == 3
        assert supsup("status", run.layout.root) == 0
        assert "running" in capsys.readouterr().out
        holder.stdin.close()
    assert supsup("run", sweep) == 0


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_only_the_first_batches_are_evaluated_when_asked(sweep, batches):
    assert supsup("run", sweep, f"evaluation.batches={batches}") == 0
    run = locate_run(load_sweep(sweep))
    table = pq.read_table(run.layout.evaluation(TableKey("GG", 4, batches)))
    assert table.num_rows == 4 * min(batches, 2)
    assert set(read_summary(run.layout.summary)[0]) == {f"GG-b{batches}"}


READ_WITHOUT_US = """
import sys, json, hashlib, pathlib
import numpy as np, pyarrow.parquet as pq
from safetensors.numpy import load_file
from safetensors import safe_open
assert not any(name in sys.modules for name in ("core", "storage", "orchestrator"))
out, data = pathlib.Path(sys.argv[1]), np.load(sys.argv[2])
network = load_file(out / "network.safetensors")
facts = safe_open(out / "network.safetensors", "np").metadata()
names = facts["layer_order"].split(",")
for path in sorted(pathlib.Path(sys.argv[3]).glob("cohort-*.parquet")):
    metadata = pq.read_schema(path).metadata
    layers = json.loads(metadata[b"supsup.layers"])
    digest = hashlib.sha256(b"".join(network[l["name"]].astype("<f4").tobytes() for l in layers)).hexdigest()
    assert digest == json.loads(metadata[b"supsup.network"])["digest"]
    for row in pq.read_table(path).to_pylist():
        assert hashlib.sha256(row["bits"]).hexdigest() == row["digest"]
        exported = load_file(out / f"task-{row['task']}.safetensors")
        x = data["images"].reshape(len(data["images"]), -1)[:, exported["input_permutation"]]
        x = (x / float(facts["scale"]) - float(facts["mean"])) / float(facts["std"])
        start, ones, total = 0, 0, 0
        for i, layer in enumerate(layers):
            size = layer["shape"][0] * layer["shape"][1]
            stop = start + (size + 7) // 8
            bits = np.frombuffer(row["bits"], np.uint8)[start:stop]
            mask = np.unpackbits(bits, count=size, bitorder="little").reshape(layer["shape"]).astype(bool)
            assert np.array_equal(mask, exported[layer["name"]])
            start, ones, total = stop, ones + mask.sum(), total + size
            x = x @ (network[layer["name"]] * mask).T
            x = np.maximum(x, 0) if i < len(layers) - 1 else x
        accuracy = float((x.argmax(1) == data["labels"]).mean())
        assert start == len(row["bits"]) and abs(ones / total - row["density"]) < 1e-6
        print(row["task"], accuracy, row["test_accuracy"])
        assert abs(accuracy - row["test_accuracy"]) <= 1e-3
"""


def test_masks_are_read_and_scored_without_any_code_of_ours(run, tmp_path):
    from core.data.datasets import load_dataset

    dataset = load_dataset("synthetic")
    np.savez(tmp_path / "test.npz", images=dataset.test_images, labels=dataset.test_labels)
    assert supsup("export", run.layout.root, "--out", tmp_path / "out") == 0
    arguments = [tmp_path / "out", tmp_path / "test.npz", run.layout.masks]
    done = subprocess.run(
        [sys.executable, "-I", "-c", READ_WITHOUT_US, *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_export_of_some_tasks(run, tmp_path):
    out = tmp_path / "out"
    assert supsup("export", run.layout.root, "--out", out, "--tasks", "0,2-3") == 0
    assert {p.name for p in out.iterdir()} == {
        "network.safetensors",
        *(f"task-{i}.safetensors" for i in (0, 2, 3)),
    }


def test_a_run_that_goes_on_with_other_instructions_says_so_before_it_trains(sweep, monkeypatch, capsys):
    """AVX-512 and AVX2 add in another order, so a few bits differ."""
    assert supsup("run", sweep) == 0
    run = locate_run(load_sweep(sweep))
    assert supsup("verify", run.layout.root) == 0
    assert "not all made in the same way" not in capsys.readouterr().out
    own = instruction_set()
    monkeypatch.setattr("orchestrator.runs.arithmetic.instruction_set", lambda: "sse")
    monkeypatch.setattr("orchestrator.worker.base.instruction_set", lambda: "sse")
    assert supsup("run", sweep) == 0
    assert "instructions" not in capsys.readouterr().out  # nothing to train
    assert supsup("run", sweep, "benchmark.num_tasks=6") == 0
    shown = capsys.readouterr().out
    assert f"started with instructions {own}; this machine has instructions sse; masks" in shown
    assert shown.index("instructions") < shown.index("training 4/6")
    assert supsup("verify", run.layout.root) == 0
    assert "masks were not all made in the same way" in capsys.readouterr().out
