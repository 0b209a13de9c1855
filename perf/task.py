"""Training one task on one core, compared with its matrix products and with a plain loop."""

import statistics
import time
from collections.abc import Callable

import torch
from cases import Row, median_seconds, network_layers, paper_spec, step_flop
from plain_loop import data_loader_loop, tensor_loop

from core.batches.problem import Problem
from core.data.datasets import Dataset
from core.specs.training import Engine
from core.training.choose_engine import has_compiler
from core.training.cohort import train_cohort
from core.training.engine import make_step

REPEATS = 5


def rows(dataset: Dataset) -> list[Row]:
    """Measure engines and loops in turn, ``REPEATS`` times, each with the products alone."""
    torch.set_num_threads(1)
    spec = paper_spec()
    steps, flop = spec.training.num_steps, step_flop(spec)
    found: dict[str, list[tuple[float, float]]] = {}
    engines: list[Engine] = ["fused", "eager", *(["compiled"] if has_compiler(on_gpu=False) else [])]
    loops: dict[str, Callable[[], float]] = {engine: _engine(dataset, engine) for engine in engines}
    loops["plain loop, one tensor"] = lambda: tensor_loop(dataset, 200)
    loops["plain loop, DataLoader"] = lambda: data_loader_loop(dataset, 100)
    for engine in engines:
        loops[engine]()  # compiles
    for _ in range(REPEATS):
        for name, loop in loops.items():
            floor_s = products_seconds()
            found.setdefault(name, []).append((loop(), floor_s))
    table = []
    for name, pairs in found.items():
        step_s = statistics.median(step for step, _ in pairs)
        floor_s = statistics.median(floor for _, floor in pairs)
        share = statistics.median(floor / step for step, floor in pairs)
        what = f"a task of {steps} steps, data included: {name}"
        limit = f"its products alone, {1000 * floor_s:.2f} ms ({flop / floor_s / 1e9:.0f} GFLOP/s)"
        table.append(Row(what, f"{1000 * step_s:.2f} ms a step", limit, f"{share:.0%}"))
    ours = [step for step, _ in found["fused"]]
    for name in ("plain loop, one tensor", "plain loop, DataLoader"):
        times = statistics.median(step / own for (step, _), own in zip(found[name], ours, strict=True))
        table.append(Row(f"fused, against: {name}", "", "", f"{times:.1f} x"))
    return table


def products_seconds() -> float:
    """Return the seconds of one step's products, each timed alone with its operands in cache."""
    total_s, batch = 0.0, paper_spec().training.batch_size
    for index, layer in enumerate(network_layers(paper_spec())):
        outputs, inputs = layer.shape
        h, w, d = torch.randn(batch, inputs), torch.randn(outputs, inputs), torch.randn(batch, outputs)
        products = [(h, w.T), (d.T, h)] + ([(d, w)] if index else [])
        total_s += sum(median_seconds(lambda a=a, b=b: torch.mm(a, b), 50) for a, b in products)
    return total_s


def _engine(dataset: Dataset, engine: Engine) -> Callable[[], float]:
    """Return a function that trains one task and returns the seconds per step, without testing."""
    spec = paper_spec()
    step, problem = make_step(spec.training, engine), Problem(spec, dataset)

    def train() -> float:
        start_s = time.perf_counter()
        train_cohort(problem, [0], step=step)
        return (time.perf_counter() - start_s) / spec.training.num_steps

    return train
