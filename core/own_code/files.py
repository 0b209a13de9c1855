"""The files of the user's own code, found without running any of them, and their digest.

They are its own file and every file that it imports from the user's folders, directly or not: all that
is neither of this project, nor of Python's library, nor installed (``site-packages``). Of installed
code, its own package. No torch.
"""

import ast
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core.errors import ConfigError
from core.rooms import PROJECT, ROOMS
from core.specs.own_code import OwnCode

PYTHON = {
    place
    for key in ("stdlib", "platstdlib")
    for place in (Path(sysconfig.get_path(key)), Path(sysconfig.get_path(key)).resolve())
}
INSTALLED = {"site-packages", "dist-packages"}
IMPORTERS = {"import_module", "__import__"}


@dataclass(frozen=True)
class _Found:
    """Where a module is. file: None if it has none. inside: the folders of a package's modules."""

    file: Path | None
    inside: tuple[str, ...]


def code_digest(code: OwnCode) -> str:
    """Return the sha256 (hex) of the user's code: of its file, or of the list of its files. No import.

    Raises ConfigError if it has no file.
    """
    files = code_files(code)
    digests = {name: file_digest(path) for name, path in files.items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def is_code(code: OwnCode, recorded: str) -> bool:
    """Return whether ``recorded`` is the digest of the user's code as it is now.

    Earlier versions recorded the digest of a single file.
    """
    if code_digest(code) == recorded:
        return True
    return any(file_digest(path) == recorded for path in code_files(code).values())


def code_file(code: OwnCode) -> Path:
    """Return the source file of the user's code. Raises ConfigError if it has none of its own."""
    importlib.invalidate_caches()  # the file may be new
    place = code.module
    found = _find(place)
    if found is None or found.file is None or is_of_python(found.file):
        what = "no such file" if found is None else "a module of Python itself, or one without a file"
        raise ConfigError(
            f"{code} cannot be imported: {place} is {what}; expected "
            "package.file:name, in the current folder or installed"
        )
    if _is_ours(found.file):
        raise ConfigError(
            f"{code} cannot be imported: {place} is a module of supsup, {found.file}; give "
            "your file another name"
        )
    return found.file


def code_files(code: OwnCode) -> dict[str, Path]:
    """Return the files of the user's code by the name of their module. Raises ConfigError."""
    first = code_file(code)
    place = code.module
    files: dict[str, Path] = {}
    waiting = list(_with_parents(place))
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        found = _find(name)
        if found is None or found.file is None or not _is_covered(name, found.file, place):
            continue
        files[name] = found.file
        more = {one for word in _imported(name, found) for one in _with_parents(word)} - seen
        seen |= more
        waiting += sorted(more)
    return files or {place: first}


def is_of_the_user(file: Path) -> bool:
    """Return whether a file is neither of Python, nor installed, nor of this project."""
    return not (_is_ours(file) or INSTALLED & set(file.parts) or is_of_python(file))


def _is_ours(file: Path) -> bool:
    return any(file.resolve().is_relative_to(PROJECT / room) for room in ROOMS)


def is_of_python(file: Path) -> bool:
    """Return whether a file belongs to Python's own library."""
    is_installed = INSTALLED & set(file.parts)
    return not is_installed and any(file.is_relative_to(place) for place in PYTHON)


def _is_covered(name: str, file: Path, place: str) -> bool:
    return is_of_the_user(file) or name.partition(".")[0] == place.partition(".")[0]


def _with_parents(name: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``: an import runs all of them."""
    parts = name.split(".")
    yield from (".".join(parts[: number + 1]) for number in range(len(parts)))


def _find(name: str) -> _Found | None:
    """Return where an import would find a module; unlike ``importlib.util.find_spec``, runs no parent."""
    *_, last = names = list(_with_parents(name))
    inside: Sequence[str] = [str(Path.cwd()), *sys.path]
    if names[0] in ROOMS:  # ours, whatever comes first on the path; see ``core.rooms``
        inside = [str(PROJECT / names[0]), str(Path.cwd() / names[0])]
        if not names[1:]:
            return _Found(PROJECT / names[0] / "__init__.py", tuple(inside))
        names = names[1:]
    for one in names:
        found = _find_in(one, inside)
        if found is None or (one != last and not found.inside):
            return None
        inside = found.inside
    return found


def _find_in(name: str, folders: Sequence[str]) -> _Found | None:
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, folders)
        except KeyError:  # a folder without __init__.py, within a package that is not imported yet
            places = [Path(folder) / name.rpartition(".")[2] for folder in folders]
            return _Found(None, tuple(str(place) for place in places if place.is_dir()))
        if spec is not None:
            file = Path(spec.origin) if spec.has_location and spec.origin else None
            inside = spec.submodule_search_locations
            return _Found(file, tuple(getattr(inside, "_path", inside) or ()))
    return None


def _imported(name: str, found: _Found) -> frozenset[str]:
    """Return the names of modules that a file may import; some may be names in a module."""
    file = found.file
    if file is None or file.suffix != ".py":
        return frozenset()
    package = name if found.inside else name.rpartition(".")[0]
    return _imports(file.read_bytes(), package)


@lru_cache(maxsize=512)
def _imports(source: bytes, package: str) -> frozenset[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()  # it cannot be imported either, and Python will say why
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= _from(node, package)
        elif isinstance(node, ast.Call):
            found |= _by_call(node)
    return frozenset(found)


def _from(node: ast.ImportFrom, package: str) -> set[str]:
    """Return the module of ``from module import names``, and each name, which may be a module."""
    parts = package.split(".") if node.level and package else []
    above = parts[: len(parts) - node.level + 1]
    module = ".".join([*above, *([node.module] if node.module else [])])
    named = {f"{module}.{alias.name}" if module else alias.name for alias in node.names}
    return {one for one in named | {module} if one and "*" not in one}


def _by_call(node: ast.Call) -> set[str]:
    """Return the module of ``importlib.import_module("module")``."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    first = node.args[0] if node.args else None
    if called not in IMPORTERS or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return set()
    return {first.value} if first.value and first.value.strip(".") == first.value else set()


def file_digest(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
