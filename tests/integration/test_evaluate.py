"""Stored masks evaluated with the task inferred: tables, resume, other settings, images from files."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from core.data.benchmarks import task_view
from core.data.datasets import load_dataset
from core.errors import InferenceError
from orchestrator.config.load import load_sweep
from orchestrator.images import read_images
from orchestrator.predict import load_predictor
from orchestrator.runs.made_from import table_sources
from orchestrator.runs.run import locate_run
from storage.layout import TableKey
from storage.parts import PartsOf, stored_tasks
from storage.summary import read_summary
from tests.conftest import supsup, sweep_text

SUPSUP = Path(sys.executable).with_name("supsup")
ALL = "{scenarios: [GG, GNs, GNu], at: [2, 4], inference: {objective: H}}"


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text(tmp_path / "runs", evaluation=ALL))
    assert supsup("run", path) == 0
    return locate_run(load_sweep(path))


def table(run, name: str):
    return pq.read_table(run.layout.evaluations / f"{name}.parquet")


def summary(run):
    return read_summary(run.layout.summary)[0]


def tables(run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.layout.evaluations.glob("*.parquet")}


def test_one_run_gives_the_tables_of_every_scenario_and_k(run):
    names = {f"{scenario}-one_shot-H-1-{k}.parquet" for scenario in ("GNs", "GNu") for k in (2, 4)}
    assert set(tables(run)) == names | {"GG-2.parquet", "GG-4.parquet"}
    assert not (run.layout.evaluations / "parts").exists()
    metadata = table(run, "GNu-one_shot-H-1-4").schema.metadata
    assert {key.decode(): value.decode() for key, value in metadata.items()} == {
        "supsup.scenario": "GNu",
        "supsup.algorithm": "one_shot",
        "supsup.objective": "H",
        "supsup.images": "1",
        "supsup.batches": "all",
        "supsup.k": "4",
        "supsup.fingerprint": run.fingerprint,
        "supsup.masks": table_sources(run).masks(4),
        "supsup.checksum": metadata[b"supsup.checksum"].decode(),
    }


def test_the_scenarios_agree_with_each_other(run):
    given, shared, unshared = (
        table(run, name).to_pandas() for name in ("GG-4", "GNs-one_shot-H-1-4", "GNu-one_shot-H-1-4")
    )
    keys = ["task", "batch", "first_image", "num_images"]
    assert given[keys].equals(shared[keys])
    assert shared["inferred_task"].equals(unshared["inferred_task"])
    right = shared["inferred_task"] == shared["task"]
    assert (unshared["num_correct"][~right] == 0).all()
    assert (unshared["num_correct"][right] == given["num_correct"][right]).all()
    assert (shared["num_correct"] >= unshared["num_correct"]).all()
    assert ((shared["rank"] == 1) == right).all()
    assert right.mean() > 0.4  # chance is 0.25


def test_the_summary_is_what_the_tables_say(run):
    found = summary(run)
    assert set(found) == {"GG", "GNs", "GNu"}
    for k in (2, 4):
        rows = table(run, f"GNu-one_shot-H-1-{k}").to_pandas()
        by_task = rows.groupby("task")[["num_correct", "num_images"]].sum()
        accuracy = (by_task["num_correct"] / by_task["num_images"]).mean()
        right = (rows["task"] == rows["inferred_task"]).groupby(rows["task"]).mean().mean()
        metrics = found["GNu"]["one_shot-H-1"][str(k)]
        assert metrics["accuracy"] == pytest.approx(accuracy)
        assert metrics["task_inference_accuracy"] == pytest.approx(right)
        assert metrics["accuracy"] <= found["GG"][str(k)]["accuracy"] + 1e-12


def test_the_confusion_table_counts_every_inference(run):
    confusion = pq.read_table(run.layout.confusion(TableKey("one_shot-H-1", 4))).to_pandas()
    assert confusion["num_inferences"].sum() == 4 * 2
    assert confusion["num_images"].sum() == 4 * 200
    right = confusion[confusion["task"] == confusion["inferred_task"]]["num_inferences"].sum()
    rows = table(run, "GNu-one_shot-H-1-4").to_pandas()
    assert right == (rows["task"] == rows["inferred_task"]).sum()


def test_evaluate_adds_to_a_finished_run_and_trains_nothing(run, capsys):
    masks = {path: path.stat().st_mtime_ns for path in run.store.files()}
    before, was = tables(run), summary(run)
    assert supsup("evaluate", run.layout.root, "evaluation.inference.objective=G", "evaluation.at=[3]") == 0
    assert "one_shot-G-1" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.store.files()} == masks
    assert before.items() <= tables(run).items()
    now = summary(run)
    assert now["GNu"]["one_shot-H-1"] == was["GNu"]["one_shot-H-1"]
    assert set(now["GNu"]["one_shot-G-1"]) == {"3"}


def test_evaluate_asks_for_gnu_where_the_run_asked_for_gg_alone(sweep, tmp_path):
    assert supsup("run", sweep) == 0
    run = locate_run(load_sweep(sweep))
    assert supsup("evaluate", run.name, "--storage", tmp_path / "runs") == 0
    assert set(summary(run)["GNu"]) == {"one_shot-G-1"}


@pytest.mark.parametrize(
    ("settings", "label", "rows_per_task"),
    [
        (["algorithm=binary", "images=128"], "binary-H-128", 2),
        (["algorithm=exhaustive", "images=7"], "exhaustive-H-7", 2),
        (["algorithm=shortlist"], "shortlist-H-1", 2),
        (["images=each"], "one_shot-H-each", 200),
    ],
)
def test_every_way_of_inference_has_its_own_table(run, capsys, settings, label, rows_per_task):
    words = [f"evaluation.inference.{setting}" for setting in settings]
    assert supsup("evaluate", run.layout.root, *words) == 0
    found = table(run, f"GNu-{label}-4").to_pandas()
    assert len(found) == 4 * rows_per_task
    assert found.groupby("task")["num_images"].sum().tolist() == [200] * 4
    assert (found["task"] == found["inferred_task"]).mean() > 0.4
    shown = capsys.readouterr().out
    assert ("agrees with the exact answer in 100.00 % of the sampled inferences" in shown) == (
        label == "shortlist-H-1"
    )


def test_only_the_first_batches_when_asked(run):
    assert supsup("evaluate", run.layout.root, "evaluation.batches=1") == 0
    assert len(table(run, "GNu-one_shot-H-1-4-b1")) == 4
    assert set(summary(run)) == {"GG", "GNs", "GNu", "GG-b1", "GNs-b1", "GNu-b1"}


def test_a_second_evaluation_infers_nothing(run, sweep, capsys):
    written = {path: path.stat().st_mtime_ns for path in run.layout.evaluations.glob("*.parquet")}
    shutil.rmtree(run.layout.banks)
    assert supsup("evaluate", run.layout.root) == 0
    assert not run.layout.banks.exists()
    assert "inferring" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.layout.evaluations.glob("*.parquet")} == written


def test_a_damaged_table_and_a_lost_bank_are_made_again_as_they_were(run):
    before = tables(run)
    path = run.layout.evaluations / "GNu-one_shot-H-1-4.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    shutil.rmtree(run.layout.banks)
    assert supsup("evaluate", run.layout.root) == 0
    assert tables(run) == before


def many_tasks(tmp_path: Path) -> Path:
    """Train 40 tiny tasks and return the run folder, evaluated for GG alone."""
    path = tmp_path / "many.yaml"
    benchmark = "{kind: permuted, dataset: synthetic, num_tasks: 40}"
    training = "{steps: 5, batch_size: 16, optimizer: {kind: rmsprop, lr: 1.0e-2}, cohort_size: 8}"
    path.write_text(
        sweep_text(tmp_path / "runs", benchmark=benchmark, training=training, evaluation="{at: [40]}")
    )
    assert supsup("run", path) == 0
    return locate_run(load_sweep(path)).layout.root


def parts(root: Path) -> list[Path]:
    return sorted(root.glob("evaluations/parts/*/tasks-*.parquet"))


SLOW = ["evaluation.scenarios=[GNs,GNu]", "evaluation.at=[40]", "evaluation.inference.algorithm=binary",
        "evaluation.inference.images=each", "evaluation.batches=1"]  # fmt: skip


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_killed_evaluation_resumes_and_gives_the_same_tables(tmp_path, executor, capsys):
    root = many_tasks(tmp_path)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(root, undisturbed)
    assert supsup("evaluate", undisturbed, *SLOW) == 0
    how = [f"executor.kind={executor}", *(["executor.workers=2"] if executor == "ray" else [])]
    command = [SUPSUP, "evaluate", root, *SLOW, *how]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        deadline_s = time.monotonic() + 120
        while not parts(root) and process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        _kill_all(process)
    kept = {path: path.stat().st_mtime_ns for path in parts(root)}
    assert 1 <= len(kept) < 5
    capsys.readouterr()
    assert supsup("evaluate", root, *SLOW, *how) == 0
    assert f"{sum(_num_tasks(path) for path in kept)}/40 tasks" in capsys.readouterr().out
    made = {path.name: path.read_bytes() for path in (root / "evaluations").glob("*.parquet")}
    assert made == {path.name: path.read_bytes() for path in (undisturbed / "evaluations").glob("*.parquet")}
    assert not parts(root)
    assert not list(root.rglob(".*.tmp"))


def _kill_all(process: subprocess.Popen) -> None:
    """Kill the process and its children, and see them gone: Ray's outlive the group for a moment."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=30)


def _num_tasks(part: Path) -> int:
    first, last = part.stem.split("-")[1:]
    return int(last) - int(first) + 1


def test_a_damaged_part_is_inferred_again(run):
    before = tables(run)
    (run.layout.evaluations / "GNu-one_shot-H-1-4.parquet").unlink()
    key = TableKey("one_shot-H-1", 4)
    part = run.layout.evaluation_part(key, 0, 3)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    masks = table_sources(run).masks(4)
    assert stored_tasks(PartsOf(run.layout, run.fingerprint, key, masks)) == set()
    assert supsup("evaluate", run.layout.root) == 0
    assert tables(run) == before


def exported(run, tmp_path, capsys) -> list[Path]:
    assert supsup("export", run.layout.root, "--out", tmp_path / "out", "--test-images", 3) == 0
    assert "wrote 12 test images" in capsys.readouterr().out
    return sorted((tmp_path / "out").glob("task-*-test-*.png"))


def test_infer_names_task_and_class_of_image_files(run, tmp_path, capsys):
    files = exported(run, tmp_path, capsys)
    assert supsup("infer", run.layout.root, *files, "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["image"] for answer in answers] == [str(path) for path in files]
    right = [
        answer["task"] == int(path.name.split("-")[1]) for answer, path in zip(answers, files, strict=True)
    ]
    assert np.mean(right) > 0.4
    for answer in answers:
        assert 0 < answer["confidence"] <= 1
        assert len(answer["best"]) == 4
        first = answer["best"][0]
        assert (first["task"], first["class"]) == (answer["task"], answer["class"])
        assert [c["value"] for c in answer["best"]] == sorted(c["value"] for c in answer["best"])
    assert supsup("infer", run.layout.root, files[0]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "next best" in shown


def test_infer_in_three_lines_of_python_gives_the_same(run, tmp_path, capsys):
    files = exported(run, tmp_path, capsys)
    dataset = load_dataset("synthetic")
    predictor = load_predictor(run.layout.root)
    for path in files:
        task, row = int(path.stem.split("-")[1]), int(path.stem.split("-")[3])
        gather = task_view(run.config.benchmark, dataset, task, seed=run.config.seed).input_gather
        (answer,) = predictor.infer(dataset.test_images[row].reshape(-1)[gather].reshape(6, 6))
        assert supsup("infer", run.layout.root, path, "--json") == 0
        (shown,) = json.loads(capsys.readouterr().out)
        assert (answer.task, answer.label) == (shown["task"], shown["class"])
        assert answer.confidence == pytest.approx(shown["confidence"], abs=1e-6)


def test_infer_searches_the_first_k_tasks_as_asked(run, tmp_path, capsys):
    (file, *_) = exported(run, tmp_path, capsys)
    for words in (["--k", 2], ["--k", 2, "--algorithm", "exhaustive", "--objective", "G"]):
        assert supsup("infer", run.layout.root, file, "--json", *words) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert {candidate["task"] for candidate in answer["best"]} == {0, 1}


def test_with_the_task_given_the_class_is_that_under_its_mask(run, tmp_path, capsys):
    files, predictor = exported(run, tmp_path, capsys), load_predictor(run.layout.root)
    images = np.concatenate([read_images(path, (6, 6), predictor.scale) for path in files])
    inferred = predictor.infer(images)
    for task in range(4):
        assert supsup("infer", run.layout.root, *files, "--task", task, "--json") == 0
        answers = json.loads(capsys.readouterr().out)
        assert [answer["image"] for answer in answers] == [str(path) for path in files]
        for shown, answer in zip(answers, inferred, strict=True):
            (same,) = [candidate for candidate in answer.best if candidate.task == task]
            assert (shown["task"], shown["class"]) == (task, same.label)
            assert shown["confidence"] == pytest.approx(same.confidence, abs=1e-6)
            assert "best" not in shown
    assert supsup("infer", run.layout.root, files[0], "--task", 2) == 0
    assert "next best" not in capsys.readouterr().out


def test_each_image_can_have_a_task_of_its_own(run):
    predictor, draw = load_predictor(run.layout.root), np.random.default_rng(0)
    images, tasks = draw.integers(0, 256, (9, 6, 6)), draw.integers(0, 4, 9)
    found = predictor.classify(images, tasks)
    assert [one.task for one in found] == tasks.tolist()
    for image, task, one in zip(images, tasks.tolist(), found, strict=True):
        (alone,) = predictor.classify(image, task)
        assert one.label == alone.label
        assert one.confidence == pytest.approx(alone.confidence, abs=1e-6)
    for wrong in (4, -1, [0, 1], 1.0, [0] * 8 + [4], "two"):
        with pytest.raises(InferenceError, match="task: found"):
            predictor.classify(images, wrong)


def test_images_together_have_the_answers_of_each_alone(run):
    """Bit for bit, by every algorithm."""
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6))
    for algorithm in ("one_shot", "shortlist", "binary", "exhaustive"):
        predictor = load_predictor(run.layout.root, algorithm=algorithm, objective="H")
        assert predictor.infer(images) == [predictor.infer(image)[0] for image in images]


@pytest.mark.ray
def test_infer_from_shards_on_ray_answers_as_one_process(run, tmp_path, capsys, local_ray):
    files = exported(run, tmp_path, capsys)
    found = []
    for words in ([], ["--shards", 1], ["--shards", 2]):
        assert supsup("infer", run.layout.root, *files, "--json", *words) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] == found[2]


def refused(capsys, run, *arguments, words=()):
    before = sorted(run.layout.root.rglob("*"))
    assert supsup(*arguments) == 2
    shown = capsys.readouterr()
    told = " ".join((shown.err + shown.out).split())
    assert "Traceback" not in told
    for word in words:
        assert word in told, told
    assert sorted(run.layout.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("seed=1", ["seed: cannot be changed here", "evaluation"]),
        ("network.outputs=9", ["network: cannot be changed here"]),
        ("evaluation.inference.objective=F", ["evaluation.inference.objective", "'E'", "'H'"]),
        ("evaluation.inference.algorithm=oneshot", ["did you mean 'one_shot'"]),
        ("evaluation.inference.images=0", ["evaluation.inference.images", "1 to 128"]),
        ("evaluation.inference.images=129", ["129"]),
        ("evaluation.scenarios=[]", ["evaluation.scenarios"]),
        ("evaluation.scenarios=[NNs]", ["'NNs'", "GG, GNs, GNu"]),
        ("evaluation.at=[0]", ["evaluation.at"]),
    ],
)
def test_wrong_settings_of_evaluate(run, capsys, setting, words):
    capsys.readouterr()
    refused(capsys, run, "evaluate", run.layout.root, setting, words=words)


def test_wrong_images_and_numbers_for_infer(run, tmp_path, capsys):
    np.save(tmp_path / "nan.npy", np.full((6, 6), np.nan))
    np.save(tmp_path / "big.npy", np.zeros((7, 6)))
    np.save(tmp_path / "good.npy", np.zeros((6, 6)))
    root = run.layout.root
    for arguments, words in (
        (["nan.npy"], ["nan.npy", "not finite numbers"]),
        (["good.npy", "big.npy"], ["big.npy", "found 7 x 6 pixels, the network takes 6 x 6"]),
        (["nowhere.png"], ["nowhere.png", "No such file"]),
        (["good.npy", "--k", "5"], ["k: found 5, expected a number from 1 to 4"]),
        (["good.npy", "--k", "0"], ["--k"]),
        (["good.npy", "--objective", "K"], ["evaluation.inference.objective", "'K'"]),
    ):
        files = [tmp_path / word if str(word).endswith(("npy", "png")) else word for word in arguments]
        capsys.readouterr()
        refused(capsys, run, "infer", root, *files, words=words)


def test_a_run_without_masks_is_said(run, tmp_path, capsys):
    shutil.rmtree(run.layout.masks)
    shutil.rmtree(run.layout.banks)
    np.save(tmp_path / "good.npy", np.zeros((6, 6)))
    capsys.readouterr()
    refused(capsys, run, "infer", run.layout.root, tmp_path / "good.npy", words=["has no mask of task 0"])
    refused(capsys, run, "evaluate", run.layout.root, words=["has no mask of task 0"])


def test_k_beyond_the_trained_tasks_is_said_and_the_rest_is_evaluated(run, capsys):
    run.layout.cohort(2, 3).unlink()
    capsys.readouterr()
    assert supsup("evaluate", run.layout.root, "evaluation.inference.objective=G") == 1
    shown = capsys.readouterr().out
    assert "not evaluated at k = 4: 2 tasks are trained" in shown
    assert set(summary(run)["GNu"]["one_shot-G-1"]) == {"2"}
