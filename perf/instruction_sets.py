"""Mask bits that differ between vector instructions, and what holding them back costs.

Trains the same tasks in processes that differ only in the environment variables of MKL, torch and numba:

    PYTHONPATH=. python perf/instruction_sets.py /path/to/data digits fused
    PYTHONPATH=. python perf/instruction_sets.py /path/to/data paper fused
    PYTHONPATH=. python perf/instruction_sets.py /path/to/data paper time
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ATEN = {"ATEN_CPU_CAPABILITY": "default"}
MKL = {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
NUMBA = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"}
SAME = {"MKL_CBWR": "COMPATIBLE"}
SETTINGS: dict[str, dict[str, str]] = {
    "nothing set": {},
    "torch default": ATEN,
    "MKL SSE4_2": MKL,
    "numba x86-64": NUMBA,
    "all three": ATEN | MKL | NUMBA,
    "MKL_CBWR=AUTO": {"MKL_CBWR": "AUTO"},
    "MKL_CBWR=AUTO,STRICT": {"MKL_CBWR": "AUTO,STRICT"},
    "MKL_CBWR=AVX2": {"MKL_CBWR": "AVX2"},
    "MKL_CBWR=AVX2,STRICT": {"MKL_CBWR": "AVX2,STRICT"},
    "COMPATIBLE": SAME,
    "COMPATIBLE, all three": SAME | ATEN | MKL | NUMBA,
    "COMPATIBLE, torch default": SAME | ATEN,
}
TIMED = ("nothing set", "torch default", "COMPATIBLE", "COMPATIBLE, torch default")
RECIPES: dict[str, tuple[Any, int, int]] = {
    "digits": ("digits", 100, 3),
    "paper": ("mnist", 500, 2),
}  # data set, outputs, tasks
ROUNDS, TIMED_STEPS = 3, 200


def main(folder: str, recipe: str, engine: str) -> None:
    """Print the bits that differ with ``engine``, or, if that is ``time``, the seconds per step."""
    if engine == "time":
        _time(recipe, folder)
    else:
        _compare(recipe, engine, folder)


def _time(recipe: str, folder: str) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in TIMED}
    for _ in range(ROUNDS):
        for name in TIMED:
            seconds[name].append(_child(recipe, "fused", TIMED_STEPS, folder, SETTINGS[name])[0])
    print(f"ms a step, {recipe}, fused; median ratio to the first of the same round")
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, seconds[TIMED[0]], strict=True))
        print(f"| {name} | {1000 * statistics.median(taken):.2f} | {ratio:.2f} |", flush=True)


def _compare(recipe: str, engine: str, folder: str) -> None:
    import numpy as np

    masks: dict[str, Any] = {}
    print(f"{recipe}, {engine}: bits that differ from the first row, by task")
    for name in SETTINGS if recipe == "digits" else TIMED:
        masks[name] = _child(recipe, engine, 1000, folder, SETTINGS[name])[1]
        bits = [int(np.sum(a != b)) for a, b in zip(masks["nothing set"], masks[name], strict=True)]
        print(f"| {name} | {bits} of {masks[name].shape[1]} |", flush=True)


def _child(recipe: str, engine: str, steps: int, folder: str, variables: dict[str, str]) -> tuple[float, Any]:
    """Train in a process with ``variables``; return the seconds per step and bool masks [K, weights]."""
    import numpy as np

    with tempfile.TemporaryDirectory() as kept:
        path = Path(kept, "masks.npy")
        command = [sys.executable, __file__, "--train", recipe, engine, str(steps), folder, str(path)]
        shown = subprocess.run(
            command, env=os.environ | variables, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        return json.loads(shown.splitlines()[-1]), np.load(path)


def train(recipe: str, engine: Any, steps: int, folder: str, path: str) -> None:
    """Train the tasks of ``recipe`` here, on one thread."""
    import numpy as np
    import torch

    from core.batches.problem import Problem
    from core.data.datasets import load_dataset
    from core.specs.benchmark import BenchmarkSpec
    from core.specs.network import NetworkSpec
    from core.specs.run import RunSpec
    from core.specs.training import OptimizerSpec, TrainingSpec
    from core.training.cohort import train_cohort
    from core.training.engine import make_step

    torch.set_num_threads(1)
    dataset, outputs, num_tasks = RECIPES[recipe]
    spec = RunSpec(
        seed=0,
        benchmark=BenchmarkSpec(kind="permuted", dataset=dataset, num_tasks=num_tasks),
        network=NetworkSpec(kind="lenet_300_100", outputs=outputs),
        training=TrainingSpec(steps=steps, optimizer=OptimizerSpec(kind="rmsprop")),
    )
    problem = Problem(spec, load_dataset(dataset, Path(folder)))
    step = make_step(spec.training, engine)
    result = train_cohort(problem, list(range(num_tasks)), step=step)
    layers = [np.asarray(layer).reshape(num_tasks, -1) for layer in result.masks]
    np.save(path, np.concatenate(layers, axis=1))
    print(json.dumps(result.train_seconds / steps))


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:])
    else:
        main(*sys.argv[1:])
