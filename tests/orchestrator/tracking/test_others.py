"""Runs with trackers besides MLflow: they show what the folder has, and training never waits for them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator.tracking.tracker
from core.errors import SupSupError
from core.own_code.permission import ALLOW_CODE
from core.plugins import plugins
from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run, open_run
from orchestrator.sweep import run_sweep
from orchestrator.tracking import registry
from orchestrator.tracking.conformance import check_tracker
from orchestrator.tracking.content import tracked_end, tracked_tasks
from orchestrator.tracking.sender import Sender
from orchestrator.tracking.sync import sync_run
from orchestrator.tracking.tracker import Background, Trackers
from orchestrator.tracking.wandb_files import WandbFiles
from storage.locations import listed
from tests.conftest import start_supsup, supsup, sweep_text
from tests.contracts.test_doc_blocks import ROOT, blocks
from tests.integration.test_crash import wait_for_masks, write_sweep
from tests.orchestrator.fakes import Recorder
from tests.orchestrator.tracking.readers import tensorboard_events, tensorboard_points, wandb_points
from tests.orchestrator.tracking.test_conformance import Table, needs_wandb

BUSY_S = 200.0  # wandb starts in two seconds, where nothing else does
READERS = {"tensorboard": tensorboard_points, "wandb": wandb_points}
WANDB = pytest.param("wandb", marks=[needs_wandb, pytest.mark.slow, pytest.mark.long])
EVALUATION = "{scenarios: [GG, GNu], inference: {objective: H}, at: [2, 4]}"


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    monkeypatch.setattr(WandbFiles, "patience_s", BUSY_S)


def also(*names: str) -> str:
    return f"tracking.also=[{','.join(names)}]"


def shown(run, name: str):
    return sorted((key, step, pytest.approx(value, rel=1e-6)) for key, step, value in points(run, name))


def points(run, name: str):
    return READERS[name](run.layout.tracker(name))


def stored(run):
    """Return the points that a tracker has to show of what the folder has."""
    opened, record = open_run(run.layout.root)
    of_tasks = [
        (f"task/{key}", one.task, value)
        for one in tracked_tasks(opened)
        for key, value in one.metrics.items()
    ]
    return sorted([*of_tasks, *tracked_end(opened, record).metrics])


def tasks_shown(run, name: str) -> list[int]:
    return sorted(step for key, step, _ in points(run, name) if key == "task/test_accuracy")


@pytest.mark.parametrize("name", ["tensorboard", WANDB])
def test_a_run_is_shown_as_its_folder_has_it_and_made_again_by_sync(tmp_path, name):
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text(tmp_path / "runs", evaluation=EVALUATION))
    display = Recorder()
    run_sweep(load_sweep(path, [also(name)]), None, display)
    assert "tracker" not in display.messages
    run = locate_run(load_sweep(path))
    assert shown(run, name) == stored(run)
    assert {"GG/accuracy", "GNu/task_inference_accuracy", "task/density", "task/train_seconds"} <= {
        key for key, _, _ in points(run, name)
    }
    for file in listed(run.layout.tracker(name)):
        subprocess.run(["rm", "-r", file], check=True)
    for _ in range(2):
        assert sync_run(run.layout.root, None, Recorder()) == (None, 0)
        assert shown(run, name) == stored(run)
    grown = [also(name), "benchmark.num_tasks=6", "evaluation.at=[2,4,6]"]
    run_sweep(load_sweep(path, grown), None, Recorder())
    assert tasks_shown(run, name) == list(range(6))
    assert shown(run, name) == stored(run)
    assert supsup("verify", run.layout.root) == 0


def test_tensorboard_gets_settings_note_and_figures(tmp_path):
    path = tmp_path / "tiny.yaml"
    tracking = "{uri: null, figures: true, also: [tensorboard]}"
    path.write_text(sweep_text(tmp_path / "runs", tracking=tracking))
    run_sweep(load_sweep(path), None, Recorder())
    run = locate_run(load_sweep(path))
    events = tensorboard_events(run.layout.tracker("tensorboard"))
    assert events[0].file_version == "brain.Event:2"
    assert events[1].session_log.status == events[1].session_log.START
    values = {value.tag: value for event in events for value in event.summary.value}
    figures = {path.stem for path in run.layout.report.glob("*.png")}
    assert figures >= {"accuracy", "density"}
    assert {tag for tag in values if tag.startswith("report/")} == {f"report/{name}" for name in figures}
    picture = values["report/accuracy"].image
    assert picture.encoded_image_string == (run.layout.report / "accuracy.png").read_bytes()
    assert picture.width > picture.height > 100
    assert "4 of 4 tasks" in values["note"].tensor.string_val[0].decode()
    assert b"training.optimizer.lr" in values["_hparams_/session_start_info"].metadata.plugin_data.content
    assert "_hparams_/session_end_info" in values


@pytest.mark.slow
def test_the_writer_of_event_files_loads_no_torch_and_leaves_tensorboardx_usable(tmp_path):
    code = f"""if True:
        import sys
        import orchestrator.tracking.tensorboard_files
        assert not {{"torch", "mlflow", "boto3", "tensorboardX"}} & set(sys.modules)
        from tensorboardX import SummaryWriter
        from tensorboardX.proto.event_pb2 import Event
        with SummaryWriter({str(tmp_path)!r}) as writer:
            writer.add_scalar("theirs", 0.5, 7)
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    assert tensorboard_points(tmp_path) == [("theirs", 7, 0.5)]


@pytest.mark.parametrize("name", ["tensorboard", WANDB])
def test_a_folder_that_cannot_be_written_is_told_once_and_filled_by_the_next_session(
    sweep, monkeypatch, name
):
    monkeypatch.setattr(orchestrator.tracking.tracker, "RETRY_S", 0.01)
    monkeypatch.setattr(orchestrator.tracking.tracker, "FLUSH_S", 0.3)
    monkeypatch.setattr(WandbFiles, "patience_s", 0.3)
    config = load_sweep(sweep, [also(name)])
    run, display = locate_run(config), Recorder()
    in_the_way = run.layout.root / "trackers"
    run.layout.root.mkdir(parents=True)
    in_the_way.write_text("")
    assert run_sweep(config, None, display).is_complete
    told = [line for line in display.messages.splitlines() if "tracker" in line]
    assert len(told) == 1
    assert f"the tracker {name} failed; training goes on" in told[0]
    assert f"{name} does not have all of this run yet" in display.messages
    with pytest.raises(SupSupError, match=f"the tracker {name} did not accept tiny"):
        sync_run(run.layout.root, None, Recorder())
    in_the_way.unlink()
    monkeypatch.setattr(WandbFiles, "patience_s", BUSY_S)
    assert run_sweep(config, None, Recorder()).num_trained == 0
    assert shown(run, name) == stored(run)


class Down(Table):
    """Fails at every call, after having done a part of it, until it is up."""

    is_up = False
    num_calls = 0

    def add(self, points) -> None:
        self.num_calls += 1
        found = list(points)
        if not self.is_up:
            super().add(found[:1])
            raise ConnectionError("no route to host")
        super().add(found)


def test_an_hour_down_is_told_once_holds_nothing_up_and_is_caught_up(sweep, monkeypatch):
    """An hour of tries, one every five seconds, as fast as they go."""
    monkeypatch.setattr(orchestrator.tracking.tracker, "RETRY_S", 0.0)
    run_sweep(load_sweep(sweep), None, Recorder())
    run, record = open_run(locate_run(load_sweep(sweep)).layout.root)
    warnings: list[str] = []
    down = Down(registry.place_of(run, "down"))
    trackers = Trackers([Background(Sender(run, record, "down", down), warnings.append)])
    start_s = time.monotonic()
    trackers.open()
    for path in run.store.files():
        trackers.tasks([path.name])
    assert time.monotonic() - start_s < 1
    while down.num_calls < 720 and time.monotonic() - start_s < 60:
        time.sleep(0.01)
    assert down.num_calls >= 720
    down.is_up = True
    assert trackers.close() == ()
    assert len(warnings) == 1
    assert "no route to host" in warnings[0]
    assert f"`supsup sync {run.layout.root}`" in warnings[0]
    assert sorted(down.points()) == stored(run)


def test_one_that_hangs_delays_neither_the_others_nor_the_end_for_long(sweep, monkeypatch):
    monkeypatch.setattr(orchestrator.tracking.tracker, "FLUSH_S", 1.0)
    run_sweep(load_sweep(sweep), None, Recorder())
    run, record = open_run(locate_run(load_sweep(sweep)).layout.root)
    released = threading.Event()

    class Hangs(Table):
        def tasks(self, tasks) -> None:
            released.wait()

    hangs, well = Hangs(registry.place_of(run, "hangs")), Table(registry.place_of(run, "well"))
    senders = [Sender(run, record, name, one) for name, one in (("hangs", hangs), ("well", well))]
    trackers = Trackers([Background(sender, pytest.fail) for sender in senders])
    trackers.open()
    start_s = time.monotonic()
    assert trackers.close() == ("hangs",)
    released.set()
    assert time.monotonic() - start_s < 5
    assert sorted(well.points()) == stored(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["tensorboard", pytest.param("wandb", marks=[needs_wandb, pytest.mark.long])]
)
def test_kill_9_in_the_middle_then_sync_then_run_again(tmp_path, name):
    """What was trained is shown by ``sync``, and each task once when the run is whole."""
    path = write_sweep(tmp_path, tmp_path / "killed", "{kind: inline}")
    settings = [also(name), "training.cohort_size=1"]
    config = load_sweep(path, settings)
    run = locate_run(config)
    process = start_supsup("run", path, *settings)
    wait_for_masks(config, process, more=2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    trained = run.store.info_table()["task"].to_pylist()
    assert 2 <= len(trained) < 12
    for _ in range(2):
        assert supsup("sync", run.layout.root) == 0
        assert tasks_shown(run, name) == sorted(trained)
        assert shown(run, name) == stored(run)
    assert supsup("run", path, *settings) == 0
    assert tasks_shown(run, name) == list(range(12))
    assert shown(run, name) == stored(run)


def test_an_event_file_in_an_object_store(tmp_path, s3_storage, monkeypatch):
    monkeypatch.setenv("SUPSUP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text(s3_storage))
    for _ in range(2):
        run_sweep(load_sweep(path, [also("tensorboard")]), None, Recorder())
    run = locate_run(load_sweep(path))
    (file,) = listed(run.layout.tracker("tensorboard"))
    (tmp_path / file.name).write_bytes(file.read_bytes())
    assert sorted(tensorboard_points(tmp_path)) == [
        (key, step, pytest.approx(value, rel=1e-6)) for key, step, value in stored(run)
    ]


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("[tensorbord]", "found 'tensorbord', expected some of: tensorboard, wandb; others come with"),
        ("[tensorboard,tensorboard]", "expected names of trackers, each once"),
        ("[mlflow]", "found 'mlflow', expected others: tracking.uri is for MLflow"),
        ("[wandb]", "found wandb, which is not installed: pip install 'supsup[wandb]'"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_before_anything_is_written(
    sweep, monkeypatch, capsys, verb, setting, words
):
    monkeypatch.setattr("orchestrator.tracking.wandb_files.find_spec", lambda name: None)
    assert supsup(verb, sweep, f"tracking.also={setting}") == 2
    assert supsup(verb, sweep, f"tracking.also={setting}", "search.space.seed=[1,2]") == 2
    printed = capsys.readouterr()
    assert words in " ".join(printed.err.split())
    assert "Traceback" not in printed.err
    assert not (sweep.parent / "runs").exists()


@pytest.fixture
def lines(tmp_path, monkeypatch) -> Iterator[Path]:
    """Install the tracker of the how-to page: its module, and its name among the entry points."""
    folder = tmp_path / "installed"
    about = folder / "lines_tracker-1.0.dist-info"
    about.mkdir(parents=True)
    page = ROOT / "docs/how-to/trackers.md"
    (module,) = (text for _, text in blocks(page) if text.startswith("# lines_tracker.py"))
    (folder / "lines_tracker.py").write_text(module)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lines-tracker\nVersion: 1.0\n")
    entry = page.read_text().partition(f'[project.entry-points."{registry.GROUP}"]\n')[2].splitlines()[0]
    (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entry.strip().replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "lines_tracker", raising=False)
    monkeypatch.setenv(ALLOW_CODE, "1")
    plugins.cache_clear()
    yield folder
    plugins.cache_clear()


def test_the_tracker_of_the_how_to_page_is_found_by_its_name_and_keeps_its_promises(lines, sweep):
    assert "lines" in registry.known_trackers()
    check_tracker(lambda place: registry.make_tracker("lines", place))
    run_sweep(load_sweep(sweep, [also("lines", "tensorboard")]), None, Recorder())
    run, _ = open_run(locate_run(load_sweep(sweep)).layout.root)
    tracker = registry.make_tracker("lines", registry.place_of(run, "lines"))
    assert sorted(map(tuple, tracker.points())) == stored(run)
    assert shown(run, "tensorboard") == stored(run)


def test_one_that_cannot_be_imported_or_takes_our_name_is_no_trouble(lines, sweep, capsys):
    (lines / "lines_tracker.py").write_text("import no_such_package\n")
    (lines / "lines_tracker-1.0.dist-info" / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\nlines = lines_tracker:Lines\ntensorboard = lines_tracker:Lines\n"
    )
    plugins.cache_clear()
    assert supsup("run", sweep, also("lines")) == 2
    said = "tracking.also: lines_tracker:Lines cannot be imported (ModuleNotFoundError: No module named"
    assert said in " ".join(capsys.readouterr().err.split())
    assert supsup("run", sweep, also("tensorboard")) == 0


def test_one_that_is_not_ours_runs_only_if_it_is_allowed(lines, sweep, monkeypatch, capsys):
    monkeypatch.delenv(ALLOW_CODE)
    assert supsup("run", sweep, also("lines")) == 2
    assert "is your own code, which runs when it is imported" in " ".join(capsys.readouterr().err.split())
    assert "lines_tracker" not in sys.modules


def test_sync_takes_further_trackers(sweep, capsys):
    run_sweep(load_sweep(sweep), None, Recorder())
    run = locate_run(load_sweep(sweep))
    assert supsup("sync", run.layout.root) == 2
    assert supsup("sync", run.layout.root, "--also", "tensorboard") == 0
    assert f"{run.name} is in tensorboard" in " ".join(capsys.readouterr().out.split())
    assert shown(run, "tensorboard") == stored(run)


def test_the_runs_of_a_search_are_in_every_tracker(sweep, tmp_path, capsys):
    assert supsup("run", sweep, also("tensorboard"), "search.space.seed=[1,2]") == 0
    config = [locate_run(load_sweep(sweep, [f"seed={seed}"])) for seed in (1, 2)]
    for run in config:
        assert shown(run, "tensorboard") == stored(run)
        for file in listed(run.layout.tracker("tensorboard")):
            file.unlink()
    assert supsup("sync", tmp_path / "runs" / "tiny-search") == 0
    assert "the runs of tiny-search are in tensorboard" in capsys.readouterr().out
    assert all(shown(run, "tensorboard") == stored(run) for run in config)


def test_a_folder_that_wandb_left_is_no_package(sweep, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "work"
    (folder / "wandb").mkdir(parents=True)
    monkeypatch.setattr(
        sys, "path", [str(folder), *(one for one in sys.path if not Path(one, "wandb").is_dir())]
    )
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    assert supsup("run", sweep, also("wandb")) == 2
    assert "found wandb, which is not installed" in " ".join(capsys.readouterr().err.split())
