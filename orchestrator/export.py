"""Export masks as safetensors files, readable without this package.

``network.safetensors``: base weights by layer name. ``task-<i>.safetensors`` (``mask-<i>``, with its
task in the metadata, if trained without task identity): boolean masks by layer name, and
``input_gather`` or ``input_permutation`` if the benchmark moves pixels.
Task input = image.flatten()[input_permutation], then (pixel / scale - mean) / std
with scale, mean and std from the metadata of ``network.safetensors``.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from core.data.benchmarks import input_gather
from core.data.datasets import normalisation
from core.data.task_images import task_images
from core.errors import RunFolderError
from core.masks.bits import unpack
from core.networks.base import draw_weights
from core.networks.module import statistics_slices
from orchestrator.images import write_png
from orchestrator.runs.dataset import run_dataset
from orchestrator.runs.run import Run
from orchestrator.stages import training_stage
from storage.files import commit
from storage.mask_store import TaskMask
from storage.run_file import read_run


def export_run(run: Run, folder: Path, tasks: Iterable[int]) -> int:
    """Write the network and the masks of ``tasks``; return the number of masks. Raises RunFolderError."""
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"--out {folder} is a file; give a folder")
    wanted = list(tasks)
    files = run.store.locate()
    missing = [task for task in wanted if task not in files]
    gone = files.forgotten.intersection(missing)
    if gone:
        raise RunFolderError(f"{run.layout.root}: task {min(gone)} was forgotten, so it has no mask")
    if missing:
        raise RunFolderError(
            f"{run.layout.root} has no mask of task {missing[0]} ({len(missing)} missing); run the sweep first"
        )
    _save_network(run, folder / "network.safetensors")
    homes = training_stage(run.config).homes(run)
    for stored in run.store.iterate(wanted, files):
        task = stored.task if homes is None else homes[stored.task]
        _save_task(
            run, stored, task, folder / f"{'task' if homes is None else 'mask'}-{stored.task}.safetensors"
        )
    return len(wanted)


def export_test_images(
    run: Run, folder: Path, tasks: Iterable[int], num_images: int, data_folder: Path | None
) -> int:
    """Write the first test images of each task, as the task sees them; return their number.

    ``task-<i>-test-<j>-class-<label>.png``, the input of ``supsup infer``.
    """
    spec, num_written = run.config.benchmark, 0
    dataset = run_dataset(run, read_run(run.layout), data_folder)
    for task in tasks:
        images, labels = task_images(spec, dataset, task, seed=run.config.seed, num=num_images)
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            name = f"task-{task}-test-{number}-class-{label}.png"
            commit(folder / name, partial(write_png, image=image, scale=dataset.scale))
            num_written += 1
    return num_written


def _save_network(run: Run, path: Path) -> None:
    spec = run.config.run_spec()
    weights = draw_weights([layer.shape for layer in run.layers], seed=spec.seed)
    names = [layer.name for layer in run.layers]
    scale, mean, std = normalisation(spec.benchmark)
    metadata = {
        "fingerprint": run.fingerprint,
        "dataset": spec.benchmark.dataset,
        "layer_order": ",".join(names),
        "activation": spec.network.traits.activation.format(kind=spec.network.kind),
        "scale": repr(scale),
        "mean": repr(mean),
        "std": repr(std),
    }
    _save(dict(zip(names, weights, strict=True)), path, metadata)


def _save_task(run: Run, stored: TaskMask, task: int, path: Path) -> None:
    names = run.identity.names
    tensors: dict[str, Any] = dict(zip(names, unpack(stored.bits, run.identity.shapes), strict=True))
    spec = run.config.benchmark
    if spec.kind != "split":
        gather = input_gather(spec, spec.image_shape, task, seed=run.config.seed)
        # A rotation leaves blank pixels (index = number of pixels), so it is not a permutation.
        tensors["input_permutation" if spec.kind == "permuted" else "input_gather"] = gather
    _save(tensors | _statistics(run, stored), path, {"task": str(task), "fingerprint": run.fingerprint})


def _statistics(run: Run, stored: TaskMask) -> dict[str, Any]:
    """Return the running statistics of a task by the names of their torch buffers."""
    values = np.frombuffer(stored.norm_stats or b"", dtype="<f4")
    norms = run.identity.network.get("norms", ())
    return {name: values[span].copy() for name, span in statistics_slices(norms)}


def _save(tensors: dict[str, np.ndarray[Any, Any]], path: Path, metadata: dict[str, str]) -> None:
    commit(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
