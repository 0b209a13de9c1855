"""A stored search: the commands for runs take its folder, wherever it has moved."""

import json
import re
import shutil

import pytest

from orchestrator.search.stored import read_search
from orchestrator.status import resolve_search
from tests.conftest import supsup, sweep_text

GRID = ["search.space.training.steps=[20,5]", "search.space.seed=[2,1]"]


@pytest.fixture
def searched(tmp_path, monkeypatch, capsys):
    """Run a search of four points in a folder with a space; return the folder of its results."""
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "tiny.yaml").write_text(sweep_text("my runs"))
    assert supsup("run", "tiny.yaml", *GRID) == 0
    capsys.readouterr()
    return folder / "my runs" / "tiny-search"


def content(folder):
    return json.loads((folder / "search.json").read_text())


def test_the_index_names_the_setting_of_each_folder_by_relative_paths(searched):
    points = content(searched)["points"]
    assert [point["settings"] for point in points] == [
        {"training.steps": steps, "seed": seed} for steps in (20, 5) for seed in (2, 1)
    ]
    assert all((searched.parent / point["folder"] / "run.json").is_file() for point in points)
    assert str(searched.parent) not in (searched / "search.json").read_text()
    rows = (searched / "points.csv").read_text().splitlines()
    assert rows[0].startswith("folder,state,training.steps,seed,GG/accuracy")
    assert rows[1].startswith(f"{points[0]['folder']},done,20,2,")


def test_status_shows_a_row_per_point_with_its_settings(searched, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert supsup("status", "tiny-search", "--storage", "my runs") == 0
    shown = capsys.readouterr().out
    folders = [point["folder"] for point in content(searched)["points"]]
    for folder, (steps, seed) in zip(folders, [(20, 2), (20, 1), (5, 2), (5, 1)], strict=True):
        assert re.search(rf"^{steps} +{seed} +4/4 +\d+\.\d\d % +finished +{folder}$", shown, re.MULTILINE)
    assert supsup("status", searched, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["settings"] for row in rows] == [point["settings"] for point in content(searched)["points"]]
    assert {row["num_done"] for row in rows} == {4}


def test_status_of_a_storage_names_its_searches(searched, capsys):
    assert supsup("status", "--storage", "my runs") == 0
    assert "supsup status 'my runs/tiny-search'" in capsys.readouterr().out


def test_a_moved_storage_still_works(searched, tmp_path, capsys):
    moved = tmp_path / "elsewhere"
    shutil.move(searched.parent, moved)
    for command in ("status", "verify", "report", "plan", "run"):
        assert supsup(command, moved / "tiny-search") == 0, command
    assert "0 to run" in capsys.readouterr().out
    assert not searched.parent.exists()


def test_a_search_of_an_earlier_version_is_readable(searched, capsys):
    old = content(searched)
    del old["sweep"]
    for point in old["points"]:
        point["folder"] = f"/somewhere/else/{point['folder']}"
    (searched / "search.json").write_text(json.dumps(old, sort_keys=True))
    for command in ("status", "verify", "report"):
        assert supsup(command, searched) == 0, command
    capsys.readouterr()
    assert supsup("run", searched) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_verify_checks_every_point(searched, capsys):
    assert supsup("verify", searched) == 0
    assert capsys.readouterr().out.count("4 of 4 masks are good") == 4
    first = searched.parent / content(searched)["points"][0]["folder"]
    next((first / "masks").iterdir()).write_bytes(b"no mask")
    assert supsup("verify", searched) == 1
    shown = capsys.readouterr().out
    assert f"{first.name} (steps 20, seed 2)" in shown
    assert shown.count("2 of 4 masks are good") == 1
    assert supsup("verify", searched, "--repair") == 1
    assert supsup("run", searched) == 0
    assert supsup("verify", searched, "--repair") == 0


def test_report_draws_the_figures_and_the_page_again(searched, capsys):
    for path in searched.iterdir():
        if path.name != "search.json":
            path.unlink()
    assert supsup("report", searched) == 0
    page = (searched / "report.html").read_text()
    for point in content(searched)["points"]:
        assert f'href="../{point["folder"]}/report/report.html"' in page or point["folder"] in page
    assert (searched / "search.png").stat().st_size > 5000
    assert "report.html" in capsys.readouterr().out


def test_run_resumes_a_search_from_its_folder(searched, capsys):
    gone = searched.parent / content(searched)["points"][2]["folder"]
    shutil.rmtree(gone)
    assert supsup("plan", searched) == 0
    assert capsys.readouterr().out.count(" new") == 1
    assert supsup("run", searched) == 0
    assert "3 of 4 points done and kept, 1 to run" in capsys.readouterr().out
    assert (gone / "run.json").is_file()
    assert supsup("run", searched, "search.space.seed=[2,1,7]") == 0
    assert len(content(searched)["points"]) == 6
    assert supsup("run", searched, "training.batch_size=8") == 2


def test_points_that_did_not_end_are_listed_with_their_settings(searched, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert (
        supsup("run", searched, "search.space.training.optimizer.lr=[0.01,1.0e+300]", "executor.retries=0")
        == 1
    )
    shutil.rmtree(searched.parent / content(searched)["points"][0]["folder"])
    capsys.readouterr()
    assert supsup("status", searched) == 0
    shown = capsys.readouterr().out
    assert re.search(r"0/4 +- +not begun", shown)
    assert "failed" in shown
    assert re.search(r"1e\+300 +0/4 +- +failed", shown)
    assert supsup("verify", searched) == 1
    assert "not begun" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["evaluate"], ["infer", "x.png"], ["capacity"], ["export", "--out", "x"]],
)
def test_a_command_for_one_run_names_the_points_to_choose_from(searched, capsys, words):
    command, *rest = words
    assert supsup(command, searched, *rest) == 2
    said = capsys.readouterr().err
    assert "is a search" in said
    first = content(searched)["points"][0]["folder"]
    assert first in said
    assert "steps 20, seed 2" in said


def test_logs_of_a_search_are_those_of_its_points(searched, capsys):
    assert supsup("logs", searched) == 0
    assert capsys.readouterr().out.count("no task ever failed") == 4


def test_a_damaged_index_is_told(searched, capsys):
    (searched / "search.json").write_text("{")
    assert supsup("status", searched) == 2
    assert "search.json" in capsys.readouterr().err


def test_the_order_of_the_space_is_kept(searched):
    stored = read_search(resolve_search(str(searched), "runs"))
    assert [dimension.key for dimension in stored.search.dimensions] == ["training.steps", "seed"]
    assert [point.values["training.steps"] for point in stored.points] == [20, 20, 5, 5]


def test_the_plan_of_a_search_estimates_what_is_left(searched, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert supsup("plan", searched) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert supsup("plan", searched, "search.space.seed=[2,1,7,8]") == 0
    shown = capsys.readouterr().out
    assert re.search(r"time to train: .* s to .* s on 1 worker", shown)
    assert re.search(r"measured on 16 tasks of tiny-\w+ and 3 more", shown)
    assert re.search(r"masks .* \(16 tasks, ", shown)


def in_points(**changes):
    return lambda content: [point.update(changes) for point in content["points"]]


WRONG = {
    "settings": in_points(settings=[1]),
    "other keys": in_points(settings={"evil.key": 1}),
    "tasks": in_points(settings={"training.steps": 20, "seed": {"a": 1}}),
    "above": in_points(folder=".."),
    "no folder": in_points(folder=""),
    "a long folder": in_points(folder="a" * 300),
    "state": in_points(state="evil"),
    "stopped": in_points(state="stopped", metrics={}),
    "metrics": in_points(state="failed", metrics="x", error=5),
    "numbers for points": lambda content: content.update(points=[1, 2]),
    "no points": lambda content: content.update(points=[]),
    "runs": lambda content: content.update(runs=5),
    "sweep": lambda content: content.update(sweep=5),
    "a sweep of one run": lambda content: content["sweep"].pop("search"),
    "space": lambda content: content.update(sweep=None, space=5),
}


def test_whatever_is_wrong_with_the_index_is_bad_input(searched, capsys):
    good, run = content(searched), searched.parent / content(searched)["points"][0]["folder"]
    for case, change in WRONG.items():
        wrong = json.loads(json.dumps(good))
        change(wrong)
        (searched / "search.json").write_text(json.dumps(wrong))
        for command in ("status", "verify", "plan", "report", "run"):
            assert supsup(command, searched) == 2, (case, command)
            shown = capsys.readouterr().err
            assert "search.json" in shown, (case, command)
            assert "bug in supsup" not in shown
        assert supsup("status", run) == 0, case
        assert supsup("status", "--storage", searched.parent) == 0, case
        capsys.readouterr()
    assert supsup("run", "tiny.yaml", *GRID) == 0
    assert content(searched) == good
