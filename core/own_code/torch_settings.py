"""What the user's code can set in torch for the whole process, and masks depend on. Does not import torch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import ConfigError
from core.specs.own_code import OwnCode


def _flushes(torch: Any) -> bool:
    tiny = torch.tensor([1e-40], dtype=torch.float32, device="cpu")
    return not bool((2 * tiny).any())


# How each is read, given torch, and how written.
SETTINGS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    "torch's default type": (lambda t: t.get_default_dtype(), lambda t, value: t.set_default_dtype(value)),
    "torch's default device": (
        lambda t: t.get_default_device(),
        lambda t, value: t.set_default_device(value),
    ),
    "torch's number of threads": (lambda t: t.get_num_threads(), lambda t, value: t.set_num_threads(value)),
    "whether torch keeps gradients": (
        lambda t: t.is_grad_enabled(),
        lambda t, value: t.set_grad_enabled(value),
    ),
    "whether torch flushes tiny numbers": (
        _flushes,
        lambda t, value: t.set_flush_denormal(value),
    ),
}


@contextmanager
def same_settings(code: OwnCode) -> Iterator[None]:
    """Put back what the user's code sets for the whole process. Raises ConfigError if it did."""
    before = _settings()
    try:
        yield
    finally:
        after = _settings()
        before = before or _as_imported(after)
        for name in _changed(before, after):
            SETTINGS[name][1](sys.modules["torch"], before[name])
    for name in _changed(before, after):
        raise ConfigError(
            f"{code} sets {name} to {after[name]} for the whole process, which needs {before[name]}; remove that line"
        )


def _settings() -> dict[str, Any]:
    """Return the settings, none if torch is not loaded."""
    torch = sys.modules.get("torch")
    return {} if torch is None else {name: read(torch) for name, (read, _) in SETTINGS.items()}


def _as_imported(after: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that torch has when it is imported; of threads, which the machine decides, those it has now."""
    if not after:
        return {}
    torch = sys.modules["torch"]
    fresh = (torch.float32, torch.device("cpu"), after["torch's number of threads"], True, False)
    return dict(zip(SETTINGS, fresh, strict=True))


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name, value in before.items() if after[name] != value]
