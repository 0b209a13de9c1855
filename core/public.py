"""Public names of a package that are imported when they are first used (PEP 562).

``import core`` must stay light: the command line and the controller import sub-modules of rooms
whose other modules load torch.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(package: str, source: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    source: its ``__init__.py``, whose ``if TYPE_CHECKING`` block imports each public name from its home.
    """
    (block,) = [node for node in ast.parse(Path(source).read_text()).body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return get, lambda: sorted(homes)
