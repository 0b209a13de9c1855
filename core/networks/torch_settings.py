"""What the user's code can set for the whole process, and masks depend on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from core.errors import ConfigError


def _flushes() -> bool:
    tiny = torch.tensor([1e-40], dtype=torch.float32, device="cpu")
    return not bool((2 * tiny).any())


# How each is read, and how written.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "whether torch keeps gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "whether torch flushes tiny numbers": (_flushes, torch.set_flush_denormal),
}


@contextmanager
def same_settings(import_path: str) -> Iterator[None]:
    """Put back what the user's code sets for the whole process. Raises ConfigError if it did."""
    before = _settings()
    try:
        yield
    finally:
        after = _settings()
        for name in _changed(before, after):
            SETTINGS[name][1](before[name])
    for name in _changed(before, after):
        raise ConfigError(
            f"network.import_path: {import_path} sets {name} to {after[name]} for the whole process, which needs "
            f"{before[name]}; remove that line"
        )


def _settings() -> dict[str, Any]:
    return {name: read() for name, (read, _) in SETTINGS.items()}


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name, value in before.items() if after[name] != value]
