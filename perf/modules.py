"""Speed of training masks over modules, relative to a plain PyTorch loop on the same network.

python perf/modules.py [--device cuda]: GEM ResNet-18, 128 images of 32 x 32, one thread on a CPU.
The plain loop trains weights: forward, backward, ``torch.optim.Adam``. Medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from core.networks.base import draw_weights
from core.networks.module import make_network
from core.specs.network import MaskSpec, NetworkSpec
from core.specs.training import OptimizerSpec
from core.training.modules import mask_gradients
from core.training.optimizers import Optimizer
from core.training.selection import kept_by_layer, mask_of, score_gradient

BATCH, SHAPE, CLASSES, REPEATS = 128, (3, 32, 32), 5, 5
RULE = MaskSpec(rule="top_k", density_multiplier=16.0)


def main() -> None:
    """Print a row per method."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tasks", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    plain_s = _median(_plain(device), device)
    print("| way | ms a step and task | ratio to the plain loop |\n| --- | --- | --- |")
    print(f"| plain PyTorch, weights | {1000 * plain_s:.0f} | 1.00 |")
    for num_tasks in (1, arguments.tasks):
        step_s = _median(_masked(device, num_tasks), device) / num_tasks
        print(f"| masks, {num_tasks} at once | {1000 * step_s:.0f} | {step_s / plain_s:.2f} |")
    scores = torch.randn(1, 1_000_000, device=device)
    for name, top_k in (("selection", lambda: mask_of(scores, 40_000)), ("full sort", scores.abs().sort)):
        print(f"| top-k of a million scores by {name} | {1000 * _median(top_k, device):.1f} | |")


def _plain(device: torch.device) -> Callable[[], object]:
    network = make_network(NetworkSpec(kind="gem_resnet18", outputs=CLASSES), SHAPE, device)
    module, (x, labels) = network.module.to(device), _batch(device, 1)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x[0]), labels[0]).backward()
        optimizer.step()

    return step


def _masked(device: torch.device, num_tasks: int) -> Callable[[], object]:
    network = make_network(NetworkSpec(kind="gem_resnet18", outputs=CLASSES), SHAPE, device)
    base = [torch.from_numpy(w).to(device) for w in draw_weights(network.shapes, seed=0)]
    kept, optimizer = kept_by_layer(RULE, network.shapes), Optimizer(OptimizerSpec(kind="adam"))
    scores = [torch.randn(num_tasks, *w.shape, device=device) for w in base]
    buffers = [optimizer.buffers(layer) for layer in scores]
    statistics_KS = network.start_statistics(device).repeat(num_tasks, 1)
    x, labels = _batch(device, num_tasks)
    count = torch.zeros((), dtype=torch.float64, device=device)

    def step() -> None:
        masks = [mask_of(layer, number) for layer, number in zip(scores, kept, strict=True)]
        grads, _, _ = mask_gradients(network, x, labels, base, masks, statistics_KS=statistics_KS)
        count.add_(1)
        for layer, grad in enumerate(grads):
            by_score = score_gradient(grad, scores[layer], kept[layer])
            optimizer.update(scores[layer], by_score, buffers[layer], count)

    return step


def _batch(device: torch.device, num_tasks: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(num_tasks * BATCH, *SHAPE, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (num_tasks, BATCH), device=device)
    return x.view(num_tasks, BATCH, *SHAPE), labels


def _median(step: Callable[[], object], device: torch.device) -> float:
    step()
    times = []
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


if __name__ == "__main__":
    main()
