"""The user's own network: imported by its path, only if the user allows it. No torch.

What the permission covers: the value of ``SUPSUP_ALLOW_CODE`` is 1 for any code, the path of a file or
folder for what lies there, or the digest of one network (``core.networks.code_files.code_digest``).
"""

import contextlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from core.errors import ConfigError, first_line
from core.networks.code_files import code_digest, code_file, code_files, file_digest, is_of_the_user
from core.rooms import namesakes, share_names

ALLOW_CODE = "SUPSUP_ALLOW_CODE"  # the permission to import the user's own network
ANY_CODE = "1"
MAX_SHOWN = 300  # characters of an error of the user's code
Maker = Callable[[int, tuple[int, int, int]], Any]  # (outputs, image_shape) -> torch.nn.Module
# Modules of networks that this process imported: as they were then, with file and digest.
_LOADED: dict[str, tuple[ModuleType, Path, str]] = {}


def permission() -> str:
    """Return what the user allowed: nothing (empty), ``1``, a path, or a digest."""
    given = os.environ.get(ALLOW_CODE, "").strip()
    return "" if given == "0" else given


def code_is_allowed(import_path: str) -> bool:
    """Return whether the user allowed importing this network. Imports nothing; raises ConfigError."""
    given = permission()
    if given in ("", ANY_CODE):
        return given == ANY_CODE
    if re.fullmatch(r"[0-9a-fA-F]{64}", given):
        return code_digest(import_path) == given.lower()
    return code_file(import_path).resolve().is_relative_to(Path(given).expanduser().resolve())


def allow_code(what: str = ANY_CODE) -> None:
    """Allow it in this process and its children. what: ``1``, a path or a digest."""
    os.environ[ALLOW_CODE] = what


def find_code_in(folder: str) -> None:
    """Let modules in ``folder`` be imported."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    share_names(Path(folder))


def require_allowed(import_path: str | None) -> None:
    """Raise ConfigError if the network is the user's own and must not be imported."""
    if import_path is None or code_is_allowed(import_path):
        return
    given = permission()
    if not given:
        raise ConfigError(
            f"network.import_path: {import_path} is your own code, which runs when it is imported; "
            f"allow that with `supsup --allow-code ...` or {ALLOW_CODE}=1"
        )
    raise ConfigError(
        f"network.import_path: {import_path} is code that you did not allow: {code_file(import_path)} of digest "
        f"{code_digest(import_path)}, but allowed is {given}; expected its path or its digest, as in "
        "`supsup --allow-code=PATH ...`"
    )


def find_maker(import_path: str) -> Maker:
    """Import ``package.file:name``, from the current folder too. Raises ConfigError."""
    require_allowed(import_path)
    place, _, name = import_path.partition(":")
    files = code_files(import_path)
    find_code_in(str(Path.cwd()))
    _forget_edited(files)
    before = set(sys.modules)
    failed = f"network.import_path: {import_path} cannot be imported"
    expected = "expected package.file:name, in the current folder or installed"
    with user_code(failed, expected):
        module = importlib.import_module(place)
    new = set(sys.modules) - before
    _check_loaded(import_path, files, new)
    _LOADED.update(
        {name: (sys.modules[name], files[name], file_digest(files[name])) for name in files.keys() & new}
    )
    with user_code(failed, expected):
        found: Maker = getattr(module, name)
    return found


def _namesake_words(error: BaseException) -> str:
    found = namesakes(Path.cwd())
    if not found or not isinstance(error, ImportError | AttributeError):
        return ""
    return f"; {found[0]} has the name of a package of supsup, which is imported in its place: rename it"


@contextlib.contextmanager
def user_code(failed: str, expected: str) -> Iterator[None]:
    """Run the user's code: what it prints goes to stderr, and whatever it raises becomes a ConfigError.

    failed, expected: the beginning and the end of the message.
    """
    folder, leave = Path.cwd(), os._exit  # Python has no other name for it
    try:
        with output_to_stderr():
            os._exit = partial(_leave, leave, os.getpid())  # type: ignore[assignment]
            yield
    except (KeyboardInterrupt, ConfigError):
        raise
    # It may also end the program, as argparse does.
    except BaseException as error:
        raise ConfigError(f"{failed} ({_words(error)}); {expected}{_namesake_words(error)}") from error
    finally:
        os._exit = leave
        os.chdir(folder)  # relative paths of the sweep mean what they did


def _leave(leave: Callable[[int], None], process_id: int, status: int = 0) -> None:
    """End a child process of the user's code; in ours, raise SystemExit instead."""
    if os.getpid() != process_id:
        leave(status)
    raise SystemExit(status)


@contextlib.contextmanager
def output_to_stderr() -> Iterator[None]:
    """Send what is printed to stderr, by libraries and child processes too: stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with contextlib.suppress(OSError):  # a process may have no stdout
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
            stack.callback(_flush)
        yield


def _flush() -> None:
    if sys.__stdout__ is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.__stdout__.flush()


def _words(error: BaseException) -> str:
    """Return the class of an error, its first line, and where the user's code raised it."""
    try:
        shown = first_line(error)
    # Its text is made by the user's code too.
    except Exception:
        shown = "an error without a readable text"
    more = "..." if len(shown) > MAX_SHOWN else ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_shown(frame.filename)]
    where = f", {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    ended = ": it ended the program, as by parsing arguments" if isinstance(error, SystemExit) else ""
    return f"{type(error).__name__}: {shown[:MAX_SHOWN]}{more}{ended}{where}"


def _is_shown(file: str) -> bool:
    path = Path(file)
    return path.is_file() and is_of_the_user(path)


def _forget_edited(files: dict[str, Path]) -> None:
    """Let a network be imported again if one of its files was edited since this process did."""
    loaded = {name: _LOADED[name] for name in files.keys() & _LOADED.keys()}
    current = {name: one for name, one in loaded.items() if sys.modules.get(name) is one[0]}
    if any((files[name], file_digest(files[name])) != one[1:] for name, one in current.items()):
        for name in files:
            sys.modules.pop(name, None)


def _check_loaded(import_path: str, files: dict[str, Path], new: set[str]) -> None:
    """Raise ConfigError unless what was imported is what its digest covers."""
    for name, file in files.items():
        other = getattr(sys.modules.get(name), "__file__", None)
        if other is not None and Path(other).resolve() != file.resolve():
            raise ConfigError(
                f"network.import_path: {import_path} imports {name} from {file}, but {other} has the same name and was "
                "imported before; give the file another name"
            )
    for name in sorted(new - files.keys()):
        unseen = getattr(sys.modules.get(name), "__file__", None)
        if unseen is not None and is_of_the_user(Path(unseen)):
            raise ConfigError(
                f"network.import_path: {import_path} imports {unseen}, which its source does not name, so that an edit "
                f"of it would go unseen; import it by its name: `import {name}`"
            )
