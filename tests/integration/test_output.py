"""What the commands print: JSON, nothing, tables, completions."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from orchestrator.cli.main import app
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from tests.conftest import supsup, sweep_text


@pytest.fixture
def run(sweep):
    assert supsup("run", sweep, "--quiet") == 0
    return locate_run(load_sweep(sweep))


def test_json_is_all_of_stdout_and_progress_goes_elsewhere(sweep, capfd):
    assert supsup("run", sweep, "--json") == 0
    shown = capfd.readouterr()
    result = json.loads(shown.out)
    assert result["num_trained"] == 4
    assert result["failures"] == []
    assert result["measured"]["GG"]["4"]["accuracy"] > 0.9
    assert "training 4/4 tasks" in shown.err
    assert supsup("evaluate", result["folder"], "--json") == 0
    assert "GNu" in json.loads(capfd.readouterr().out)["measured"]


def test_quiet_says_nothing_of_a_run_that_goes_well_but_its_messages(sweep, capfd):
    assert supsup("run", sweep, "--quiet") == 0
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "training" not in shown.err.replace("training.", "")


def test_the_end_says_what_there_is_and_three_commands_to_try(sweep, capfd):
    assert supsup("run", sweep) == 0
    shown = capfd.readouterr().out
    root = locate_run(load_sweep(sweep)).layout.root
    assert f"run folder  {root}\n" in shown  # whole, for copying
    after = shown.partition("next:\n")[2].splitlines()
    assert [line.split()[0] for line in after[::2]] == ["supsup"] * 3


def test_status_of_one_run_as_a_table_as_json_and_watched_to_its_end(run, capfd):
    storage = ("--storage", run.layout.root.parent)
    for options in ((), ("--watch",)):
        assert supsup("status", run.name, *options, *storage) == 0
        shown = capfd.readouterr().out
        assert "4/4" in shown
        assert "finished" in shown
        assert "finished last: task " in shown
    assert supsup("status", "--json", *storage) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["num_done"], row["num_left"], row["state"]) == (4, 0, "finished")


def test_the_shell_completes_commands_and_runs(run):
    """As bash asks: the words so far, and which of them is being typed."""
    command = [sys.executable.replace("python", "supsup")]
    for words, expected in (("supsup sta", ["status"]), (f"supsup verify {run.name[:6]}", [run.name])):
        env = os.environ | {
            "_SUPSUP_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        done = subprocess.run(
            command, env=env, cwd=run.layout.root.parent.parent, capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == expected


def test_the_version_is_told_without_a_command(capfd):
    assert supsup("--version") == 0
    assert capfd.readouterr().out == f"supsup {version('supsup')}\n"


def test_a_report_says_whether_it_was_drawn_now(run, capfd):
    run.layout.report_record.unlink(missing_ok=True)
    assert supsup("report", run.layout.root) == 0
    assert "drew " in capfd.readouterr().out
    assert supsup("report", run.layout.root) == 0
    assert "nothing changed since they were drawn" in " ".join(capfd.readouterr().out.split())


def test_names_of_runs_and_keys_of_a_sweep_are_completed(run, sweep):
    import typer

    from orchestrator.cli.common import complete_run, complete_setting, complete_sweep_or_run

    context = typer.Context(typer.main.get_command(app))
    context.params = {"storage": str(run.layout.root.parent), "sweep": str(sweep)}
    assert complete_run(context, "ti") == [run.name]
    assert complete_run(context, "other") == []
    keys = complete_setting(context, "training.opt")
    assert "training.optimizer.lr=" in keys
    assert all(key.startswith("training.optimizer.") for key in keys)
    assert complete_sweep_or_run(context, "ti") == [run.name]
    assert complete_sweep_or_run(context, str(sweep)[:-4]) == [str(sweep)]
    assert f"{run.layout.root.parent}/" in complete_sweep_or_run(context, f"{sweep.parent}/")
    context.params = {"sweep": str(run.layout.root)}
    assert complete_setting(context, "training.opt") == keys


def test_one_task_is_one_task_and_a_second_run_has_nothing_new(tmp_path, capfd):
    benchmark = "{kind: permuted, dataset: synthetic, num_tasks: 1}"
    path = tmp_path / "one.yaml"
    path.write_text(sweep_text(tmp_path / "runs", benchmark=benchmark, evaluation="{at: [1, 2]}"))
    assert supsup("run", path, "--plain") == 0
    shown = capfd.readouterr().out
    assert "1 task done, trained 1 task in " in shown
    assert "with the task given; worst: task 0, " in shown
    assert "GG accuracy over the first 1 task: " in shown
    assert "GG not evaluated at k = 2: 1 task is trained" in shown
    assert "training 1/1 task  " in shown
    assert ": 1 task, in this process" in shown
    assert supsup("run", path, "--plain") == 0
    shown = capfd.readouterr().out
    assert "1 task done, nothing new to train; 0:" in shown
    assert "1 task done; nothing to train" in shown
    assert supsup("verify", locate_run(load_sweep(path)).layout.root) == 0
    assert "1 of 1 mask is good" in capfd.readouterr().out
