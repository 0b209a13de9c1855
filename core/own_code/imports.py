"""Imports the user's own code by its path, only if the user allows it. No torch."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from core.errors import ConfigError
from core.own_code.files import code_files, file_digest, is_of_the_user
from core.own_code.guard import user_code
from core.own_code.permission import require_allowed
from core.rooms import share_names
from core.specs.own_code import OwnCode

# Modules that this process imported: as they were then, with file and digest.
_LOADED: dict[str, tuple[ModuleType, Path, str]] = {}


def find_code_in(folder: str) -> None:
    """Let modules in ``folder`` be imported."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    share_names(Path(folder))


def find_code(code: OwnCode) -> Any:
    """Import ``package.file:name``, from the current folder too; return what the name means. Raises ConfigError."""
    require_allowed(code)
    name = code.import_path.partition(":")[2]
    files = code_files(code)
    find_code_in(str(Path.cwd()))
    _forget_edited(files)
    before = set(sys.modules)
    failed, expected = (
        f"{code} cannot be imported",
        "expected package.file:name, in the current folder or installed",
    )
    with user_code(failed, expected):
        module = importlib.import_module(code.module)
    new = set(sys.modules) - before
    _check_loaded(code, files, new)
    _LOADED.update(
        {name: (sys.modules[name], files[name], file_digest(files[name])) for name in files.keys() & new}
    )
    with user_code(failed, expected):
        return getattr(module, name)


def _forget_edited(files: dict[str, Path]) -> None:
    """Let a network be imported again if one of its files was edited since this process did."""
    loaded = {name: _LOADED[name] for name in files.keys() & _LOADED.keys()}
    current = {name: one for name, one in loaded.items() if sys.modules.get(name) is one[0]}
    if any((files[name], file_digest(files[name])) != one[1:] for name, one in current.items()):
        for name in files:
            sys.modules.pop(name, None)


def _check_loaded(code: OwnCode, files: dict[str, Path], new: set[str]) -> None:
    """Raise ConfigError unless what was imported is what its digest covers."""
    for name, file in files.items():
        other = getattr(sys.modules.get(name), "__file__", None)
        if other is not None and Path(other).resolve() != file.resolve():
            raise ConfigError(
                f"{code} imports {name} from {file}, but {other} has the same name and was "
                "imported before; give the file another name"
            )
    for name in sorted(new - files.keys()):
        unseen = getattr(sys.modules.get(name), "__file__", None)
        # Some modules of libraries, such as torch.classes, name a file that is none.
        if unseen is not None and Path(unseen).is_file() and is_of_the_user(Path(unseen)):
            raise ConfigError(
                f"{code} imports {unseen}, which its source does not name, so that an edit "
                f"of it would go unseen; import it by its name: `import {name}`"
            )
