"""Recovery of a mask by a search that stays among the stored ones (ours, not the paper's).

The descent of ``recovery`` leaves the stored masks at once: most of the entropy's gradient lies outside of
their span. Here every gradient is projected on the span (P, of ``span``), and masks are real-valued,
m = (clip(s, -1, 1) + 1) / 2, with scores s that start at the mean of the stored z:

    s <- s - lr v,   v <- momentum v + P d(mean H(p) - H(mean p))/dm + weight_decay s

H(mean p), the entropy of the mean output, keeps a mask from winning that gives one answer to all images.

One layer after another: when the first has led to a corner of the cube, it is held there, and the next
starts at its mean. A second round does the same with the other layers held where they are, so
that layers which began with different masks can still meet. The result is a candidate.

The next search begins at the mean of the masks that the first layer has not yet led to,
(k mean - sum of those) / (k - their number), and at right angles to them (deflation). The candidate whose
outputs have the lowest entropy wins. No true mask and no label is used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.hopfield.memory import HopfieldMemory
from core.hopfield.network import forward_masked
from core.hopfield.span import nearest_stored, project, span_of
from core.inference.objectives import entropy
from core.specs.inference import HopfieldSpec
from core.training.optimizers import Optimizer

NUM_JUDGING = 512  # images whose entropy ranks the candidates
ROUNDS = 2  # over all layers

Layers = tuple[Tensor, ...]  # float32 [D] per masked layer
OnDescent = Callable[[Layers, float, float], None]  # scores before a step, energy, entropy


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Where a search ended, z in {-1, +1}. entropy: of the judging images under it, nats."""

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

    batches: the images of each step, float32 [B, I]; each search takes an equal share, in turn.
    """
    search, num = _search(spec, memory, base, on_descent), num_searches(spec, memory)
    candidates: list[Candidate] = []
    tried: list[Tensor] = []  # where the first layer went
    for number in range(num):
        share = batches[number * len(batches) // num : (number + 1) * len(batches) // num]
        z = search.run(share, tried)
        candidates.append(Candidate(z=z, entropy=_judge(batches, base, z)))
    return candidates


def _search(
    spec: HopfieldSpec, memory: HopfieldMemory, base: Sequence[Tensor], on_descent: OnDescent
) -> "_Search":
    device = base[0].device
    return _Search(
        spec=spec,
        num_masks=memory.num_masks,
        psi=tuple(torch.from_numpy(layer.psi).to(device) for layer in memory.layers),
        totals=tuple(torch.from_numpy(layer.total).to(device).float() for layer in memory.layers),
        spans=tuple(torch.from_numpy(span_of(layer, memory.num_masks)).to(device) for layer in memory.layers),
        base=base,
        on_descent=on_descent,
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What to search. psi: [D, D]. totals: sums of the stored z. spans: of the stored z, [D, k]."""

    spec: HopfieldSpec
    num_masks: int
    psi: Layers
    totals: Layers
    spans: Layers
    base: Sequence[Tensor]
    on_descent: OnDescent

    def run(self, batches: Sequence[Tensor], tried: list[Tensor]) -> Layers:
        """Return where all layers end; where the first one went at first is added to ``tried``."""
        held: list[Tensor | None] = [None] * len(self.spans)
        stages = [*range(len(held))] * ROUNDS
        for stage, layer in enumerate(stages):
            steps = batches[stage :: len(stages)]
            if not steps:
                break
            held[layer] = None
            scores = self._descend(steps, held, tried if stage == 0 else [])
            held[layer] = nearest_stored(self.spans[layer], scores[layer])
            if stage == 0 and not any(torch.equal(held[layer], one) for one in tried):
                tried.append(held[layer])
        ends = (self._mean(layer) if z is None else z for layer, z in enumerate(held))
        return tuple(nearest_stored(span, z) for span, z in zip(self.spans, ends, strict=True))

    def _descend(
        self, batches: Sequence[Tensor], held: Sequence[Tensor | None], tried: Sequence[Tensor]
    ) -> Layers:
        """Return the scores after one step for each batch; layers that are held stay. tried: of the first layer."""
        sgd, counter = Optimizer(self.spec.optimizer), torch.zeros((), dtype=torch.float64)
        scores = tuple(self._mean(layer) if z is None else z for layer, z in enumerate(held))
        away = None
        if tried:
            scores = (self._mean_of_the_rest(tried), *scores[1:])
            away = torch.linalg.qr(torch.stack(list(tried), dim=1))[0]
        free = [layer for layer, z in enumerate(held) if z is None]
        buffers = {layer: sgd.buffers(scores[layer]) for layer in free}
        for x_BI in batches:
            grads = self._gradients(x_BI, scores, free)
            counter.add_(1)
            for layer, grad_D in zip(free, grads, strict=True):
                along_D = project(self.spans[layer], grad_D)
                if layer == 0 and away is not None:
                    along_D = along_D - project(away, along_D)
                sgd.update(scores[layer], along_D, buffers[layer], counter)
        return scores

    def _gradients(self, x_BI: Tensor, scores: Layers, free: Sequence[int]) -> Layers:
        """Note the step; return the gradients with respect to the masks of the layers in ``free``."""
        masks = [((layer.clamp(-1, 1) + 1) / 2).requires_grad_() for layer in scores]
        logits_BO = forward_masked(x_BI, self.base, masks)
        mean_entropy = entropy(logits_BO).mean()
        mean_p = torch.softmax(logits_BO, dim=1).mean(dim=0)
        loss = mean_entropy - torch.special.entr(mean_p).sum()
        z = [2 * mask.detach() - 1 for mask in masks]
        self.on_descent(scores, self._energy(z), mean_entropy.item())
        return torch.autograd.grad(loss, [masks[layer] for layer in free])

    def _energy(self, z: Sequence[Tensor]) -> float:
        return sum(float(-0.5 * z_D @ (psi_DD @ z_D)) for psi_DD, z_D in zip(self.psi, z, strict=True))

    def _mean(self, layer: int) -> Tensor:
        """Return the mean of the stored z, a tensor of its own."""
        return self.totals[layer] / self.num_masks

    def _mean_of_the_rest(self, tried: Sequence[Tensor]) -> Tensor:
        return (self.totals[0] - torch.stack(list(tried)).sum(dim=0)) / (self.num_masks - len(tried))


def _judge(batches: Sequence[Tensor], base: Sequence[Tensor], z: Layers) -> float:
    """Return the mean entropy of the outputs under a mask, in the batches of the search."""
    masks = [(layer > 0).float() for layer in z]
    values: list[Tensor] = []
    for x_BI in batches:
        values.append(entropy(forward_masked(x_BI, base, masks)))
        if sum(len(one) for one in values) >= NUM_JUDGING:
            break
    return float(np.mean(torch.cat(values).double().cpu().numpy()))
