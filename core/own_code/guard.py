"""Runs the user's code: what it prints goes to stderr, and what it raises becomes one message. No torch."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from core.errors import ConfigError, InputError, first_line
from core.own_code.files import is_of_the_user
from core.rooms import namesakes

MAX_SHOWN = 300  # characters of an error of the user's code


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
    except (KeyboardInterrupt, InputError):
        raise
    # It may also end the program, as argparse does.
    except BaseException as error:
        raise ConfigError(f"{failed} ({_words(error)}); {expected}{_namesake_words(error)}") from error
    finally:
        os._exit = leave
        os.chdir(folder)  # relative paths of the sweep mean what they did


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


def _leave(leave: Callable[[int], None], process_id: int, status: int = 0) -> None:
    """End a child process of the user's code; in ours, raise SystemExit instead."""
    if os.getpid() != process_id:
        leave(status)
    raise SystemExit(status)


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


def _namesake_words(error: BaseException) -> str:
    found = namesakes(Path.cwd())
    if not found or not isinstance(error, ImportError | AttributeError):
        return ""
    return f"; {found[0]} has the name of a package of supsup, which is imported in its place: rename it"
