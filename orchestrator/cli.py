"""The ``supsup`` command: thin. Nothing heavy is imported before a command needs it."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from core.errors import ConfigError, InputError, SupSupError

MAX_STORED = 10_000  # masks in a capacity study
STOPPED = 130  # 128 + SIGINT, as a shell would say

app = typer.Typer(
    name="supsup",
    help="Train, store and evaluate supermasks over one fixed random network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Sweep = Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="The sweep file.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value]...", help="Full dotted keys of the sweep file.", show_default=False),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its name under --storage.")]
Storage = Annotated[str, typer.Option(help="The folder, or s3:// prefix, that holds run folders.")]

Address = Annotated[
    str | None,
    typer.Option(
        help="Of the cluster's dashboard; default: RAY_API_SERVER_ADDRESS or http://127.0.0.1:8265."
    ),
]


@app.callback()
def main(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show stack traces.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
) -> None:
    """Train, store and evaluate supermasks over one fixed random network."""
    if version:
        from importlib.metadata import version as installed

        print(f"supsup {installed('supsup')}")
        raise typer.Exit
    context.obj = debug


@app.command()
def run(
    sweep: Sweep,
    settings: Settings = None,
    *,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Train only the tasks that failed in the last run.")
    ] = False,
) -> None:
    """Train what is missing, evaluate, report; the same command resumes."""
    from orchestrator.config import load_sweep
    from orchestrator.display import make_display
    from orchestrator.summary import print_result
    from orchestrator.sweep import run_sweep

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = load_sweep(sweep, settings or [])
    console = Console()
    if config.search is not None:
        if only_failed:
            raise ConfigError(
                "--only-failed: found a search, expected one run; a search tries failed points again"
            )
        from orchestrator.search import run_search
        from orchestrator.search_summary import print_search

        results = run_search(config, _data_folder(config.data_dir), make_display(console))
        print_search(console, config, results)
        raise typer.Exit(1 if any(result.error for result in results) else 0)
    folder = _data_folder(config.data_dir)
    result = run_sweep(config, folder, make_display(console), only_failed=only_failed)
    print_result(console, result)
    raise typer.Exit(1 if result.failures else 0)


@app.command()
def plan(sweep: Sweep, settings: Settings = None) -> None:
    """Show what `run` would do; touches nothing."""
    from orchestrator.config import load_sweep, read_sweep_file
    from orchestrator.submission import sweep_id
    from orchestrator.summary import print_plan

    config = load_sweep(sweep, settings or [])
    if config.search is not None:
        from orchestrator.search_summary import print_search_plan

        print_search_plan(Console(), config)
        return
    print_plan(Console(), config, sweep_id(read_sweep_file(sweep)))


@app.command()
def submit(
    sweep: Sweep,
    settings: Settings = None,
    *,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log until it ends.")] = False,
    include: Annotated[
        list[Path] | None, typer.Option(help="A small file or folder that travels with the job.")
    ] = None,
) -> None:
    """Run a sweep as a job on a Ray cluster; the same command resumes."""
    from orchestrator.remote import follow_job, submit_sweep

    chosen, job = submit_sweep(sweep, settings or [], address, include or [])
    Console().print(f"job {job} on {chosen}", highlight=False, soft_wrap=True)
    if follow:
        raise typer.Exit(follow_job(job, chosen))
    Console().print(f"follow it: supsup logs {job} --follow", highlight=False, soft_wrap=True)


@app.command()
def status(
    run: Annotated[str | None, typer.Argument(metavar="[RUN|JOB]", show_default=False)] = None,
    *,
    address: Address = None,
    storage: Storage = "runs",
) -> None:
    """Tasks done, failed and left; rate; time to go. Without RUN: every run. With --address: jobs."""
    if address is not None:
        from orchestrator.remote import print_jobs

        print_jobs(Console(), address, run)
        return
    from orchestrator.status import find_runs, resolve_run
    from orchestrator.summary import print_status

    roots = find_runs(storage) if run is None else [resolve_run(run, storage)]
    print_status(Console(), roots, storage)


@app.command()
def logs(
    target: Annotated[str, typer.Argument(metavar="RUN|JOB", help="A run folder, or a job of a cluster.")],
    *,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show a job's log until it ends.")] = False,
    task: Annotated[int | None, typer.Option(help="Only what concerns this task.", min=0)] = None,
    storage: Storage = "runs",
) -> None:
    """Show what a job printed; or, of a run, the attempts of tasks that failed at least once."""
    from orchestrator.remote import follow_job, job_address, job_log
    from orchestrator.task_logs import is_run, print_task_logs

    if address is None and is_run(target, storage):
        print_task_logs(Console(), target, storage, task)
    elif follow:
        raise typer.Exit(follow_job(target, job_address(address)))
    else:
        print(job_log(target, job_address(address)), end="")


@app.command()
def stop(
    job: Annotated[str, typer.Argument(metavar="JOB", help="As `supsup submit` named it.")],
    *,
    address: Address = None,
) -> None:
    """Stop a job; what it finished is kept, and submitting the sweep again goes on."""
    from orchestrator.remote import stop_job

    Console().print(stop_job(job, address), highlight=False, soft_wrap=True)


@app.command()
def shellenv() -> None:
    """Print a shell function with which `ray submit SWEEP.yaml` works: eval "$(supsup shellenv)"."""
    from orchestrator.shell import shell_function

    print(shell_function(), end="")


@app.command()
def evaluate(run: RunName, settings: Settings = None, storage: Storage = "runs") -> None:
    """Evaluate stored masks under other settings: scenario, inference, k; no training."""
    from orchestrator.display import make_display
    from orchestrator.evaluate import evaluate_run
    from orchestrator.status import resolve_run
    from orchestrator.summary import print_evaluation

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console, root = Console(), resolve_run(run, storage)
    result = evaluate_run(root, settings or [], _data_folder(None), make_display(console))
    print_evaluation(console, result)
    raise typer.Exit(1 if result.failures else 0)


@app.command()
def infer(
    run: RunName,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="PNG or .npy, as a task sees them.")
    ],
    *,
    k: Annotated[int | None, typer.Option(help="Search the first k tasks; default: all.", min=1)] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="one_shot, binary, exhaustive or shortlist; default: the run's.")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="H or G; default: the run's.")] = None,
    shards: Annotated[int | None, typer.Option(help="Hold the masks in so many Ray actors.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage: Storage = "runs",
) -> None:
    """Which task is each image from, which class, how sure."""
    from orchestrator.answers import answer_images, answers_json, print_answers
    from orchestrator.status import resolve_run

    chosen = {"algorithm": algorithm, "objective": objective}
    words = {key: value for key, value in chosen.items() if value is not None}
    answers = answer_images(resolve_run(run, storage), images, words, k=k, num_shards=shards)
    if as_json:
        print(answers_json(answers))
    else:
        print_answers(Console(), answers)


@app.command()
def capacity(
    run: RunName,
    at: Annotated[str | None, typer.Option(help="Numbers of stored masks, such as 5,20,100.")] = None,
    storage: Storage = "runs",
) -> None:
    """How many masks a Hopfield memory holds: the run's own and random ones, by both rules."""
    from orchestrator.capacity import DEFAULT_COUNTS, study_capacity
    from orchestrator.status import resolve_run

    study_capacity(Console(), resolve_run(run, storage), parse_counts(at) if at else DEFAULT_COUNTS)


@app.command()
def verify(
    run: RunName,
    repair: Annotated[
        bool, typer.Option(help="Move bad files to quarantine/, for `run` to make again.")
    ] = False,
    storage: Storage = "runs",
) -> None:
    """Check every mask: digests, gaps, foreign files. Ends with 0 clean, 1 something bad."""
    from orchestrator.status import resolve_run
    from orchestrator.summary import verify_and_print

    clean = verify_and_print(Console(), resolve_run(run, storage), repair=repair)
    raise typer.Exit(0 if clean else 1)


@app.command()
def export(
    run: RunName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write.")],
    tasks: Annotated[str, typer.Option(help="Such as 0,3-5; all by default.")] = "all",
    test_images: Annotated[
        int, typer.Option(metavar="N", help="Also write N test images of each task as PNG.", min=0)
    ] = 0,
    storage: Storage = "runs",
) -> None:
    """Write the base network and the masks as safetensors files."""
    from orchestrator.export import export_run, export_test_images
    from orchestrator.run_folder import open_run
    from orchestrator.status import resolve_run
    from orchestrator.stream_log import num_expected_masks

    located, record = open_run(resolve_run(run, storage))
    chosen = parse_tasks(tasks, num_expected_masks(located, record.num_tasks))
    num_masks = export_run(located, out, chosen)
    Console().print(f"wrote network.safetensors and {num_masks} masks to {out}", soft_wrap=True)
    if test_images:
        folder = _data_folder(located.config.data_dir)
        num_images = export_test_images(located, out, chosen, test_images, folder)
        Console().print(f"wrote {num_images} test images to {out}", soft_wrap=True)


@app.command()
def ui(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", show_default=False)] = None,
    uri: Annotated[
        str | None, typer.Option(help="MLflow's store; default: the run's, or sqlite:///runs/mlflow.db.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: a free one.", min=1, max=65535)] = None,
    storage: Storage = "runs",
) -> None:
    """Serve the MLflow pages on 127.0.0.1 until Ctrl-C."""
    from orchestrator.summary import serve_ui

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve_ui(Console(), run, uri, port, storage)


def parse_counts(text: str) -> list[int]:
    """Parse numbers of masks such as ``5,20,100``. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdigit() or not 1 <= int(part) <= MAX_STORED:
            raise ConfigError(
                f"--at: found {part!r}, expected numbers from 1 to {MAX_STORED:,}, such as 5,20"
            )
    return [int(part) for part in parts]


def parse_tasks(text: str, num_tasks: int) -> list[int]:
    """Parse ``all`` or ranges such as ``0,3-5`` into ascending tasks. Raises ConfigError."""
    if text == "all":
        return list(range(num_tasks))
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdigit() or (last and not last.strip().isdigit()):
            raise ConfigError(f"--tasks: found {part!r}, expected numbers and ranges such as 0,3-5")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers or numbers[-1] >= num_tasks:
            raise ConfigError(f"--tasks: found {part!r}, expected tasks from 0 to {num_tasks - 1}")
        chosen.update(numbers)
    return sorted(chosen)


def _data_folder(configured: str | None) -> Path | None:
    chosen = configured if configured is not None else os.environ.get("SUPSUP_DATA")
    return Path(chosen).expanduser() if chosen else None


def entry_point() -> None:
    """Run the command line and end with its exit code; errors are for people."""
    debug = "--debug" in sys.argv[1:]
    sys.exit(call(app, debug=debug))


def call(command: Callable[..., Any], arguments: list[str] | None = None, *, debug: bool = False) -> int:
    """Run ``command`` and return the exit code, printing an expected error as one message."""
    try:
        code = command(args=arguments, standalone_mode=True)
        return int(code or 0)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except KeyboardInterrupt:
        _complain("stopped; the same command goes on")
        return STOPPED
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    """Say what went wrong in one message, and return the exit code for it."""
    if isinstance(error, SupSupError):
        _complain(f"error: {error}" if isinstance(error, InputError) else str(error))
        return error.exit_code
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        _complain(f"error: {error.strerror or error}{where}; what is finished is kept")
    else:
        _complain(
            f"a fault of supsup itself: {type(error).__name__}: {error}; what is finished is kept, "
            "and `supsup --debug ...` shows where it happened"
        )
    return 1


def _complain(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
