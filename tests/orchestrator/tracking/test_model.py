"""A run as an MLflow model: the same answers, over HTTP too; versions, aliases, nothing unpickled."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from core.errors import ConfigError, InferenceError, RunFolderError
from core.rooms import ROOMS
from orchestrator.config.load import load_sweep
from orchestrator.predict import load_predictor
from orchestrator.runs.run import locate_run
from orchestrator.sweep import run_sweep
from orchestrator.tracking.model import CODE, REQUIREMENTS, export_model, serve_command
from orchestrator.tracking.server import _free_port, stop_server
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations

# What is imported under another name than it is installed by.
INSTALLED = {"PIL": "pillow", "yaml": "pyyaml"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


def sweep_of(folder: Path) -> Path:
    path = folder / "tiny.yaml"
    tracking = f"{{uri: 'sqlite:///{folder}/mlflow.db', figures: false}}"
    path.write_text(sweep_text(folder / "runs", tracking=tracking))
    return path


@pytest.fixture(scope="module")
def exported(folder):
    """Train four tasks, export, train a fifth, export: two versions. The process itself uses another store."""
    import mlflow

    models = []
    other = f"sqlite:///{folder}/other.db"
    mlflow.set_tracking_uri(other)
    mlflow.set_registry_uri(other)
    for num_tasks in (4, 5):
        config = load_sweep(sweep_of(folder), [f"benchmark.num_tasks={num_tasks}"])
        run_sweep(config, None, Recorder())
        root = locate_run(config).layout.root
        models.append(export_model(root, None, "supermasks", "champion"))
    yield models
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def test_the_stores_of_the_process_stay_as_they_were(exported, folder):
    import mlflow

    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == f"sqlite:///{folder}/other.db"


def is_stored(path: Path) -> bool:
    """Return whether a file was stored with a model, not left there by a process that loaded it."""
    return path.is_file() and "__pycache__" not in path.parts


def images(num: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, size=(num, 6, 6))


def test_a_grown_run_is_the_next_version_under_the_same_alias(exported):
    assert [(model.version, model.num_tasks) for model in exported] == [("1", 4), ("2", 5)]
    assert {model.uri for model in exported} == {"models:/supermasks@champion"}


def test_the_sweeps_run_has_ended_as_before_and_has_the_models(exported, folder):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=exported[0].store)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (run,) = client.search_runs([experiment], "tags.`supsup.kind` = 'sweep'")
    sessions = json.loads((locate_run(load_sweep(sweep_of(folder))).layout.sessions).read_text())
    assert run.info.status == "FINISHED"
    assert run.info.end_time == int(1000 * sessions[-1]["ended_s"])
    assert len(run.outputs.model_outputs) == 2


def test_nothing_in_it_is_a_pickle_and_it_brings_its_code(exported, folder):
    files = [
        path for path in (folder / "mlflow-artifacts").rglob("models/*/artifacts/**/*") if is_stored(path)
    ]
    assert {path.suffix for path in files} <= {
        "",
        ".json",
        ".yaml",
        ".txt",
        ".parquet",
        ".py",
        ".md",
        ".html",
    }
    assert any(path.name == "served.py" for path in files)
    assert "loader_module: orchestrator.tracking.served" in next(
        path.read_text() for path in files if path.name == "MLmodel"
    )


def test_a_model_of_before_the_move_still_answers(exported, folder, tmp_path):
    """Its MLmodel names ``orchestrator.served_model``; loaded by a process that has imported ours."""
    (old,) = [path.parent for path in (folder / "mlflow-artifacts").rglob("MLmodel") if _tasks_of(path) == 4]
    old = Path(shutil.copytree(old, tmp_path / "old"))
    words = (old / "MLmodel").read_text()
    assert "loader_module: orchestrator.tracking.served" in words
    (old / "MLmodel").write_text(words.replace("orchestrator.tracking.served", "orchestrator.served_model"))
    code = (
        "import sys, json, orchestrator, mlflow, numpy as np; "
        "model = mlflow.pyfunc.load_model(sys.argv[1]); "
        "images = np.array(json.load(sys.stdin), dtype=np.float32); "
        "print(json.dumps([model.predict(images), sys.modules['orchestrator.served_model'].__file__]))"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, str(old)]
    given = json.dumps(images(20).tolist())
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers, module = json.loads(done.stdout.splitlines()[-1])
    assert Path(module) == CODE / "orchestrator" / "served_model.py"
    root = locate_run(load_sweep(sweep_of(folder))).layout.root
    expected = load_predictor(root, k=4).infer(images(20))
    assert [(row["task"], row["class"]) for row in answers] == [(a.task, a.label) for a in expected]
    assert [row["confidence"] for row in answers] == pytest.approx([a.confidence for a in expected], abs=1e-6)


def _tasks_of(path: Path) -> int:
    found = re.search(r"supsup.num_tasks: (\d+)", path.read_text())
    assert found is not None
    return int(found[1])


def test_the_copied_code_is_whole(exported, folder):
    """Sub-packages travel with a model, and FORMAT.md with them."""
    code = next((folder / "mlflow-artifacts").rglob("models/*/artifacts/code"))
    for room in ROOMS:
        ours = {path.relative_to(CODE) for path in (CODE / room).rglob("*") if path.is_file()}
        ours = {path for path in ours if not {"__pycache__", "sweeps", "py.typed"} & set(path.parts)}
        assert {path.relative_to(code) for path in (code / room).rglob("*") if is_stored(path)} == ours


def test_what_it_needs_is_what_it_says(tmp_path):
    """Load the module alone and look at what came in with it."""
    code = (
        "import sys, json; before = set(sys.modules); import orchestrator.tracking.served; "
        "from importlib.metadata import packages_distributions as known; "
        "print(json.dumps(sorted({n.split('.')[0] for n in set(sys.modules) - before} & set(known()))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    direct = {
        "numpy",
        "torch",
        "numba",
        "pyarrow",
        "omegaconf",
        "pydantic",
        "psutil",
        "PIL",
        "yaml",
        "rich",
        "filelock",
    }
    found = set(json.loads(done.stdout))
    assert found & {"ray", "mlflow", "matplotlib", "typer", "sklearn", "moto"} == set()
    assert {INSTALLED.get(name, name) for name in found & direct} <= set(REQUIREMENTS)


def test_a_task_given_as_a_parameter_is_not_inferred(exported, folder):
    import mlflow

    path = sorted(
        path.parent for path in (folder / "mlflow-artifacts").rglob("MLmodel") if _tasks_of(path) == 5
    )
    model = mlflow.pyfunc.load_model(str(path[0]))
    predictor = load_predictor(locate_run(load_sweep(sweep_of(folder))).layout.root)
    given = model.predict(images(20).astype(np.float32), params={"task": 3})
    assert [row["task"] for row in given] == [3] * 20
    assert [row["class"] for row in given] == [one.label for one in predictor.classify(images(20), 3)]
    plain = model.predict(images(20).astype(np.float32))
    assert [row["task"] for row in plain] == [answer.task for answer in predictor.infer(images(20))]
    with pytest.raises(InferenceError, match="task: found 5, expected a number from 0 to 4"):
        model.predict(images(20).astype(np.float32), params={"task": 5})


@pytest.mark.slow
def test_over_http_it_answers_as_the_predictor(exported, folder):
    """Serve the latest version as its own words say, on a port of its own."""
    port, command = _free_port(), serve_command(exported[1]).split()
    (key, _, value), words = command[0].partition("="), command[1:]
    words[words.index("--port") + 1] = str(port)
    words[0] = str(Path(sys.executable).with_name("mlflow"))
    path = str(Path(sys.executable).parent)
    env = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(folder), key: value}
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(words, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server)
        content = json.dumps({"inputs": images(20).tolist()}).encode()
        request = Request(
            f"http://127.0.0.1:{port}/invocations", content, {"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=60) as response:
            found = json.load(response)["predictions"]
    finally:
        stop_server(server)
    root = locate_run(load_sweep(sweep_of(folder))).layout.root
    expected = load_predictor(root).infer(images(20))
    assert [(row["task"], row["class"]) for row in found] == [(a.task, a.label) for a in expected]
    assert [row["confidence"] for row in found] == pytest.approx([a.confidence for a in expected], abs=1e-6)


def wait_for(address: str, server: subprocess.Popen) -> None:
    deadline_s = time.monotonic() + 90
    while time.monotonic() < deadline_s and server.poll() is None:
        try:
            with urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the model is not served")


def test_a_run_that_mlflow_does_not_know_and_one_without_a_store_are_refused(sweep, tmp_path):
    run_sweep(load_sweep(sweep), None, Recorder())
    root = locate_run(load_sweep(sweep)).layout.root
    with pytest.raises(ConfigError, match="name one with --uri"):
        export_model(root, None, None, None)
    with pytest.raises(RunFolderError, match="`supsup sync"):
        export_model(root, f"sqlite:///{tmp_path}/empty.db", None, None)
    with pytest.raises(ConfigError, match="--alias: an alias needs a registered model"):
        export_model(root, None, None, "champion")
