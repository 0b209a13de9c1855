"""Runs compared: groups, what does not fit, tables that say what the run folders say."""

import csv
import io
import shutil
import subprocess

import pytest

import supsup as library
from orchestrator.compare.read import read_measured
from orchestrator.compare.texts import latex_text
from orchestrator.status import find_runs
from tests.conftest import supsup, sweep_text

GIVEN = "{scenarios: [GG], at: [2, 4]}"
DOCUMENT = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\\end{document}\n"


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Return a folder of runs: supermasks and PSP with two seeds each, one of another benchmark, one unfinished."""
    folder = tmp_path_factory.mktemp("compare")
    sweeps = {
        "masks": {"evaluation": "{scenarios: [GG, GNu], at: [1, 2, 4]}"},
        "psp": {"baseline": "{kind: psp}", "evaluation": GIVEN},
        "rotated": {"benchmark": "{kind: rotated, dataset: synthetic, num_tasks: 4}"},
        "other_k": {"evaluation": "{scenarios: [GG], at: [3]}", "mask": "{rule: threshold}"},
        "part": {"evaluation": GIVEN},
    }
    for name, changes in sweeps.items():
        path = folder / f"{name}.yaml"
        path.write_text(sweep_text(folder / "runs", name=name, **changes))
        for seed in (0, 1) if name in ("masks", "psp") else (0,):
            assert supsup("run", path, f"seed={seed}", "--quiet") == 0
    (mask,) = (folder / "runs").glob("part-*/masks/*-00003.parquet")
    mask.unlink()
    return folder / "runs"


def runs(storage, *names):
    return [str(path) for name in names for path in sorted(storage.glob(f"{name}-*"))]


def test_rows_are_those_of_the_run_folders(storage):
    found = library.compare(runs(storage, "masks", "psp"), scenario="GG", k=4)
    rows = {(row["group"], row["metric"]): row for row in found.table.to_pylist()}
    values = {
        name: [library.open(path).accuracy_matrix("GG") for path in runs(storage, name)]
        for name in ("masks", "psp")
    }
    means = {name: [one.metrics.average_accuracy for one in of] for name, of in values.items()}
    accuracy = rows["psp", "accuracy"]
    assert accuracy["mean"] == pytest.approx(sum(means["psp"]) / 2)
    assert accuracy["difference"] == pytest.approx((sum(means["psp"]) - sum(means["masks"])) / 2)
    assert (accuracy["n"], accuracy["pairs"]) == (2, 2)
    assert rows["supermasks", "backward_transfer"]["mean"] == 0.0
    assert "supermasks" in found._repr_html_()
    assert repr(found).startswith("<Comparison of supermasks")
    assert len(repr(found)) < 100


def test_what_does_not_fit_is_named_with_the_reason(storage, capsys):
    names = runs(storage, "masks", "psp", "rotated", "other_k", "part")
    assert supsup("compare", *names, "--csv") == 0
    shown = capsys.readouterr()
    for words in (
        "left out: rotated-", "another benchmark: ", "benchmark.kind is rotated, not permuted", "measured at k = 3, expected 2, 4",
        "unfinished, 2 of 4 tasks are done", "k = 1: not measured in every run",
    ):  # fmt: skip
        assert words in shown.err
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert {row["group"] for row in rows} == {"supermasks", "psp"}
    assert all(row["runs"].count(":") == 2 for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "XX"], "--scenario: found 'XX', expected one of GG, GNu"),
        (["--k", "0"], "--k: found '0'"),
        (["--k", "7"], "measured at k = 1, 2, 4, expected 7"),
        (["--by", "nothing"], "--by: found 'nothing'"),
        (["--by", "kind"], "write one in full"),
        (["--latex", "--md"], "expected at most one"),
        (["--by", "lr", "--over", "steps"], "are both supermasks with training.steps 60, and differ in seed"),
        (["nowhere"], "no run folder"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(storage, tmp_path, capsys, words, message):
    out = tmp_path / "out"
    assert supsup("compare", *runs(storage, "masks"), *words, "--out", out) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_files_name_what_they_were_made_from(storage, tmp_path):
    names = runs(storage, "masks", "psp")
    assert supsup("compare", *names, "--out", tmp_path / "out") == 0
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert files.keys() == {"compare.tex", "compare.csv", "compare.md", "accuracy.pdf", "accuracy.svg"}
    for name in ("compare.tex", "compare.csv", "compare.md", "accuracy.svg"):
        assert storage.joinpath(names[0]).name in files[name].read_text()
    assert files["accuracy.pdf"].read_bytes().startswith(b"%PDF")


def test_special_characters_of_latex():
    assert latex_text("a_b 5% {x} \\") == r"a\_b 5\% \{x\} \textbackslash{}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_the_table_compiles(storage, tmp_path):
    table = library.compare(runs(storage, "masks", "psp")).latex()
    (tmp_path / "table.tex").write_text(DOCUMENT % table)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").read_bytes().startswith(b"%PDF")


def test_runs_in_an_object_store(tmp_path, s3_storage, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text(s3_storage))
    for seed in (0, 1):
        assert supsup("run", path, f"seed={seed}", "--quiet") == 0
    roots = find_runs(s3_storage)
    assert supsup("compare", *roots, "--md") == 0
    assert "| GG accuracy, k = 4 | supermasks |" in capsys.readouterr().out
    assert supsup("compare", *(root.name for root in roots), "--storage", s3_storage, "--csv") == 0
    assert supsup("compare", *roots, "--out", "s3://bucket/paper") == 2
    assert "--out: found s3:/bucket/paper, expected a folder of this machine" in capsys.readouterr().err


def test_a_point_of_a_search_that_has_not_begun_is_named(tmp_path):
    found = read_measured(tmp_path)
    assert found == "not begun"
