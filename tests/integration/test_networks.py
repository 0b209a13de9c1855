"""Whole runs on networks that are modules: the user's own, saves, transfer, folders, statistics by task."""

import json
import shlex
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load_file

from core.own_code.permission import ALLOW_CODE
from orchestrator.config.load import load_sweep
from orchestrator.predict import load_predictor
from orchestrator.runs.history import read_failures
from orchestrator.runs.run import locate_run
from storage.checkpoints import Checkpoint
from storage.summary import read_summary
from tests.conftest import supsup, sweep_text

OWN = """
from torch import nn

def small(outputs, image_shape):
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * height * width, outputs),
    )
"""
SMALL = {
    "network": '{kind: module, import_path: "own_nets:small", outputs: 8}',
    "mask": "{rule: top_k, density: 0.1}",
    "training": "{steps: 40, batch_size: 16, optimizer: {kind: adam, lr: 1.0e-2}, cohort_size: 2}",
}
CIFAR_LIKE = "{kind: split, dataset: synthetic, num_tasks: 2, labels: local, class_order: shuffled}"


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(ALLOW_CODE, "1")
    sys.modules.pop("own_nets", None)
    yield tmp_path
    sys.modules.pop("own_nets", None)


def write(tmp_path, file="tiny.yaml", **changes):
    path = tmp_path / file
    path.write_text(sweep_text(tmp_path / "runs", **(SMALL | changes)))
    return path


def digests(sweep, *settings):
    return locate_run(load_sweep(sweep, settings)).store.info_table()["digest"].to_pylist()


def test_a_users_own_network_trains_stores_and_infers(own_code, capsys):
    sweep = write(own_code, evaluation="{scenarios: [GG, GNu], at: [4]}")
    assert supsup("run", sweep) == 0
    run = locate_run(load_sweep(sweep))
    facts = run.store.info_table()
    assert np.allclose(facts["density"].to_numpy(), 0.1, atol=2e-3)
    assert facts["test_accuracy"].to_numpy().mean() > 0.4
    assert supsup("export", run.layout.root, "--out", own_code / "out", "--test-images", 1) == 0
    (image,) = (own_code / "out").glob("task-1-test-0-*.png")
    capsys.readouterr()
    assert supsup("infer", run.layout.root, image, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)[0]["best"]) == 4
    answers = load_predictor(run.layout.root).infer(np.zeros((2, 6, 6)))
    assert [len(answer.best) for answer in answers] == [4, 4]


def test_own_code_runs_only_where_the_user_says_so(own_code, monkeypatch, capsys):
    sweep = write(own_code)
    monkeypatch.delenv(ALLOW_CODE)
    assert supsup("run", sweep) == 2
    assert "--allow-code" in capsys.readouterr().err
    assert not (own_code / "runs").exists()
    assert "own_nets" not in sys.modules
    monkeypatch.setenv(ALLOW_CODE, "1")
    assert supsup("run", sweep) == 0
    monkeypatch.delenv(ALLOW_CODE)
    root = locate_root(own_code)
    assert supsup("verify", root) == 0
    assert supsup("status", root) == 0


@pytest.mark.parametrize("scenarios", ["GG", "GG, GNu"])
def test_every_command_suggested_for_a_network_of_ones_own_works_as_printed(
    own_code, monkeypatch, capsys, scenarios
):
    """The path of the run folder has a space in it, and nothing but the command allows the code."""
    folder = own_code / "it's my runs"
    sweep = write(own_code, evaluation=f"{{scenarios: [{scenarios}], at: [4]}}")
    monkeypatch.delenv(ALLOW_CODE)
    assert supsup("run", sweep, f"storage.uri={folder}", "--allow-code") == 0
    commands = capsys.readouterr().out.partition("next:\n")[2].splitlines()[::2]
    assert len(commands) == 3
    for command in commands:
        ours, *words = shlex.split(command)
        assert ours == "supsup"
        monkeypatch.delenv(ALLOW_CODE)
        sys.modules.pop("own_nets", None)
        assert supsup(*words) == 0, command


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_code_is_allowed_before_and_after_the_command(own_code, monkeypatch, place):
    sweep = write(own_code)
    monkeypatch.delenv(ALLOW_CODE)
    words = ["run", sweep, "benchmark.num_tasks=1", "evaluation.at=null"]
    words.insert(0 if place == "before" else 2, "--allow-code")
    assert supsup(*words) == 0


def test_code_that_is_not_allowed_is_reported_before_any_work(own_code, monkeypatch, capsys):
    sweep = write(own_code)
    assert supsup("run", sweep) == 0
    monkeypatch.delenv(ALLOW_CODE)
    sys.modules.pop("own_nets", None)
    root = locate_root(own_code)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    def forbidden(*given, **named):
        raise AssertionError("work was begun")

    for name in ("runs.dataset.load_dataset", "sweep.load_dataset", "search.search.load_dataset"):
        monkeypatch.setattr(f"orchestrator.{name}", forbidden)
    for words in (
        ["evaluate", root], ["infer", root, "nowhere.png"], ["run", sweep], ["plan", sweep],
        ["run", sweep, "search.space.seed=[1,2]"],
    ):  # fmt: skip
        capsys.readouterr()
        assert supsup(*words) == 2, words
        assert "--allow-code" in capsys.readouterr().err
    assert "own_nets" not in sys.modules
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def locate_root(folder):
    (root,) = (folder / "runs").glob("tiny-*")
    return root


def test_a_run_of_changed_code_is_refused(own_code, capsys):
    sweep = write(own_code)
    assert supsup("run", sweep) == 0
    (own_code / "own_nets.py").write_text(OWN.replace("ReLU", "GELU"))
    sys.modules.pop("own_nets")
    assert supsup("run", sweep) == 2
    assert "the code of network.import_path is" in capsys.readouterr().err


def test_a_task_is_the_same_to_the_last_image_after_three_more(own_code):
    """Nothing is forgotten through batch normalisation: statistics are the task's own."""
    sweep = write(own_code)
    assert supsup("run", sweep, "benchmark.num_tasks=1", "evaluation.at=null") == 0
    root = locate_root(own_code)
    before = pq.read_table(root / "evaluations" / "GG-1.parquet")["num_correct"].to_pylist()
    assert supsup("run", sweep, "evaluation.at=null") == 0
    for table in (root / "evaluations").iterdir():
        table.unlink()
    assert supsup("evaluate", root, "evaluation.scenarios=[GG]", "evaluation.at=[1,4]") == 0
    after = pq.read_table(root / "evaluations" / "GG-4.parquet")
    of_task_0 = [
        n for t, n in zip(after["task"].to_pylist(), after["num_correct"].to_pylist(), strict=True) if t == 0
    ]
    assert of_task_0 == before
    statistics = pq.read_table(next((root / "masks").glob("*.parquet")))["norm_stats"].to_pylist()
    assert len(set(statistics)) == len(statistics)
    assert len(statistics[0]) == 4 * 2 * 8


class Killed(BaseException):
    """The process is gone, in the middle of everything."""


def kill_after_first_save(monkeypatch):
    write = Checkpoint.write

    def write_and_die(*arguments):
        write(*arguments)
        raise Killed

    monkeypatch.setattr(Checkpoint, "write", write_and_die)


def test_a_run_killed_in_a_task_goes_on_from_its_save(own_code, monkeypatch, capsys):
    undisturbed = write(own_code, "whole.yaml", name="whole")
    assert supsup("run", undisturbed) == 0
    sweep = write(own_code, executor="{kind: inline, save_every_min: 1.0e-6}")
    with monkeypatch.context() as context:
        kill_after_first_save(context)
        with pytest.raises(Killed):
            supsup("run", sweep)
    root = locate_root(own_code)
    assert [path.suffix for path in (root / "saves").iterdir()] == [".npz"]
    steps = []
    monkeypatch.setattr("core.training.loop._begin", remember(steps))
    assert supsup("run", sweep, "executor.save_every_min=1000") == 0
    assert steps[0] == 1  # not from the beginning
    assert digests(sweep) == digests(undisturbed)
    assert not (root / "saves").exists()


def remember(steps):
    from core.training.loop import _begin

    def begin(state, parts):
        course = _begin(state, parts)
        steps.append(course.step)
        return course

    return begin


@pytest.mark.parametrize("harm", ["torn", "foreign"])
def test_a_save_that_cannot_be_used_is_ignored_and_said(own_code, monkeypatch, capsys, harm):
    sweep = write(own_code, executor="{kind: inline, save_every_min: 1.0e-6}")
    with monkeypatch.context() as context:
        kill_after_first_save(context)
        with pytest.raises(Killed):
            supsup("run", sweep)
        if harm == "foreign":
            other = write(own_code, "other.yaml", name="other", seed="4")
            context.setattr(
                "orchestrator.worker.checkpointer.JobCheckpointer.is_due", lambda checkpointer: True
            )
            with pytest.raises(Killed):
                supsup("run", other)
    (save,) = (locate_root(own_code) / "saves").iterdir()
    if harm == "torn":
        save.write_bytes(save.read_bytes()[:-100])
    else:
        (strange,) = next((own_code / "runs").glob("other-*/saves")).iterdir()
        save.unlink()
        save.with_name(strange.name).write_bytes(strange.read_bytes())
    capsys.readouterr()
    assert supsup("run", sweep, "executor.save_every_min=1000", "--plain") == 0
    shown = capsys.readouterr()
    assert "this save is ignored" in shown.out + shown.err
    whole = write(own_code, "whole.yaml", name="whole")
    assert supsup("run", whole) == 0
    assert digests(sweep) == digests(whole)


@pytest.mark.parametrize("kind", ["masks", "scores"])
@pytest.mark.parametrize("network", ["module", "mlp"])
def test_transfer_starts_from_the_tasks_before_and_resumes(own_code, kind, network):
    changes = {"training": SMALL["training"].replace("cohort_size: 2", f"transfer: {kind}")}
    if network == "mlp":
        changes["network"] = "{kind: mlp, hidden: [16], outputs: 8}"
    sweep = write(own_code, **changes)
    assert supsup("run", sweep, "benchmark.num_tasks=2") == 0
    assert supsup("run", sweep) == 0
    whole = write(own_code, "whole.yaml", name="whole", **changes)
    assert supsup("run", whole) == 0
    found = digests(sweep)
    assert found == digests(whole)
    alone = write(own_code, "alone.yaml", name="alone", **(changes | {"training": SMALL["training"]}))
    assert supsup("run", alone) == 0
    same = [a == b for a, b in zip(found, digests(alone), strict=True)]
    assert same == [True, False, False, False]


def test_transfer_of_scores_needs_the_scores_of_before(own_code, capsys):
    sweep = write(own_code, training=SMALL["training"].replace("cohort_size: 2", "transfer: scores"))
    assert supsup("run", sweep, "benchmark.num_tasks=2") == 0
    for path in (locate_root(own_code) / "transfer").iterdir():
        path.unlink()
    assert supsup("run", sweep) == 1
    assert "has no sum of the scores of the first 2 tasks" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def image_folder(tmp_path, monkeypatch):
    """Write 64 images in 4 classes, of many sizes, and return the folder of data sets."""
    draw = np.random.default_rng(0)
    for part, number in (("train", 12), ("val", 4)):
        for label in range(4):
            folder = tmp_path / "data" / "made" / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(number):
                noise = draw.integers(0, 60, size=(*draw.integers(20, 40, size=2), 3))
                image = np.clip(noise + np.array([60 * label, 190 - 60 * label, 90]), 0, 255)
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{i}.{'png' if i % 2 else 'jpeg'}")
    monkeypatch.setenv("SUPSUP_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


FOLDER = {
    "benchmark": "{kind: split, dataset: image_folder, folder: made, num_classes: 4, classes_per_task: 2,"
    " image_size: 16, num_tasks: 2}",
    "network": "{kind: conv4, outputs: 4}",
    "mask": "{rule: top_k, density: 0.3}",
    "training": "{epochs: 20, batch_size: 8, optimizer: {kind: adam, lr: 3.0e-3},"
    " schedule: {kind: cosine, warmup: 1}}",
    "evaluation": "{scenarios: [GG, GNu], inference: {algorithm: exhaustive, objective: H, images: each}}",
}


def test_a_folder_of_images_streams_through_a_whole_run(image_folder, tmp_path, capsys):
    sweep = write(tmp_path, **FOLDER)
    assert supsup("run", sweep) == 0, capsys.readouterr()
    first = digests(sweep)
    again = write(tmp_path, "again.yaml", name="again", **FOLDER)
    assert supsup("run", again, "training.cohort_size=1") == 0
    assert digests(again) == first
    assert locate_run(load_sweep(sweep)).store.info_table()["test_accuracy"].to_numpy().mean() > 0.6
    image = image_folder / "made" / "val" / "class0" / "1.png"
    assert supsup("infer", locate_root(tmp_path), image) == 2  # of another size than the network takes
    assert "the network takes 16 x 16" in capsys.readouterr().err


def test_wrong_folders_are_said_before_anything_starts(image_folder, tmp_path, capsys):
    sweep = write(tmp_path, **FOLDER)
    assert supsup("run", sweep, "benchmark.num_classes=5") == 2
    assert "found 4 folders of classes, benchmark.num_classes says 5" in capsys.readouterr().err
    assert supsup("run", sweep, "benchmark.folder=nowhere") == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    damaged = image_folder / "made" / "train" / "class1" / "3.png"
    damaged.write_bytes(b"no image")
    capsys.readouterr()
    assert supsup("run", sweep) == 1
    assert "3.png cannot be read" in "".join(capsys.readouterr().out.split("\n"))
    (failed,) = read_failures(locate_run(load_sweep(sweep)))
    assert str(damaged) in failed["error"]


def test_plan_and_run_say_which_images_are_left_out(image_folder, tmp_path, capsys):
    sweep = write(tmp_path, **FOLDER)
    dark = image_folder / "made" / "train" / "class0"
    for path in sorted(dark.glob("*.png")):
        path.rename(path.with_suffix(".bmp"))
    words = f"{dark}: 6 files that are no .jpeg, .jpg, .png (.bmp)"
    assert supsup("plan", sweep) == 0
    assert words in capsys.readouterr().out
    assert supsup("run", sweep, "training.epochs=1", "evaluation.scenarios=[GG]") == 0
    assert words in capsys.readouterr().out
    (dark / "gone.png").symlink_to("/nowhere/gone.png")
    assert supsup("plan", sweep) == 0
    assert "would stop here" in capsys.readouterr().out
    assert supsup("run", sweep, "name=other") == 2
    assert "gone.png is a link to /nowhere/gone.png" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("other-*"))


def test_validation_images_train_nothing_and_stand_in_for_the_test(own_code):
    changes = {"benchmark": CIFAR_LIKE.replace("}", ", validation: 0.25}"), "evaluation": "{scenarios: [GG]}"}
    sweep = write(own_code, **changes)
    assert supsup("run", sweep) == 0
    assert supsup("run", sweep, "name=held", "benchmark.test_on=validation") == 0
    (on_test,), (held,) = (
        (own_code / "runs").glob(f"{name}-*/evaluations/GG-2.parquet") for name in ("tiny", "held")
    )
    num_test, num_held = (sum(pq.read_table(path)["num_images"].to_pylist()) for path in (on_test, held))
    assert num_held == sum(round(0.25 * n) for n in class_pairs())
    assert num_test == 200
    first = locate_run(load_sweep(sweep)).store.info_table()["digest"].to_pylist()
    assert digests(sweep, "name=held", "benchmark.test_on=validation") == first


def class_pairs():
    from core.data.benchmarks import task_classes
    from core.data.datasets import load_dataset

    spec = load_sweep_spec()
    labels = load_dataset("synthetic").train_labels
    return [int(np.isin(labels, task_classes(spec, task, seed=3)).sum()) for task in range(2)]


def load_sweep_spec():
    from core.specs.benchmark import BenchmarkSpec

    return BenchmarkSpec(
        kind="split", dataset="synthetic", num_tasks=2, labels="local", class_order="shuffled"
    )


BASELINE = {
    "network": "{kind: mlp, hidden: [16], outputs: 8}",
    "mask": "{rule: threshold}",
    "training": "{steps: 40, batch_size: 16, optimizer: {kind: adam, lr: 1.0e-2}}",
}


def test_a_baseline_runs_resumes_and_says_how_it_stands(tmp_path, capsys):
    changes = BASELINE | {"baseline": "{kind: lower_bound}"}
    sweep = write(tmp_path, **changes)
    assert supsup("run", sweep, "benchmark.num_tasks=2") == 0
    assert supsup("run", sweep) == 0
    whole = write(tmp_path, "whole.yaml", name="whole", **changes)
    assert supsup("run", whole, "--quiet") == 0
    found, expected = (
        pq.read_table(next((tmp_path / "runs").glob(f"{name}-*/evaluations/GG-4.parquet")))
        for name in ("tiny", "whole")
    )
    assert found.equals(expected)
    root = locate_root(tmp_path)
    assert sorted(path.name for path in (root / "evaluations").iterdir()) == ["GG-2.parquet", "GG-4.parquet"]
    capsys.readouterr()
    assert supsup("status", root) == 0
    assert "4/4" in capsys.readouterr().out
    assert supsup("run", sweep) == 0
    assert "nothing to train" in " ".join(capsys.readouterr().out.split())
    assert supsup("evaluate", root) == 2
    assert "is a baseline" in capsys.readouterr().err
    assert supsup("report", root) == 0
    assert supsup("verify", root) == 0


def test_a_damaged_state_of_a_baseline_is_learned_again(tmp_path):
    changes = BASELINE | {"baseline": "{kind: psp}"}
    sweep = write(tmp_path, **changes)
    assert supsup("run", sweep, "benchmark.num_tasks=2") == 0
    (state,) = (locate_root(tmp_path) / "baseline").iterdir()
    state.write_bytes(state.read_bytes()[:-10])
    assert supsup("run", sweep) == 0
    whole = write(tmp_path, "whole.yaml", name="whole", **changes)
    assert supsup("run", whole) == 0
    tables = [next((tmp_path / "runs").glob(f"{n}-*/evaluations/GG-4.parquet")) for n in ("tiny", "whole")]
    assert pq.read_table(tables[0]).equals(pq.read_table(tables[1]))


def test_batch_ensemble_answers_every_scenario(tmp_path, capsys):
    changes = BASELINE | {
        "baseline": "{kind: batch_ensemble}",
        "evaluation": "{scenarios: [GG, GNs, GNu], at: [2, 4], inference: {objective: H, images: 128}}",
    }
    sweep = write(tmp_path, **changes)
    assert supsup("run", sweep) == 0
    summary = read_summary(locate_root(tmp_path) / "report" / "summary.json")[0]
    for scenario in ("GNs", "GNu"):
        at_4 = summary[scenario]["one_shot-H-128"]["4"]
        assert 0 <= at_4["accuracy"] <= 1
        assert at_4["top_5_task_inference_accuracy"] == 1.0
    assert (
        summary["GNu"]["one_shot-H-128"]["4"]["accuracy"] <= summary["GNs"]["one_shot-H-128"]["4"]["accuracy"]
    )


def test_an_export_has_the_running_statistics_by_their_names(own_code):
    sweep = write(own_code)
    assert supsup("run", sweep, "benchmark.num_tasks=1", "evaluation.at=null") == 0
    root = locate_root(own_code)
    assert supsup("export", root, "--out", own_code / "out") == 0
    tensors = load_file(own_code / "out" / "task-0.safetensors")
    assert {key: value.shape for key, value in tensors.items() if "running" in key} == {
        "1.running_mean": (8,),
        "1.running_var": (8,),
    }
    assert tensors["0.weight"].dtype == bool
    stored = pq.read_table(next((root / "masks").glob("*.parquet")))["norm_stats"][0].as_py()
    both = np.concatenate([tensors["1.running_mean"], tensors["1.running_var"]])
    assert np.array_equal(np.frombuffer(stored, dtype="<f4"), both)
