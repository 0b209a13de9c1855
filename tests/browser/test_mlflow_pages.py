"""What a newcomer sees of 200 tasks and of a search in MLflow's pages, clicked through in a real browser.

Every page is opened at 1440 x 900 in a fresh profile, where MLflow's assistant opens by itself and takes
the right quarter; nobody closes it. ``make browser`` installs what this needs, ``pytest -m browser`` runs it
alone, against the MLflow that is installed. With SUPSUP_SCREENSHOTS set to a folder, every page is kept
there as PNG.
"""

import os
from pathlib import Path

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.search.search import run_search
from orchestrator.search.summary import draw_search, track_search
from orchestrator.sweep import run_sweep
from orchestrator.tracking.client import mlflow_version
from orchestrator.tracking.server import find_links, start_server, stop_server
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NUM_TASKS = 200
NUM_POINTS = 6
WAIT_MS = 30_000
# Of the grid, [left edge, name] of each column that is not cut off by the edge of the table.
VISIBLE_COLUMNS = """() => {
  const table = document.querySelector('.ag-root').getBoundingClientRect();
  return [...document.querySelectorAll('.ag-header-cell')]
    .map(head => [head.getBoundingClientRect(), head.textContent.trim()])
    .filter(([box]) => box.left >= table.left && box.right <= table.right + 1)
    .map(([box, name]) => [box.left, name]);
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def run(folder):
    """Train 200 tasks, a run in MLflow for each, with figures."""
    path, uri = folder / "tiny.yaml", f"sqlite:///{folder}/mlflow.db"
    path.write_text(
        sweep_text(
            folder / "runs",
            tracking=f"{{uri: '{uri}'}}",
            benchmark=f"{{kind: permuted, dataset: synthetic, num_tasks: {NUM_TASKS}}}",
            evaluation="{scenarios: [GG, GNu], at: [10, 50, 100, 200], batches: 1}",
        )
    )
    config = load_sweep(path, ["training.cohort_size=8", "training.steps=8"])
    assert run_sweep(config, None, Recorder()).failures == ()
    return locate_run(config)


@pytest.fixture(scope="module")
def links(run):
    server, address = start_server(run.config.tracking.uri, None)
    yield find_links(address, run.config.name, run.fingerprint)
    stop_server(server)


@pytest.fixture(scope="module")
def search_links(folder, run):
    """Run a point by itself, then a search that has it."""
    path = folder / "found.yaml"
    path.write_text(
        sweep_text(
            folder / "runs",
            name="found",
            tracking=f"{{uri: '{run.config.tracking.uri}', figures: false}}",
            evaluation="{scenarios: [GG, GNu], at: [4], batches: 1}",
        )
    )
    run_sweep(load_sweep(path, ["network.outputs=20"]), None, Recorder())
    space = ["search.space.training.optimizer.lr=[0.01,0.02,0.03]", "search.space.network.outputs=[10,20]"]
    config, display = load_sweep(path, space), Recorder()
    results = run_search(config, None, display)
    track_search(config, results, draw_search(config, results), display)
    assert "MLflow" not in display.messages
    server, address = start_server(run.config.tracking.uri, None)
    yield find_links(address, "found")
    stop_server(server)


@pytest.fixture
def page(browser):
    """Return a page of a profile that is thrown away after the test."""
    profile = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = profile.new_page()
    opened.set_default_timeout(WAIT_MS)
    yield opened
    profile.close()


def keep(page, name: str) -> None:
    place = os.environ.get("SUPSUP_SCREENSHOTS")
    if place:
        page.screenshot(path=Path(place) / f"{name}-{mlflow_version()}.png")


def rows(page) -> list[str]:
    """Return the names in the table of runs, as many as are drawn."""
    page.wait_for_selector("[role=row] a[href*='/runs/']")
    return page.eval_on_selector_all("[role=row] a[href*='/runs/']", "found => found.map(a => a.textContent)")


def columns(page) -> list[str]:
    """Return the names of the columns that lie wholly between MLflow's menu and its assistant, from the left."""
    page.get_by_placeholder("Ask a question").wait_for()  # it has opened by itself
    page.wait_for_timeout(1000)  # the view's order and widths come after the rows
    heads = page.evaluate(VISIBLE_COLUMNS)
    return [name for _, name in sorted(heads) if name not in ("", "Run Name", "Created")]


def cells(page, column: str) -> list[str]:
    """Return what stands in a column, as far as rows are drawn."""
    found = page.eval_on_selector_all(
        f"[role=gridcell][col-id='{column}']", "found => found.map(cell => cell.textContent.trim())"
    )
    assert found, column
    return found


def test_the_sweep_with_its_tasks_and_metric_columns(page, links, run):
    page.goto(links.views["Sweep with its tasks"])
    names = rows(page)
    assert names[0] == run.name
    assert names[1:6] == [f"task-{task:04d}" for task in range(5)]
    shown = columns(page)
    keep(page, "sweep")
    assert shown == ["test_accuracy", "train_loss", "density", "mask_bytes", "train_seconds"]
    for name in shown:  # one name for the sweep and its tasks, so no column has a gap
        assert "-" not in cells(page, f"metrics.`{name}`")
    assert all(len(value) <= len("0.1234") for value in cells(page, "metrics.`test_accuracy`"))


def test_the_worst_tasks_come_first(page, links, run):
    page.goto(links.views["Tasks, worst first"])
    accuracy = {f"task-{one.task:04d}": one.test_accuracy for one in run.store.facts().infos()}
    shown = [accuracy[name] for name in rows(page)]
    assert shown[0] == min(accuracy.values()) < max(accuracy.values())
    assert shown == sorted(shown)
    assert columns(page)[0] == "test_accuracy"
    keep(page, "worst")


def test_nothing_is_said_of_failed_tasks_where_there_are_none(links):
    assert list(links.views) == ["Sweep with its tasks", "Tasks, worst first"]


def test_a_search_and_all_its_points_best_first(page, search_links):
    """One of the points was a run of its own before the search."""
    page.goto(search_links.views["Search found-search, best first"])
    names = rows(page)
    assert names[0] == "found-search"
    assert len(names) == 1 + NUM_POINTS
    shown = columns(page)
    keep(page, "search")
    assert shown[:4] == ["GG/accuracy", "training.optimizer.lr", "network.outputs", "GNu/accuracy"]
    ranked = [float(value) for value in cells(page, "metrics.`GG/accuracy`")]
    assert ranked[0] == ranked[1]  # the search has the best point's
    assert ranked == sorted(ranked, reverse=True)
    assert "-" not in cells(page, "metrics.`GNu/accuracy`")
    assert sorted(cells(page, "params.`network.outputs`")[1:]) == ["10", "10", "10", "20", "20", "20"]


def test_from_the_servers_root_our_views_are_two_clicks_away(page, links, run):
    """MLflow's own link of an experiment leads to a page of another kind; its description has ours."""
    root = links.runs.split("#")[0]
    page.goto(root)
    page.get_by_role("link", name=run.config.name, exact=True).wait_for()
    page.wait_for_timeout(1000)
    keep(page, "root")
    page.goto(f"{root}#/experiments")
    page.get_by_role("link", name=run.config.name, exact=True).wait_for()
    keep(page, "experiments")
    page.goto(links.runs)
    link = page.get_by_role("link", name="Tasks, worst first", exact=True)
    assert links.views["Tasks, worst first"].endswith(str(link.get_attribute("href")).rpartition("#")[2])
    page.goto(links.views["Tasks, worst first"])
    assert rows(page)[0].startswith("task-")
    assert columns(page)[0] == "test_accuracy"


def test_our_views_are_in_mlflows_menu(page, links):
    page.goto(links.views["Tasks, worst first"])
    page.get_by_role("button", name="Tasks, worst first").click()
    for name in links.views:
        assert page.get_by_text(name, exact=True).count()


def test_the_sweeps_note_and_its_curves(page, links, run):
    page.goto(links.run)
    page.wait_for_selector(f"text=The run finished: {NUM_TASKS} of {NUM_TASKS} tasks trained")
    keep(page, "run")
    page.get_by_role("tab", name="Model metrics").click()
    page.wait_for_selector(".js-plotly-plot .scatterlayer .trace")
    assert page.get_by_text("GNu/task_inference_accuracy").count()
    keep(page, "curves")
    # The curves over the tasks are drawn, with a legend, once they are on the screen; bars of a last value have none.
    group = page.get_by_role("button").filter(has_text="task(5)").first
    group.evaluate("one => one.scrollIntoView({block: 'start'})")
    page.get_by_text(f"{run.name} (task/test_accuracy)").first.wait_for()
    keep(page, "tasks")


def test_the_figures_are_among_the_artifacts(page, links):
    page.goto(links.run)
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report", exact=True).click()
    page.get_by_text("confusion.png", exact=True).click()
    page.wait_for_selector("img[src^='blob:'], img[src*='get-artifact']")
    page.wait_for_timeout(500)  # the tree unfolds
    keep(page, "figure")
    page.get_by_text("tasks.csv", exact=True).click()
    page.wait_for_selector("text=cohort-00000-00007.parquet")
    keep(page, "table")
    page.get_by_text("report.html", exact=True).click()
    page.frame_locator("iframe").get_by_text("How clearly the right task wins").wait_for()
    keep(page, "page")
