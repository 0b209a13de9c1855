"""What a person sees of a run of 200 tasks in MLflow's pages, clicked through in a real browser.

``make browser`` installs what it needs, ``pytest -m browser`` runs it alone. With SUPSUP_SCREENSHOTS set
to a folder, every page is kept there as PNG.
"""

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from orchestrator.tracking.server import find_links, start_server, stop_server
from storage.mask_info import mask_info
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NUM_TASKS = 200
WAIT_MS = 30_000
LONGEST_LINE = (
    "Math.max(...[...document.querySelectorAll('.js-plotly-plot .scatterlayer path')]"
    ".map(path => (path.getAttribute('d') || '').length))"
)
# A closed network is not asked for anything, and a test may run as root.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: `make browser`")
    with playwright.sync_playwright() as started:
        of_playwright = shutil.which(started.chromium.executable_path)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or of_playwright
        if chromium is None:
            pytest.skip("needs chromium: `make browser`, or `apt-get install chromium`")
        opened = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1700, "height": 1000})
    opened.set_default_timeout(WAIT_MS)
    # The assistant opens once for every newcomer; who has closed it sees the whole page.
    opened.add_init_script(
        "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');"
        "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');"
    )
    yield opened
    opened.close()


def keep(page, name: str) -> None:
    place = os.environ.get("SUPSUP_SCREENSHOTS")
    if place:
        page.screenshot(path=Path(place) / f"{name}.png")


def rows(page) -> list[str]:
    """Return the names in the table of runs, as many as are drawn."""
    page.wait_for_selector("[role=row] a[href*='/runs/']")
    return page.eval_on_selector_all("[role=row] a[href*='/runs/']", "found => found.map(a => a.textContent)")


def columns(page) -> set[str]:
    heads = page.eval_on_selector_all("[role=columnheader]", "found => found.map(h => h.textContent.trim())")
    return set(heads)


def test_the_sweep_with_its_tasks_and_metric_columns(page, links, run):
    page.goto(links.views["Sweep with its tasks"])
    names = rows(page)
    assert names[0] == run.name
    assert names[1:6] == [f"task-{task:04d}" for task in range(5)]
    assert {"GG/accuracy", "GNu/accuracy", "density", "test_accuracy"} <= columns(page)
    keep(page, "sweep")


def test_the_worst_tasks_come_first(page, links, run):
    page.goto(links.views["Tasks, worst first"])
    accuracy = {f"task-{one.task:04d}": one.test_accuracy for one in mask_info(run.store)}
    shown = [accuracy[name] for name in rows(page)]
    assert shown[0] == min(accuracy.values()) < max(accuracy.values())
    assert shown == sorted(shown)
    keep(page, "worst")


def test_no_task_failed(page, links):
    page.goto(links.views["Failed tasks"])
    page.wait_for_selector("text=0 matching runs")
    keep(page, "failed")


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
    page.get_by_text("(5)", exact=True).scroll_into_view_if_needed()  # the five curves over the tasks
    page.wait_for_function(f"() => ({LONGEST_LINE}) > {10 * NUM_TASKS}")  # not a bar of a last value
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
