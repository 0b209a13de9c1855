"""What commands do on a run does not grow faster than its files: how often they list the folder of masks."""

import sys

import pytest

from tests.conftest import supsup, sweep_text

COMMANDS = (["run"], ["status"], ["plan"], ["report"], ["verify", "--quick"], ["verify"], ["evaluate"])
counting: list[str] | None = None


def _note_listing(event, arguments):
    if counting is not None and event == "os.scandir" and str(arguments[0]).rstrip("/").endswith("/masks"):
        counting.append(str(arguments[0]))


@pytest.fixture(scope="module")
def listings(tmp_path_factory):
    """Return by number of mask files, by command, how often ``masks/`` is listed once nothing is left to do."""
    global counting  # noqa: PLW0603  # an audit hook stays for ever, so it is told when to count
    sys.addaudithook(_note_listing)
    folder, found = tmp_path_factory.mktemp("growth"), {}
    for num_tasks in (2, 5):
        path = folder / f"sweep_{num_tasks}.yaml"
        changes = {"evaluation": "{scenarios: [GG, GNu]}", "tracking": "{uri: null}"}
        path.write_text(sweep_text(folder / str(num_tasks), **changes))
        settings = [f"benchmark.num_tasks={num_tasks}", "training.cohort_size=1", "executor.kind=inline"]
        assert supsup("run", path, *settings, "--quiet") == 0
        (run,) = (folder / str(num_tasks)).glob("*/run.json")
        assert len(list((run.parent / "masks").iterdir())) == num_tasks
        for verb, *options in COMMANDS:
            counting = []
            assert supsup(verb, run.parent, *options) == 0
            found[num_tasks, " ".join([verb, *options])] = len(counting)
            counting = None
    return found


@pytest.mark.parametrize("command", [" ".join(words) for words in COMMANDS])
def test_a_command_lists_the_masks_equally_often_however_many_files_there_are(listings, command):
    assert listings[2, command] == listings[5, command]
    assert 1 <= listings[2, command] <= 5
