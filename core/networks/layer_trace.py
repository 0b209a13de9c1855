"""Which layer does it: follows a call of a module through its layers.

A layer here is any named part of the module; the innermost one counts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Trace:
    """One call. ended: (layer, what it gave, whether it drew random numbers), inner layers first."""

    entered: list[str] = field(default_factory=list)
    ended: list[tuple[str, Any, bool]] = field(default_factory=list)

    @property
    def random(self) -> str | None:
        """The first layer that drew random numbers."""
        return next((name for name, _, has_drawn in self.ended if has_drawn), None)

    def differs(self, other: "Trace") -> str | None:
        """Return the first layer that gave something else in another call."""
        pairs = zip(self.ended, other.ended, strict=False)
        return next((one[0] for one, two in pairs if not _same(one[1], two[1])), None)


@contextmanager
def traced(module: nn.Module, random_state: Callable[[], Any]) -> Iterator[Trace]:
    """Follow the calls of a module within the context; after an error, ``entered`` ends with its layer."""
    trace, states, hooks = Trace(), [], []

    def enter(name: str) -> None:
        trace.entered.append(name)
        states.append(random_state())

    def leave(name: str, given: Any) -> None:
        trace.entered.pop()
        trace.ended.append((name, _copy(given), states.pop() != random_state()))

    for path, part in module.named_modules():
        name = f"layer {path} ({type(part).__name__})" if path else f"the forward of {type(part).__name__}"
        hooks.append(part.register_forward_pre_hook(lambda _part, _x, name=name: enter(name)))
        hooks.append(part.register_forward_hook(lambda _part, _x, given, name=name: leave(name, given)))
    try:
        yield trace
    finally:
        for hook in hooks:
            hook.remove()


def _copy(given: Any) -> Any:
    return given.detach().clone() if isinstance(given, Tensor) else given


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return one.shape == two.shape and bool(torch.equal(torch.nan_to_num(one), torch.nan_to_num(two)))
    return type(one) is type(two)
