"""The ``supsup`` command. Heavy modules are imported only by the commands that need them."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from core.errors import ConfigError
from orchestrator.cli.banks import banks
from orchestrator.cli.check import checks
from orchestrator.cli.common import (
    Address,
    AsJson,
    Plain,
    Quiet,
    RunName,
    Settings,
    Storage,
    SweepOrRun,
    SweepStorage,
    call,
    consoles,
    find_sweep,
    parse_counts,
    parse_tasks,
    stdout_for,
)
from orchestrator.cli.compare import comparisons
from orchestrator.cli.jobs import jobs
from orchestrator.cli.reproduce import papers
from orchestrator.cli.serve import serving
from orchestrator.cli.views import views
from orchestrator.config.own_data import data_folder
from orchestrator.execution.ctrl_c import handle_stops

ANYWHERE = ("--allow-code", "--allow-env", "--debug")  # options of `supsup` that may also follow the command


class _Supsup(TyperGroup):
    """Moves the options that are accepted anywhere to before the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        words = _with_names(args[:end])
        ours = [word for word in words if word.partition("=")[0] in ANYWHERE]
        rest = [word for word in words if word.partition("=")[0] not in ANYWHERE]
        # Alone, it takes no value: the word after it is the command.
        named = ["--allow-code=1" if word == "--allow-code" else word for word in ours]
        return super().parse_args(ctx, [*named, *rest, *args[end:]])


def _with_names(words: list[str]) -> list[str]:
    """Join each ``--allow-env`` with its value, the next word, so that they move together."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--allow-env":
            joined[-1] = f"--allow-env={word}"
        else:
            joined.append(word)
    return joined


app = typer.Typer(
    name="supsup",
    cls=_Supsup,
    help="Train, store and evaluate supermasks over one fixed random network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"supsup {version('supsup')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show stack traces.")] = False,
    allow_code: Annotated[
        str | None,
        typer.Option(
            "--allow-code",
            metavar="[=PATH]",
            help="Import your own code that the sweep names; only from PATH, or of this digest, if given.",
        ),
    ] = None,
    allow_env: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-env",
            metavar="NAME,...",
            help="Let ${oc.env:NAME} in a sweep read these environment variables.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            is_eager=True,
            callback=lambda value: _show_version(is_asked=value),
        ),
    ] = False,
) -> None:
    """Train, store and evaluate supermasks over one fixed random network."""
    if allow_code is not None:
        from core.own_code.permission import allow_code as allow

        allow(allow_code)
    for names in allow_env or []:
        from orchestrator.config.environment import allow_env as allow_names

        allow_names(names)
    del version  # answered before a command is asked for
    context.obj = debug


@app.command()
def run(
    sweep: SweepOrRun,
    settings: Settings = None,
    *,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Train only the tasks that failed in the last run.")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option(help="Train only these tasks, such as 10-19, and leave the rest to others.")
    ] = None,
    quiet: Quiet = False,
    plain: Plain = False,
    as_json: AsJson = False,
    storage: SweepStorage = None,
) -> None:
    """Train what is missing, evaluate, report. Run it again, or name the run, to resume."""
    from orchestrator.cli.display import make_display

    handle_stops()
    console, progress = consoles(quiet=quiet, plain=plain, as_json=as_json)
    display = make_display(progress, plain=plain, quiet=quiet)
    with display.doing("starting supsup"):
        from orchestrator.cli.results import print_overview, print_result, result_json
        from orchestrator.runs.nearest import new_run_note
        from orchestrator.sweep import run_sweep

        config = find_sweep(sweep, settings or [], storage)
    if config.search is not None:
        if only_failed:
            raise ConfigError(
                "--only-failed: found a search, expected a single run; a search always tries failed points again"
            )
        if tasks is not None:
            raise ConfigError("--tasks: found a search, expected a single run")
        from orchestrator.search.search import run_search
        from orchestrator.search.settings import results_json
        from orchestrator.search.summary import print_search, track_search

        with stdout_for(json_alone=as_json):
            results = run_search(config, data_folder(config.data_dir), display)
            figures = print_search(console, config, results)
            track_search(config, results, figures, display)
        if as_json:
            print(results_json(config))
        raise typer.Exit(1 if any(result.error for result in results) else 0)
    only = None if tasks is None else parse_tasks(tasks, config.benchmark.num_tasks)
    note = new_run_note(config)
    if note is not None:
        display.message(note)
    folder = data_folder(config.data_dir)
    show = partial(print_result, console)
    with stdout_for(json_alone=as_json):
        result = run_sweep(config, folder, display, only_failed=only_failed, only=only, show=show)
    print_overview(console, result)
    if as_json:
        print(result_json(result))
    raise typer.Exit(0 if result.is_complete else 1)


@app.command()
def plan(sweep: SweepOrRun, settings: Settings = None, storage: SweepStorage = None) -> None:
    """Show what `run` would do, and estimate its time and space; changes nothing."""
    from orchestrator.cli.data_notes import data_note
    from orchestrator.cli.results import print_plan
    from orchestrator.cluster.submission import file_identity
    from orchestrator.report.text import print_plain

    config = find_sweep(sweep, settings or [], storage)
    identity = file_identity(Path(sweep)) if Path(sweep).is_file() else None
    if config.search is not None:
        from orchestrator.search.summary import print_search_plan

        print_search_plan(Console(), config, identity)
    else:
        print_plan(Console(), config, identity)
    note = data_note(config)
    if note is not None:
        print_plain(Console(), note)


@app.command()
def status(
    run: Annotated[str | None, typer.Argument(metavar="[RUN|JOB]", show_default=False)] = None,
    *,
    address: Address = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep refreshing until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage: Storage = "runs",
) -> None:
    """Show tasks done, failed and left; rate; time left. Without RUN: all runs. With --address: jobs."""
    if address is not None:
        from orchestrator.cli.job_list import print_jobs

        print_jobs(Console(), address, run)
        return
    from orchestrator.cli.searches import print_search_status, print_searches, search_status_json
    from orchestrator.cli.status import print_status, status_json
    from orchestrator.status import find_runs, resolve_run, resolve_search, run_status

    searched = None if run is None else resolve_search(run, storage)
    if searched is not None:
        if as_json:
            print(search_status_json(searched))
        else:
            print_search_status(Console(), searched, watch=watch)
        return
    roots = find_runs(storage) if run is None else [resolve_run(run, storage)]
    if as_json:
        print(status_json([run_status(root) for root in roots]))
    else:
        print_status(Console(), roots, storage, watch=watch)
        if run is None:
            print_searches(Console(), storage)


@app.command()
def evaluate(
    run: RunName,
    settings: Settings = None,
    *,
    storage: Storage = "runs",
    quiet: Quiet = False,
    plain: Plain = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate stored masks under other settings: scenario, inference, k; no training."""
    from orchestrator.cli.display import make_display
    from orchestrator.cli.results import print_evaluation, result_json
    from orchestrator.evaluate import evaluate_run
    from orchestrator.status import resolve_run

    handle_stops()
    console, progress = consoles(quiet=quiet, plain=plain, as_json=as_json)
    display = make_display(progress, plain=plain, quiet=quiet)
    with stdout_for(json_alone=as_json):
        result = evaluate_run(resolve_run(run, storage), settings or [], data_folder(None), display)
    print_evaluation(console, result)
    if as_json:
        print(result_json(result))
    raise typer.Exit(0 if result.is_complete else 1)


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
    objective: Annotated[str | None, typer.Option(help="H, G or E; default: the run's.")] = None,
    shards: Annotated[int | None, typer.Option(help="Hold the masks in this many Ray actors.", min=1)] = None,
    task: Annotated[int | None, typer.Option(help="The task of all images; nothing is inferred.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage: Storage = "runs",
) -> None:
    """Infer the task and the class of each image, or the class alone, with a confidence."""
    from orchestrator.cli.answers import answer_images, answers_json, print_answers, unsearched_tasks
    from orchestrator.report.text import print_plain
    from orchestrator.status import resolve_run

    chosen = {"algorithm": algorithm, "objective": objective}
    words = {key: value for key, value in chosen.items() if value is not None}
    root = resolve_run(run, storage)
    with stdout_for(json_alone=as_json):
        answers = answer_images(root, images, words, k=k, num_shards=shards, task=task)
    note = unsearched_tasks(root) if k is None and task is None else None
    if note is not None:
        print_plain(Console(stderr=True), note)
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
    """Measure how many masks a Hopfield memory holds: the run's and random ones, by both rules."""
    from orchestrator.report.capacity import DEFAULT_COUNTS, study_capacity
    from orchestrator.status import resolve_run

    study_capacity(Console(), resolve_run(run, storage), parse_counts(at) if at else DEFAULT_COUNTS)


@app.command()
def verify(
    run: RunName,
    repair: Annotated[
        bool, typer.Option(help="Move bad files to quarantine/; `run` then trains their tasks again.")
    ] = False,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at names, sizes and headers alone; read no masks.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Test every mask again, and compare with the stored accuracies.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option(metavar="PUB.pem", help="Also check the signature, by this public key.")
    ] = None,
    storage: Storage = "runs",
) -> None:
    """Check every mask: digests, missing tasks, files of other runs. Exit code 1 if anything is wrong."""
    from orchestrator.cli.results import verify_and_print
    from orchestrator.cli.searches import verify_search
    from orchestrator.status import resolve_run, resolve_search

    if quick and deep:
        raise ConfigError("--quick: found --deep too; expected one of them, since --deep reads every mask")
    searched = resolve_search(run, storage)
    if searched is not None and key is not None:
        raise ConfigError("--key: found a search, expected a single run")
    if searched is not None:
        clean = verify_search(Console(), searched, repair=repair, quick=quick, deep=deep)
    else:
        root = resolve_run(run, storage)
        clean = verify_and_print(Console(), root, repair=repair, quick=quick, deep=deep)
        if key is not None:
            from orchestrator.cli.banks import print_signature

            clean = print_signature(root, key) and clean
    raise typer.Exit(0 if clean else 1)


def entry_point() -> None:
    """Run the command line and exit with its code."""
    debug = "--debug" in sys.argv[1:]
    sys.exit(call(app, debug=debug))


app.add_typer(jobs)
app.add_typer(views)
app.add_typer(comparisons)
app.add_typer(banks)
app.add_typer(checks)
app.add_typer(papers)
app.add_typer(serving)
