"""A run from Python: what it answers is what its folder and the command line say."""

import base64
import re

import numpy as np
import pytest
import torch
import yaml

import supsup
import supsup.page
from core.data.datasets import load_dataset
from core.metrics import continual_metrics
from orchestrator.cli.main import app, call
from orchestrator.runs import matrix_page
from tests.conftest import sweep_text

EVALUATION = "{scenarios: [GG, GNu], at: [2, 4], inference: {algorithm: one_shot, objective: G, images: 1}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a finished run of four tasks."""
    folder = tmp_path_factory.mktemp("python")
    values = yaml.safe_load(sweep_text(folder / "runs", evaluation=EVALUATION))
    return supsup.run(values, quiet=True)


def test_the_same_call_resumes_and_the_command_line_agrees(run, capsys):
    again = supsup.run(run.sweep, quiet=True)
    assert again.folder == run.folder
    assert again.tasks["digest"] == run.tasks["digest"]
    assert call(app, ["verify", str(run.folder)]) == 0
    assert supsup.open(str(run.folder)).status.state == "finished"
    assert supsup.open(run.name, run.folder.parent).failures == {}


def test_tables(run):
    assert run.tasks["task"].to_pylist() == [0, 1, 2, 3]
    rows = run.accuracy.to_pylist()
    assert not [
        name for name in run.accuracy.column_names if name.startswith("num_") and name != "num_batches"
    ]
    assert [(row["scenario"], row["k"]) for row in rows] == [("GG", 2), ("GG", 4), ("GNu", 2), ("GNu", 4)]
    assert rows[1]["accuracy"] == pytest.approx(np.mean(run.tasks["test_accuracy"].to_pylist()))


def test_a_mask_a_network_and_given_tasks_agree_with_the_stored_accuracy(run):
    images, labels = run.images(3)
    stored = run.tasks["test_accuracy"][3].as_py()
    given = [one.label for one in run.classify(images, 3)]
    assert np.mean(given == labels) == pytest.approx(stored)
    data = load_dataset("synthetic")
    x = (torch.from_numpy(images.astype(np.float32)) / data.scale - data.mean) / data.std
    network = run.network(3)
    with torch.no_grad():
        assert network(x.unsqueeze(1)).argmax(1).tolist() == given
    first = run.mask(3)["fc1.weight"]
    weight = next(iter(network.parameters()))
    assert first.shape == weight.shape
    assert torch.equal(weight != 0, torch.from_numpy(first))


def test_the_task_is_inferred(run):
    images, _ = run.images(2)
    found = [answer.task for answer in run.infer(images, objective="H")]
    assert found == [answer.task for answer in supsup.open(str(run.folder)).infer(images, objective="H")]
    assert np.mean(np.array(found) == 2) > 0.5


def test_the_accuracy_matrix(run):
    given = run.accuracy_matrix()
    by_task = run.tasks["test_accuracy"].to_pylist()
    assert given.ks == (2, 4)
    assert given.values[1] == pytest.approx(by_task)
    assert given.values[0, :2] == pytest.approx(by_task[:2])
    assert np.isnan(given.values[0, 2:]).all()
    assert given.table.column_names == ["k", "task", "accuracy"]
    assert len(given.table) == 6
    assert given.metrics.backward_transfer == given.metrics.forgetting == 0.0  # measured on stored masks
    assert given.metrics.num_compared == 2
    assert given.metrics.average_accuracy == pytest.approx(np.mean(by_task))
    inferred = run.accuracy_matrix("GNu")
    k_4 = [row["accuracy"] for row in run.accuracy.to_pylist() if (row["scenario"], row["k"]) == ("GNu", 4)]
    assert [np.mean(inferred.values[1])] == pytest.approx(k_4)
    with pytest.raises(supsup.InputError, match="scenario 'GNs' is not evaluated, found GG, GNu"):
        run.accuracy_matrix("GNs")


def test_another_evaluation_appears_in_the_table(run):
    assert "one_shot-H-1" not in run.accuracy["method"].to_pylist()
    run.evaluate("evaluation.inference.objective=H", quiet=True)
    assert "one_shot-H-1" in run.accuracy["method"].to_pylist()


def test_how_it_shows_itself(run):
    assert repr(run).startswith(f"<supsup.Run {run.name}: 4 of 4 tasks, finished, mean accuracy ")
    page = run._repr_html_()
    assert "<th>scenario</th>" in page
    assert "<img" not in page
    assert run.report().exists()
    assert "SweepConfig" not in repr(run.status)


def test_a_notebook_shows_the_curve_on_white_whatever_the_scheme_of_the_browser(run):
    run.report()
    page = run._repr_html_()
    assert 'alt="accuracy by tasks learned"' in page
    assert "background:#fff" in page
    svg = base64.b64decode(re.search('data:image/svg\\+xml;base64,([^"]*)', page)[1]).decode()
    assert "tasks learned, k" in svg
    assert not re.search("currentColor|<style|prefers-color-scheme", svg)


def test_a_run_measured_at_one_k_shows_its_tasks(run, tmp_path):
    one = supsup.run(run.sweep, quiet=True, at=[4], **{"storage.uri": str(tmp_path)})
    one.report()
    assert 'alt="accuracy by task"' in one._repr_html_()


def test_of_many_results_the_last_are_shown_and_counted(run, monkeypatch):
    monkeypatch.setattr(supsup.page, "MAX_ROWS", 2)
    page = run._repr_html_()
    assert f"the last 2 of {len(run.accuracy)} results" in page
    assert page.count("<tr>") == 3


def test_a_notebook_shows_a_matrix_in_percent_with_its_metrics(run, monkeypatch):
    matrix = run.accuracy_matrix()
    page = matrix._repr_html_()
    shown = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert shown == ["" if np.isnan(one) else f"{100 * one:.2f}" for one in matrix.values.ravel()]
    assert "<th>k = 2</th>" in page
    assert f"average accuracy {100 * matrix.metrics.average_accuracy:.2f} %, backward transfer +0.00" in page
    monkeypatch.setattr(matrix_page, "MAX_SHOWN", 3)
    assert matrix._repr_html_() is None


def test_a_matrix_of_one_row_shows_the_metrics_that_it_has():
    values = np.array([[0.5, 0.5]])
    page = matrix_page.matrix_page("GG", (2,), values, continual_metrics(values, (2,)))
    assert page.endswith("</table>average accuracy 50.00 %</div>")


def test_what_is_not_there_is_said(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(supsup.InputError, match="task 9 has no mask; trained: 4 tasks"):
        run.mask(9)
    with pytest.raises(supsup.InputError, match="no run folder"):
        supsup.open("nowhere")
    with pytest.raises(supsup.InputError, match=r"use supsup\.search"):
        supsup.run({**run.sweep, "search": {"space": {"seed": [1, 2]}}})
    with pytest.raises(supsup.InputError, match=r"use supsup\.run"):
        supsup.search(run.sweep)
    assert not [*tmp_path.iterdir()]


def test_a_search(tmp_path):
    values = yaml.safe_load(sweep_text(tmp_path / "runs"))
    found = supsup.search(
        {**values, "search": {"space": {"training.optimizer.lr": [0.01, 0.02]}}}, quiet=True
    )
    assert [row["state"] for row in found.to_pylist()] == ["done"] * 2


def test_a_table_that_is_gone_is_named_with_the_command_that_makes_it_again(run):
    path = run.folder / "evaluations" / "GG-2.parquet"
    moved = path.rename(path.with_suffix(".away"))
    with pytest.raises(
        supsup.InputError, match=r"GG-2.parquet cannot be read: .*; `supsup evaluate .*` makes it again"
    ):
        run.accuracy_matrix()
    moved.rename(path)
