"""Data and tasks that the user's own functions make, in whole runs: permission, edits, plug-ins, kills."""

import json

import numpy as np
import pytest
from PIL import Image

from core import plugins
from core.own_code.permission import ALLOW_CODE
from orchestrator.runs.run import open_run
from storage.checkpoints import read_baseline
from storage.layout import RunLayout
from storage.locations import to_location
from storage.run_file import read_run
from tests.conftest import start_supsup, supsup, sweep_text
from tests.integration.test_crash import kill_after_a_mask

MAKERS = """
from core.data.datasets import load_dataset

def make():
    data = load_dataset("synthetic")
    rows = lambda images, labels: [(image, label) for image, label in zip(images, labels)]
    return rows(data.train_images, data.train_labels), rows(data.test_images, data.test_labels)

def tasks():
    data = load_dataset("synthetic")
    test = data.test_images, data.test_labels
    halves = [(data.train_images[n::2] + (7 * n), data.train_labels[n::2]) for n in range(2)]
    return [(half, test) for half in halves] + [((255 - data.train_images, data.train_labels), (255 - test[0], test[1]))]
"""
WHOLE = {
    "network": "{kind: conv4, outputs: 8}",
    "mask": "{rule: top_k, density: 0.3}",
    "training": "{steps: 4, batch_size: 8, optimizer: {kind: adam, lr: 1.0e-3}}",
    "evaluation": "{scenarios: [GG]}",
}
MODULE = WHOLE | {"benchmark": '{kind: module, import_path: "own_makers:tasks"}'}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("SUPSUP_DATA", raising=False)
    monkeypatch.setenv(ALLOW_CODE, "1")
    (tmp_path / "own_makers.py").write_text(MAKERS)
    return tmp_path


def sweep(place, **lines):
    path = place / "tiny.yaml"
    made = {
        "benchmark": '{kind: permuted, dataset: "own_makers:make", num_tasks: 2}',
        "evaluation": "{scenarios: [GG]}",
    }
    path.write_text(sweep_text(place / "runs", **(made | lines)))
    return path


def run_of(place, storage="runs"):
    (root,) = (place / storage).glob("tiny-*")
    return root


def shown(capsys):
    out = capsys.readouterr()
    return " ".join(f"{out.out} {out.err}".split())


def test_accuracy_counts_each_tasks_own_images(place):
    assert supsup("run", sweep(place, **MODULE), "--quiet") == 0
    run, _ = open_run(to_location(str(run_of(place))))
    tested = run.store.info_table()["test_accuracy"].to_pylist()
    found = json.loads(run.layout.summary.read_text())["GG"]["3"]["accuracy"]
    assert found == pytest.approx(sum(tested) / len(tested))


def masks(place, storage="runs"):
    run, _ = open_run(to_location(str(run_of(place, storage))))
    return run.store.info_table()["digest"].to_pylist()


def test_a_function_makes_the_data_that_a_named_set_has(place):
    assert supsup("run", sweep(place), "--quiet") == 0
    record = read_run(RunLayout(run_of(place)))
    assert record.config["benchmark"]["shape"] == [6, 6]
    assert list(record.provenance["code"]) == ["benchmark.dataset"]
    assert supsup("evaluate", run_of(place), "--quiet") == 0
    assert supsup("verify", run_of(place), "--deep") == 0


def test_plan_lists_tasks_of_a_module_and_its_run_grows(place, capsys):
    path = sweep(place, **MODULE)
    assert supsup("plan", path) == 0
    assert "task 0: 4 classes, 256 training and 200 test images" in shown(capsys)
    assert supsup("run", path, "benchmark.num_tasks=1", "--quiet") == 0
    assert supsup("run", path, "--quiet") == 0
    assert supsup("run", path, f"storage.uri={place / 'once'}", "--quiet") == 0
    assert len(masks(place)) == 3
    assert masks(place) == masks(place, "once")
    assert len(read_run(RunLayout(run_of(place))).provenance["part_digests"]) == 3


@pytest.mark.parametrize("lines", [{}, MODULE])
@pytest.mark.parametrize("verb", ["run", "plan", "submit"])
def test_nothing_runs_that_is_not_allowed(place, monkeypatch, capsys, verb, lines):
    monkeypatch.delenv(ALLOW_CODE)
    (place / "own_makers.py").write_text("open('it-ran', 'w')")
    assert supsup(verb, sweep(place, **lines)) == 2
    assert "is your own code, which runs when it is imported" in shown(capsys)
    assert not (place / "it-ran").exists()
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [["evaluate"], ["verify", "--deep"], ["run"], ["export", "--test-images", "1", "--out", "exported"]],
)
def test_the_permission_for_any_code_covers_only_what_the_run_was_made_with(place, capsys, words):
    assert supsup("run", sweep(place), "--quiet") == 0
    (place / "own_makers.py").write_text("open('it-ran', 'w')" + MAKERS)
    capsys.readouterr()
    verb, *more = words
    assert supsup(verb, run_of(place), *more) == 2
    assert "the code of benchmark.dataset is" in shown(capsys)
    assert not (place / "it-ran").exists()


def test_code_allowed_by_its_path_may_be_edited_as_long_as_its_data_are_the_same(place, monkeypatch, capsys):
    path = sweep(place, **MODULE)
    assert supsup("run", path, "--quiet") == 0
    monkeypatch.setenv(ALLOW_CODE, str(place))
    (place / "own_makers.py").write_text(MAKERS + "\n# a comment\n")
    assert supsup("evaluate", run_of(place), "--quiet") == 0
    (place / "own_makers.py").write_text(MAKERS.replace("(7 * n)", "(8 * n)"))
    capsys.readouterr()
    assert supsup("run", path) == 2
    assert "differ in part 1 and have" in shown(capsys)


def test_an_installed_package_adds_a_data_set_by_name(place, monkeypatch, capsys):
    monkeypatch.setattr(plugins, "plugins", lambda group: {"shop": "own_makers:make"})
    monkeypatch.setattr("core.specs.own_code.plugins", plugins.plugins)
    monkeypatch.setattr("core.specs.benchmark_checks.plugins", plugins.plugins)
    assert supsup("run", sweep(place, benchmark="{kind: split, dataset: shop, num_tasks: 2}"), "--quiet") == 0
    assert supsup("run", sweep(place, benchmark="{kind: split, dataset: shup, num_tasks: 2}")) == 2
    assert "did you mean 'shop'?" in shown(capsys)


def test_a_made_data_set_is_a_part_of_a_sequence(place, capsys):
    parts = '{kind: sequence, parts: [{kind: split, dataset: synthetic}, {kind: whole, dataset: "own_makers:make"}]}'
    assert supsup("run", sweep(place, **(WHOLE | {"benchmark": parts})), "--quiet") == 0
    assert list(read_run(RunLayout(run_of(place))).provenance["code"]) == ["benchmark.parts[1].dataset"]
    wrong = parts.replace("own_makers:make", "own_makers:absent")
    assert supsup("plan", sweep(place, **(WHOLE | {"benchmark": wrong}))) == 2
    assert "benchmark.parts[1].dataset: own_makers:absent cannot be imported" in shown(capsys)


@pytest.mark.parametrize(
    ("name", "text"),
    [("order.txt", "# none"), ("order.json", "{}"), ("order.txt", "0 1 1 2"), ("order.json", "[0, 9]")],
)
def test_a_wrong_order_of_classes_is_named(place, capsys, name, text):
    (place / name).write_text(text)
    assert (
        supsup(
            "plan",
            sweep(place, benchmark=f"{{kind: split, dataset: synthetic, num_tasks: 2, class_order: {name}}}"),
        )
        == 2
    )
    assert "order" in shown(capsys)
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("order", "text"), [("[2, 0, 3, 1]", None), ("order.txt", "2, 0\n3 1"), ("order.json", "[2, 0, 3, 1]")]
)
def test_classes_come_in_the_order_of_a_list(place, order, text):
    if text is not None:
        (place / order).write_text(text)
    benchmark = f"{{kind: split, dataset: synthetic, num_tasks: 2, class_order: {order}}}"
    assert supsup("run", sweep(place, benchmark=benchmark), "--quiet") == 0
    assert read_run(RunLayout(run_of(place))).config["benchmark"]["class_order"] == [2, 0, 3, 1]
    if text is not None:
        (place / order).unlink()
    assert supsup("run", run_of(place), "--quiet") == 0


@pytest.mark.parametrize("kind", ["permuted", "rotated", "sequence"])
def test_a_folder_of_images_can_be_permuted_rotated_or_a_part(place, kind):
    draw = np.random.default_rng(0)
    for part, name in ((part, name) for part in ("train", "val") for name in "ab"):
        (place / "data/pictures" / part / name).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(draw.integers(0, 256, (40, 40, 3)).astype(np.uint8))
            image.save(place / "data/pictures" / part / name / f"{number}.png")
    folder = "dataset: image_folder, folder: pictures, num_classes: 2, image_size: 32"
    one = f"{{kind: {kind}, {folder}, num_tasks: 2}}"
    two = f"{{kind: sequence, parts: [{{kind: whole, {folder}}}, {{kind: split, dataset: synthetic}}]}}"
    lines = WHOLE | {"benchmark": two if kind == "sequence" else one, "data_dir": str(place / "data")}
    assert supsup("run", sweep(place, **lines), "--quiet") == 0
    assert supsup("evaluate", run_of(place), "--quiet") == 0


METHOD = """
from core.baselines.psp import ParameterSuperposition

class Mine(ParameterSuperposition):
    pass
"""


@pytest.mark.parametrize(
    "executor", ["{kind: inline}", pytest.param("{kind: ray, workers: 1}", marks=pytest.mark.ray)]
)
def test_a_method_of_ones_own_learns_what_the_same_one_built_in_does(place, capsys, executor):
    (place / "own_method.py").write_text(METHOD)
    found = {}
    for kind in ("psp", 'module, import_path: "own_method:Mine"'):
        storage = place / kind[:6]
        lines = WHOLE | {
            "benchmark": "{kind: permuted, dataset: synthetic, num_tasks: 2}",
            "baseline": f"{{kind: {kind}}}",
        }
        del lines["mask"]
        path = sweep(place, executor=executor, **lines)
        assert supsup("run", path, f"storage.uri={storage}", "--quiet") == 0
        run, _ = open_run(to_location(str(run_of(place, storage.name))))
        found[kind] = read_baseline(run.layout, run.fingerprint)[1]
    one, other = found.values()
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)
    (place / "own_method.py").write_text(METHOD + "open('it-ran', 'w')")
    for words in ([path, f"storage.uri={storage}"], [run.layout.root]):
        capsys.readouterr()
        assert supsup("run", *words) == 2
        assert "the code of baseline.import_path is" in shown(capsys)
    assert not (place / "it-ran").exists()
    assert supsup("status", run.layout.root) == 0
    assert supsup("verify", run.layout.root) == 0


RAY = "{kind: ray, workers: 1}"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_tasks_of_a_module_survive_sigkill(place):
    """Killed inline and on Ray, with the same masks as undisturbed; workers get the data, not the code."""
    lines = MODULE | {
        "training": "{steps: 60, batch_size: 32, optimizer: {kind: adam, lr: 1.0e-3}, cohort_size: 1}"
    }
    expected = to_its_end(sweep(place, **lines), place, "whole")
    for name, executor in (("inline", "{kind: inline}"), ("ray", RAY)):
        path = sweep(place, executor=executor, **lines)
        assert kill_after_a_mask(path, place / name) < 3
        assert to_its_end(path, place, name) == expected


def to_its_end(path, place, storage):
    process = start_supsup("run", path, f"storage.uri={place / storage}", "--plain")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    return masks(place, storage)
