"""Recovery of a mask by a search that stays among the stored ones (ours, not the paper's).

The descent of ``recovery`` leaves the stored masks at once: most of the entropy's gradient lies
outside of their span. Psi, whose largest eigenvectors span them, takes it back: with g the gradient of
the entropy, Psi g is a sum of stored masks, each weighted by how far it lowers the entropy. So, with
scores s that start at the mean of the stored z, and real-valued masks m = (clip(s, -1, 1) + 1) / 2:

    s <- s - lr v,   v <- momentum v + (1 - t/T) Psi dH/dm + gamma (t/T) dE/dm + weight_decay s

After T steps the neurons follow their fields to a fixed point, a candidate. The next search starts at
the mean of the masks that are not yet found, (k mean - sum of found) / (k - number found), and descends
at right angles to those found (deflation). The candidate whose outputs have the lowest entropy wins.
No true mask and no label is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.hopfield.memory import HopfieldLayer, HopfieldMemory, settle, signs
from core.hopfield.network import forward_masked
from core.inference.objectives import entropy
from core.specs.inference import HopfieldSpec
from core.training.optimizers import Optimizer

NUM_JUDGING = 512  # images whose entropy ranks the candidates

Layers = tuple[Tensor, ...]  # float32 [D] per masked layer
OnDescent = Callable[[Layers, float, float], None]  # scores before a step, energy, entropy


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A fixed point of the memory, z in {-1, +1}. entropy: of the judging images under it, nats."""

    z: Layers
    entropy: float


def num_searches(spec: HopfieldSpec, memory: HopfieldMemory) -> int:
    """Return how many searches follow one another: one for each candidate, at most one for each stored mask."""
    return max(1, min(spec.candidates, memory.num_masks))


def search_stored(
    spec: HopfieldSpec,
    memory: HopfieldMemory,
    batches: Sequence[Tensor],
    base: Sequence[Tensor],
    on_descent: OnDescent,
) -> list[Candidate]:
    """Return the candidates in the order in which they were found; at most one per stored mask.

    batches: the images of each step, float32 [B, I].
    """
    device = base[0].device
    psi = tuple(torch.from_numpy(layer.psi).to(device) for layer in memory.layers)
    total = tuple(torch.from_numpy(layer.total).to(device).float() for layer in memory.layers)
    candidates: list[Candidate] = []
    for _ in range(num_searches(spec, memory)):
        found = [candidate.z for candidate in candidates]
        descent = _Descent(spec, psi, batches, base, _spans(found))
        scores = descent.run(_mean_of_the_rest(total, memory.num_masks, found), on_descent)
        z = tuple(_rest(*one) for one in zip(memory.layers, scores, strict=True))
        candidates.append(Candidate(z=z, entropy=_judge(batches, base, z)))
    return candidates


def _mean_of_the_rest(total: Layers, num_masks: int, found: Sequence[Layers]) -> list[Tensor]:
    return [
        (total_D - sum(z[layer] for z in found)) / (num_masks - len(found))
        for layer, total_D in enumerate(total)
    ]


def _spans(found: Sequence[Layers]) -> Layers | None:
    """Return an orthonormal basis of the masks found, float32 [D, found] per layer; None without any."""
    if not found:
        return None
    return tuple(torch.linalg.qr(torch.stack(one, dim=1))[0] for one in zip(*found, strict=True))


@dataclass(frozen=True)
class _Descent:
    """One search. spans: of the masks found before, which it stays out of."""

    spec: HopfieldSpec
    psi: Layers
    batches: Sequence[Tensor]
    base: Sequence[Tensor]
    spans: Layers | None

    def run(self, scores: list[Tensor], on_descent: OnDescent) -> list[Tensor]:
        """Return the scores after one step for each batch."""
        sgd, counter = Optimizer(self.spec.optimizer), torch.zeros((), dtype=torch.float64)
        buffers = [sgd.buffers(layer) for layer in scores]
        for number, x_BI in enumerate(self.batches, start=1):
            share = number / len(self.batches)
            masks = [((layer.clamp(-1, 1) + 1) / 2).requires_grad_() for layer in scores]
            mean_entropy = entropy(forward_masked(x_BI, self.base, masks)).mean()
            grads = torch.autograd.grad(mean_entropy, masks)
            z = [2 * mask.detach() - 1 for mask in masks]
            fields = [psi_DD @ z_D for psi_DD, z_D in zip(self.psi, z, strict=True)]
            energy = -0.5 * sum(float(z_D @ field_D) for z_D, field_D in zip(z, fields, strict=True))
            on_descent(tuple(scores), energy, mean_entropy.item())
            counter.add_(1)
            for layer, (grad_D, field_D) in enumerate(zip(grads, fields, strict=True)):
                # dE/dm = -2 Psi z, as z = 2 m - 1.
                along_D = (1 - share) * (self.psi[layer] @ grad_D) - 2 * self.spec.gamma * share * field_D
                sgd.update(scores[layer], self._out_of_found(layer, along_D), buffers[layer], counter)
        return scores

    def _out_of_found(self, layer: int, grad_D: Tensor) -> Tensor:
        if self.spans is None:
            return grad_D
        return grad_D - self.spans[layer] @ (self.spans[layer].T @ grad_D)


def _rest(layer: HopfieldLayer, scores_D: Tensor) -> Tensor:
    """Return the fixed point to which the neurons settle, z in {-1, +1}."""
    (rest_D,) = settle(layer.psi, (scores_D >= 0).cpu().numpy()[None])
    return torch.from_numpy(signs(rest_D)).to(scores_D.device)


def _judge(batches: Sequence[Tensor], base: Sequence[Tensor], z: Layers) -> float:
    """Return the mean entropy of the outputs under a mask, in the batches of the search."""
    masks = [(layer > 0).float() for layer in z]
    values: list[Tensor] = []
    for x_BI in batches:
        values.append(entropy(forward_masked(x_BI, base, masks)))
        if sum(len(one) for one in values) >= NUM_JUDGING:
            break
    return float(np.mean(torch.cat(values).double().cpu().numpy()))
