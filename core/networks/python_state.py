"""What a module remembers in plain Python: attributes, class attributes, globals of its file.

Such state is in no buffer, so nothing stores it with a mask.
"""

import hashlib
import itertools
import random
import sys
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

INTERNALS = set(vars(nn.Module())) - {"training"}
PLAIN = (type(None), bool, int, float, complex, str, bytes)
CODE = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type, property, classmethod, staticmethod)
MAX_DEPTH = 6

State = dict[str, Hashable]


def python_state(module: nn.Module, files: Collection[str] = ()) -> State:
    """Return the state by name, such as ``blocks.0.num_calls``; of a few kinds of objects, no copy is kept.

    files: the user's, by the names of their modules.
    """
    found: State = {}
    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        own = {key: value for key, value in vars(part).items() if key not in INTERNALS}
        found |= {f"{prefix}{key}": _frozen(value) for key, value in own.items()}
        found[f"the buffers of {name or 'the module'}"] = tuple(sorted(dict(part.named_buffers())))
    for kind in {type(part) for part in module.modules()}:
        found |= {name: _frozen(value) for name, value in _around(kind)}
    for name in files:
        found |= {place: _frozen(value) for place, value in _globals(name)}
    return found


def changed_state(before: State, after: State) -> list[str]:
    """Return the names whose values differ."""
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name)]


def _around(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a class of the user's, and the globals of its file."""
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("torch", "builtins", "typing", "abc"):
            continue
        places = {base.__name__: vars(base), base.__module__: vars(sys.modules.get(base.__module__, base))}
        for place, values in places.items():
            for key, value in list(values.items()):
                if not key.startswith("__") and not isinstance(value, CODE):
                    yield f"{place}.{key}", value


def _globals(name: str) -> Iterator[tuple[str, Any]]:
    """Yield the globals of a file, and the attributes of its classes and functions."""
    values = vars(sys.modules[name]) if name in sys.modules else {}
    for key, value in list(values.items()):
        is_own = getattr(value, "__module__", None) == name
        if isinstance(value, type) and is_own:
            for part, one in list(vars(value).items()):
                if not part.startswith("__"):
                    yield f"{name}.{key}.{part}", one
        elif not key.startswith("__"):
            yield f"{name}.{key}", value


def _frozen(value: Any, depth: int = 0) -> Hashable:
    """Return something that is equal as long as ``value`` is."""
    kind = type(value).__qualname__
    if isinstance(value, FunctionType):
        value = _kept_by(value)
    if depth > MAX_DEPTH or isinstance(value, (nn.Module, *CODE)):
        return kind
    if isinstance(value, PLAIN):
        return kind, repr(value)
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        return kind, str(value.dtype), tuple(value.shape), _hashed(flat.view(torch.uint8).numpy())
    if isinstance(value, np.ndarray):
        plain = value.dtype != object
        return kind, str(value.dtype), value.shape, _hashed(value) if plain else repr(value)
    if isinstance(value, list | tuple | set | frozenset | Mapping):
        return kind, _frozen_items(value, depth)
    return kind, _frozen_object(value, depth)


def _kept_by(function: FunctionType) -> list[Any]:
    """Return what a function keeps from call to call: defaults, attributes, variables around it."""
    around = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not assigned yet
            around.append(cell.cell_contents)
    return [function.__defaults__, function.__kwdefaults__, vars(function), around]


def _frozen_items(value: Any, depth: int) -> Hashable:
    if isinstance(value, Mapping):
        return tuple((repr(key), _frozen(one, depth + 1)) for key, one in value.items())
    items = [_frozen(one, depth + 1) for one in value]
    return frozenset(items) if isinstance(value, set | frozenset) else tuple(items)


def _frozen_object(value: Any, depth: int) -> Hashable:
    """Return the state of a random generator or a counter, else the object's attributes."""
    if isinstance(value, torch.Generator):
        return _frozen(value.get_state())
    if isinstance(value, random.Random):
        return hash(value.getstate())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state(legacy=False))
    if isinstance(value, itertools.count):
        return repr(value)
    return _frozen(dict(getattr(value, "__dict__", {})), depth + 1)


def _hashed(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
