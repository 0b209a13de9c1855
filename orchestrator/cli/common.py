"""Arguments, parsers and error messages shared by the commands."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from core.errors import ConfigError, InputError, RunFolderError, SupSupError
from core.printing import printable
from orchestrator.execution.ctrl_c import stop_taken

if TYPE_CHECKING:
    from orchestrator.config.sweep import SweepConfig

SWEEP_SUFFIXES = (".yaml", ".yml", ".json")
MAX_STORED = 10_000  # masks in a capacity study
MAX_SHOWN = 80  # characters of a name in a message
STOPPED = 130  # 128 + SIGINT, as in shells


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a run, for the shell."""
    storage = Path(str(context.params.get("storage") or "runs"))
    found = [*storage.glob("*/run.json"), *storage.glob("*/search.json")]
    return sorted(path.parent.name for path in found if path.parent.name.startswith(incomplete))


def complete_sweep_or_run(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the path of a sweep file, or the name of a run, for the shell."""
    head, slash, start = incomplete.rpartition("/")
    found = [path for path in Path(f"{head}{slash}").glob("*") if path.name.startswith(start)]
    files = [f"{head}{slash}{path.name}" for path in found if path.suffix in SWEEP_SUFFIXES]
    folders = [f"{head}{slash}{path.name}/" for path in found if path.is_dir()]
    return sorted({*files, *folders, *complete_run(context, incomplete)})


def complete_setting(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the dotted key of a setting, for the shell."""
    from orchestrator.config.load import config_values, dotted_keys

    word = str(context.params.get("sweep"))
    storage = None if Path(word).is_file() else context.params.get("storage")
    try:
        keys = dotted_keys(config_values(find_sweep(word, [], storage)))
    except SupSupError:
        return []
    return sorted(f"{key}=" for key in keys if key.startswith(incomplete))


def find_sweep(word: str, settings: Sequence[str], storage: str | None) -> "SweepConfig":
    """Return the sweep of a file, or the one stored in the folder of a run or a search. Raises InputError.

    word: a path, the name of a run under ``storage``, by default ``runs``, or of a sweep that comes with supsup.
    """
    from orchestrator.config.load import load_sweep
    from orchestrator.config.shipped import shipped_sweep

    path = Path(word)
    if path.suffix in SWEEP_SUFFIXES or _is_file(path):
        if storage is not None:
            raise ConfigError(f"--storage: found a sweep file with it, expected storage.uri={storage}")
        return load_sweep(path, settings)
    from orchestrator.runs.resume import stored_sweep
    from orchestrator.status import resolve_run, resolve_search

    searched = resolve_search(word, storage or "runs")
    if searched is not None:
        from orchestrator.search.stored import resumed_search

        return resumed_search(searched, settings)
    try:
        root = resolve_run(word, storage or "runs")
    except RunFolderError as error:
        shipped = shipped_sweep(word)
        if shipped is not None and storage is None:
            return load_sweep(shipped, settings)
        raise RunFolderError(f"neither a sweep file nor a run folder: {error}") from error
    return stored_sweep(root, settings)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # a name that is too long
        raise ConfigError(
            f"{str(path)[:MAX_SHOWN]}: {error.strerror}; name a sweep file or a run folder"
        ) from error


SweepOrRun = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP.yaml|RUN",
        help="The sweep file; or a run to resume without it: its folder, or its name under --storage.",
        autocompletion=complete_sweep_or_run,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[key=value]...",
        help="Full dotted keys of the sweep file.",
        show_default=False,
        autocompletion=complete_setting,
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run folder, or its name under --storage.",
        autocompletion=complete_run,
    ),
]
SweepStorage = Annotated[
    str | None, typer.Option("--storage", help="The folder, or s3:// prefix, of RUN; default: runs.")
]
Storage = Annotated[str, typer.Option(help="The folder, or s3:// prefix, that holds run folders.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only problems.")]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live view, no colours.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; progress goes to stderr.")]
Address = Annotated[
    str | None,
    typer.Option(help="The cluster's dashboard; default: RAY_API_SERVER_ADDRESS or http://127.0.0.1:8265."),
]


def consoles(*, quiet: bool, plain: bool, as_json: bool) -> tuple[Console, Console]:
    """Return the consoles for results and for progress; both respect NO_COLOR and pipes."""
    colour: dict[str, Any] = {"no_color": True, "highlight": False} if plain else {}
    results = Console(quiet=quiet or as_json, **colour)
    return results, Console(stderr=True, **colour) if quiet or as_json else results


def stdout_for(*, json_alone: bool) -> AbstractContextManager[None]:
    """Return a context; with ``json_alone``, whatever is printed in it goes to stderr, by the user's network too."""
    from core.own_code.guard import output_to_stderr

    return output_to_stderr() if json_alone else nullcontext()


def parse_counts(text: str, option: str = "--at") -> list[int]:
    """Parse numbers of masks or tasks such as ``5,20,100``. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdigit() or not 1 <= int(part) <= MAX_STORED:
            raise ConfigError(
                f"{option}: found {part!r}, expected numbers from 1 to {MAX_STORED:,}, such as 5,20"
            )
    return [int(part) for part in parts]


def parse_tasks(text: str, num_tasks: int, option: str = "--tasks") -> list[int]:
    """Parse ``all``, or ranges such as ``0,3-5``, to ascending tasks. Raises ConfigError."""
    if text == "all":
        return list(range(num_tasks))
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdigit() or (last and not last.strip().isdigit()):
            raise ConfigError(f"{option}: found {part!r}, expected numbers and ranges such as 0,3-5")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers or numbers[-1] >= num_tasks:
            raise ConfigError(f"{option}: found {part!r}, expected tasks from 0 to {num_tasks - 1}")
        chosen.update(numbers)
    return sorted(chosen)


def call(command: Callable[..., Any], arguments: list[str] | None = None, *, debug: bool = False) -> int:
    """Run ``command`` and return its exit code; print errors as one message, unless ``debug``."""
    try:
        code = command(args=arguments, standalone_mode=True)
        return int(code or 0)
    except SystemExit as stop:
        if stop.code == STOPPED and _is_stop(stop):
            return _stopped()
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except KeyboardInterrupt:
        return _stopped()
    except Exception as error:
        if debug:
            raise
        return _print_error(error)


def _is_stop(error: BaseException) -> bool:
    """Return whether the command line's library has made this of KeyboardInterrupt."""
    before = error.__cause__ or error.__context__
    return before is not None and (isinstance(before, KeyboardInterrupt) or _is_stop(before))


def _stopped() -> int:
    stop_taken()
    _print_message("stopped; run the same command again to resume")
    return STOPPED


def _print_error(error: Exception) -> int:
    """Print an error as one message and return its exit code."""
    if isinstance(error, SupSupError):
        _print_message(f"error: {error}" if isinstance(error, InputError) else str(error))
        return error.exit_code
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        _print_message(f"error: {error.strerror or error}{where}; finished work is kept")
    else:
        _print_message(
            f"a bug in supsup: {type(error).__name__}: {error}; finished work is kept, "
            "and `supsup --debug ...` shows where it happened"
        )
    return 1


def _print_message(text: str) -> None:
    Console(stderr=True).print(printable(text), markup=False, highlight=False, soft_wrap=True)
