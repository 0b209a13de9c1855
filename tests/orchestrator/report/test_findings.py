"""A sentence about a run says only what that run has measured."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orchestrator.config.load import load_sweep
from orchestrator.report.build import make_report
from orchestrator.report.data import report_data
from orchestrator.report.findings import (
    bytes_finding,
    inference_warnings,
    is_near_chance,
    mask_warnings,
    overlap_finding,
    scenario_finding,
)
from orchestrator.report.mask_sizes import MaskSizes, Size, is_split_imagenet
from orchestrator.report.tables import print_results, print_sizes
from orchestrator.runs.results import Result, Results, write_report
from storage.mask_info import MaskInfo
from tests.conftest import sweep_text

SWEEPS = Path(__file__).parents[3] / "sweeps"


def by_k(**scenarios):
    return {name: {k: {"accuracy": value} for k, value in found.items()} for name, found in scenarios.items()}


def inferred(k, right, method="one_shot-G-1", best=1.0):
    metrics = {
        "accuracy": right,
        "task_inference_accuracy": right,
        "top_5_task_inference_accuracy": best,
    }
    return Result(scenario="GNu", method=method, num_batches=None, k=k, metrics=metrics)


@pytest.fixture
def data(run):
    return report_data(run)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"GG": {5: 0.90, 10: 0.91}}, "Nothing is forgotten: GG falls by 0.00 points as tasks are added."),
        ({"GG": {5: 0.90, 10: 0.897}}, "Nothing is forgotten: GG falls by 0.30 points as tasks are added."),
        ({"GG": {5: 0.90, 10: 0.61}}, "GG falls by 29.00 points as tasks are added."),
        ({"GG": {10: 0.9}}, ""),
        ({}, ""),
        (
            {"GG": {10: 0.9}, "GNu": {10: 0.898}},
            "Inferring the task costs next to nothing at k = 10: 0.20 points.",
        ),
        ({"GG": {10: 0.9}, "GNu": {10: 0.2}}, "Inferring the task costs 70.00 points at k = 10."),
        ({"GG": {10: 0.9}, "GNu": {5: 0.2}}, ""),
    ],
)
def test_nothing_is_forgotten_only_if_the_accuracy_stays(data, found, words):
    assert scenario_finding(replace(data, by_k=by_k(**found))) == words


@pytest.mark.parametrize(
    ("share", "words"), [(0.5, "more weights"), (0.1, "fewer weights"), (0.3, "about as many weights")]
)
def test_masks_share_what_was_measured(data, share, words):
    overlap = np.full((4, 4), share)
    assert words in overlap_finding(replace(data, overlap=overlap, chance_overlap=0.3))
    assert overlap_finding(replace(data, compared=(0,))) == ""


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [(99, "packed bits goes below it: which weights"), (101, "No encoding here goes below it.")],
)
def test_the_bound_holds_only_if_no_encoding_beats_it(data, num_bytes, words):
    sizes = MaskSizes(
        encodings=(
            Size(encoding="packed bits", num_bytes=num_bytes),
            Size(encoding="entropy", num_bytes=100),
        ),
        num_weights=800,
        num_norm_bytes=0,
    )
    assert words in bytes_finding(replace(data, sizes=sizes))
    assert bytes_finding(replace(data, sizes=None)) == ""


@pytest.mark.parametrize(
    ("right", "k", "is_near"),
    [(0.13, 10, True), (0.22, 10, False), (0.21, 10, True), (0.6, 2, True), (0.76, 2, False),
     (1.0, 1, False), (0.019, 2500, True), (0.03, 2500, False)],
)  # fmt: skip
def test_near_chance_is_twice_chance_and_a_margin(right, k, is_near):
    assert is_near_chance(right, k) == is_near


def test_a_warning_says_what_to_try_and_only_where_inference_guesses():
    assert inference_warnings(Results([inferred(10, 0.9)])) == []
    given = Result(scenario="GG", num_batches=None, k=10, metrics={"accuracy": 0.1})
    (words,) = inference_warnings(Results([given, inferred(5, 0.2), inferred(10, 0.13)]))
    assert words.startswith("GNu, one_shot-G-1 at k = 10: the right task is found in 13.00 %")
    assert "evaluation.inference.images=128" in words
    assert "evaluation.inference.objective=H" in words
    assert "network.outputs" in words
    (words,) = inference_warnings(Results([inferred(10, 0.1, "binary-H-128")]))
    assert "images=128" not in words
    assert "evaluation.inference.objective=G" in words


def shown(run, results):
    screen = io.StringIO()
    print_results(Console(file=screen, width=100), Results(results), ())
    return screen.getvalue()


def test_the_best_five_of_five_tasks_are_not_shown(run):
    assert "in best 5" not in shown(run, [inferred(4, 0.9), inferred(5, 0.9)])
    lines = shown(run, [inferred(5, 0.9), inferred(10, 0.9, best=0.95)]).splitlines()
    (five,) = [line.split() for line in lines if " 5 " in line and "GNu" in line]
    assert five[-1] == "-"
    assert any(line.endswith("95.00 %") for line in map(str.rstrip, lines))


def test_the_warning_is_printed_and_on_the_page(run):
    assert "warning: GNu, one_shot-G-1 at k = 10" in shown(run, [inferred(10, 0.13)])
    assert "warning" not in shown(run, [inferred(10, 0.93)])
    write_report(run, Results([inferred(10, 0.13)]))
    assert '<p class="warning">GNu, one_shot-G-1' in make_report(run.layout.root).files[-1].read_text()
    write_report(run, Results([inferred(10, 0.93)]))
    assert '<p class="warning">' not in make_report(run.layout.root).files[-1].read_text()


def test_the_papers_bytes_are_shown_only_for_its_experiment(run, data, tmp_path):
    made = make_report(run.layout.root)
    assert not made.is_of_paper
    assert "SplitImageNet" not in made.files[-1].read_text()
    for is_of_paper in (False, True):
        screen = io.StringIO()
        print_sizes(Console(file=screen, width=100), data.sizes, is_of_paper=is_of_paper)
        assert ("SplitImageNet" in screen.getvalue()) == is_of_paper
        assert ("within 11 %" in screen.getvalue()) == is_of_paper
    assert not is_split_imagenet(run.config)
    shipped = load_sweep(SWEEPS / "split_imagenet.yaml")
    assert is_split_imagenet(shipped)
    path = tmp_path / "other.yaml"
    other = {
        "network": "{kind: resnet50, outputs: 10}",
        "benchmark": "{kind: split, dataset: cifar100, num_tasks: 10}",
        "mask": "{rule: top_k, density: 0.1}",
    }
    path.write_text(sweep_text(tmp_path, **other))
    assert not is_split_imagenet(load_sweep(path))


def info(task, density):
    return MaskInfo(
        task=task, digest="d", density=density, test_accuracy=0.1, train_loss=2.3, train_seconds=1.0, num_bytes=8,
        encoding="bits", num_norm_bytes=0, file="f", worker="w", started_s=1.0, finished_s=2.0,
    )  # fmt: skip


def test_masks_that_keep_nothing_are_said():
    assert mask_warnings([info(0, 0.5), info(1, 0.01)]) == []
    (words,) = mask_warnings([info(0, 0.0), info(1, 0.5), info(2, 0.0)])
    assert words.startswith("training diverged: the masks of tasks 0, 2 keep no weight")
    assert "training.optimizer.lr" in words
