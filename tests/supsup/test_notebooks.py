"""The notebooks in docs/notebooks run from top to bottom and give what they show; a stop in a cell keeps the work.

Kernels listen on loopback and have folders of their own for what Jupyter and IPython write.
"""

import json
import math
import queue
import re
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))
SHORT = ("own-data-and-network",)
MAX_OUTPUT_BYTES = 60_000
HERE = re.compile(r"(?<![\w.:])/(home|root|tmp|usr|opt|mnt|var|Users)/")
LIMIT_S = 250
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?!\w)")
LONG = {"num_tasks": 4, "steps": 1500, "at": [4], "cohort_size": 1, "tracking.uri": None}
ON_RAY = LONG | {"executor.kind": "ray", "executor.workers": 2, "steps": 6000}
SHORT_RUN = {"num_tasks": 1, "steps": 20, "at": [1]}  # in MLflow


def notebook_of(path: Path):
    marks = [pytest.mark.slow, *([] if path.stem in SHORT else [pytest.mark.long])]
    return pytest.param(path, id=path.stem, marks=marks)


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def told(cells) -> list[str]:
    """Return what each cell printed and what it returned, as text; progress, with its rates, is a display."""
    texts = [
        [one["text"] if one["output_type"] == "stream" else one["data"]["text/plain"] for one in cell["outputs"]
         if one["output_type"] in ("stream", "execute_result")]
        for cell in cells
    ]  # fmt: skip
    return ["".join(part for text in of_cell for part in text) for of_cell in texts]


def assert_alike(found: list[str], stored: list[str]) -> None:
    """Compare texts; numbers, by which processors differ in a few bits of masks, may differ a little."""
    for one, other in zip(found, stored, strict=True):
        assert NUMBER.split(one) == NUMBER.split(other)
        pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
        assert all(math.isclose(float(a), float(b), rel_tol=0.05, abs_tol=0.05) for a, b in pairs), (
            one,
            other,
        )


def test_there_are_notebooks_and_the_documents_link_to_them():
    linked = "".join(page.read_text() for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
    assert len(NOTEBOOKS) == 3
    assert all(path.name in linked for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_has_been_run_without_an_error_is_small_and_names_no_folder(path):
    cells = code_cells(path)
    outputs = [one for cell in cells for one in cell["outputs"]]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert outputs
    assert all(one["output_type"] != "error" and one.get("name") != "stderr" for one in outputs)
    assert len(json.dumps(outputs)) <= MAX_OUTPUT_BYTES
    assert not HERE.search(json.dumps(outputs))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path):
    cells = json.loads(path.read_text())["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert targets
    assert all((path.parent / target).exists() for target in targets)


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Return nbclient, or skip; what kernels write goes to tmp_path, and they import the code that is tested."""
    found = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel: `make install`")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("SUPSUP_ALLOW_CODE", raising=False)
    return found


def cell(settings: dict) -> str:
    values = {"name": "notebook", "executor.kind": "inline", "tracking.figures": False, **settings}
    return f"import supsup\nrun = supsup.run('digits_10', **{values})\nlen(run.tasks)"


def addresses(manager) -> set[str]:
    """Return where a kernel listens."""
    found = psutil.Process(manager.provisioner.pid).net_connections("tcp")
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", [notebook_of(path) for path in NOTEBOOKS])
def test_a_notebook_runs_and_gives_what_it_shows(path, jupyter, tmp_path):
    import nbformat

    notebook, heard = nbformat.read(path, as_version=4), set()
    client = jupyter.NotebookClient(
        notebook,
        timeout=LIMIT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
        on_cell_executed=lambda **_: heard.update(addresses(client.km)),
    )
    client.execute()
    assert_alike(told(one for one in notebook.cells if one.cell_type == "code"), told(code_cells(path)))
    assert heard == {"127.0.0.1"}


@pytest.fixture
def kernel(jupyter, tmp_path):
    """Return the manager and the client of a kernel in tmp_path, which ends with the test."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def after_error(client, code: str) -> list[dict]:
    """Return the messages of a cell; a kernel refuses those that reach it while it clears up after an error."""
    while True:
        request = client.execute(code)
        while (reply := client.get_shell_msg(timeout=LIMIT_S))["parent_header"].get("msg_id") != request:
            pass
        if reply["content"]["status"] != "aborted":
            return shown(client, request)


def shown(client, request: str, until: str = "") -> list[dict]:
    """Return the messages of a request, to its end or to the first one that a pattern finds."""
    found, until_s = [], time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") == request:
            found.append(message)
            if message["content"].get("execution_state") == "idle" or (
                until and re.search(until, str(message["content"]))
            ):
                return found
    pytest.fail(f"{until or 'the end of the cell'} has not come: {found[-1:]}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings", [LONG, pytest.param(ON_RAY, marks=[pytest.mark.ray, pytest.mark.long])], ids=["inline", "ray"]
)
def test_a_stopped_cell_says_how_to_go_on_and_the_next_run_of_it_does(kernel, tmp_path, settings):
    manager, client = kernel
    request = client.execute(cell(settings))
    shown(client, request, until=r"training ([1-3]/4|0/4 tasks, step)")  # lines come every few seconds
    manager.interrupt_kernel()
    error = next(one["content"] for one in shown(client, request) if one["msg_type"] == "error")
    assert error["ename"] == "StoppedError"
    assert error["traceback"] == [error["evalue"]]
    assert re.match(
        r"stopped: \d of 4 tasks are finished and kept in .*; run it again to resume$", error["evalue"]
    )
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/notebook-*/masks/*.parquet")}
    assert len(before) < 4
    messages = after_error(client, cell(settings))
    result = next(one["content"] for one in messages if one["msg_type"] == "execute_result")
    assert result["data"]["text/plain"] == "4"
    assert all(path.stat().st_mtime_ns == stored for path, stored in before.items())
    assert addresses(manager) == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cell_shows_one_output_that_changes_and_no_warnings(kernel):
    _, client = kernel
    messages = shown(client, client.execute(cell(SHORT_RUN)))
    kinds = [one["msg_type"] for one in messages]
    assert kinds.count("display_data") == 1
    assert "stream" not in kinds
    updates = [one for one in messages if one["msg_type"] == "update_display_data"]
    first, *phases = updates[-1]["content"]["data"]["text/plain"].splitlines()
    assert re.fullmatch(r"notebook-\w{8}: 1 task, in this process", first)
    assert [line.split("  ")[0] for line in phases] == [
        "training 1/1 task",
        "inferring tasks (one_shot-G-1) 1/1 task",
    ]
