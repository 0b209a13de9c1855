"""A pipe in place of any file of a run folder is named as no file, and never waited for."""

import os
import shutil

import pytest

from tests.conftest import supsup, sweep_text

WORDS = {
    "status": (),
    "verify": (),
    "evaluate": ("executor.retries=0", "--quiet"),
    "logs": (),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a finished run, with the log of a job."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(
        sweep_text(folder / "runs", evaluation="{scenarios: [GG, GNu], at: [4]}")
    )
    assert supsup("run", folder / "tiny.yaml") == 0
    (root,) = folder.glob("runs/*")
    (root / "logs").mkdir()
    (root / "logs" / "supermasks-00000-00001.log").write_text("failed")
    (root / "failures.json").write_text("[]")
    return root


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", WORDS)
def test_a_pipe_in_place_of_a_file(whole, tmp_path, verb, capsys):
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert len(files) > 10
    for name in files:
        root = shutil.copytree(whole, tmp_path / "runs" / whole.name)
        (root / name).unlink()
        os.mkfifo(root / name)
        assert supsup(verb, root, *WORDS[verb]) in (0, 1, 2), name
        assert "a bug in supsup" not in capsys.readouterr().err
        shutil.rmtree(root)
