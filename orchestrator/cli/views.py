"""The commands that show or export a run: report, export, sync, ui."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from core.errors import ConfigError, plural
from orchestrator.cli.common import RunName, Storage, complete_run, parse_tasks
from orchestrator.config.own_data import data_folder
from orchestrator.execution.ctrl_c import handle_stops

if TYPE_CHECKING:
    from storage.locations import Location  # imports pyarrow, and --help must not

views = typer.Typer()


@views.command()
def report(run: RunName, storage: Storage = "runs") -> None:
    """Draw the figures and the page of a run or a search from its folder; trains and evaluates nothing."""
    from orchestrator.report.build import make_report
    from orchestrator.report.tables import print_metrics, print_sizes
    from orchestrator.report.text import short
    from orchestrator.status import resolve_run, resolve_search

    searched = resolve_search(run, storage)
    if searched is not None:
        from orchestrator.cli.searches import remake_report

        remake_report(Console(), searched)
        return
    made = make_report(resolve_run(run, storage))
    *figures, page = made.files
    console = Console()
    print_metrics(console, made.metrics)
    if made.sizes is not None:
        print_sizes(console, made.sizes, is_of_paper=made.is_of_paper)
    drawn = plural(len(figures), "figure")
    words = f"drew {drawn}" if made.is_new else f"{drawn}, as before: nothing changed since they were drawn"
    console.print(f"{words}; open {short(page)}", soft_wrap=True, highlight=False)


@views.command()
def export(
    run: RunName,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder for safetensors files.")] = None,
    tasks: Annotated[str, typer.Option(help="Tasks to export, such as 0,3-5; default: all.")] = "all",
    test_images: Annotated[
        int, typer.Option(metavar="N", help="Also write N test images of each task as PNG.", min=0)
    ] = 0,
    *,
    to_mlflow: Annotated[bool, typer.Option("--mlflow", help="Log an MLflow model of all masks.")] = False,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Register the model; a new version each time.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="An alias for this version, such as champion.")] = None,
    uri: Annotated[str | None, typer.Option(help="MLflow's store; default: the run's.")] = None,
    storage: Storage = "runs",
) -> None:
    """Write network and masks as safetensors files, or log them as an MLflow model to be served."""
    from orchestrator.status import resolve_run

    if out is None and not to_mlflow:
        raise ConfigError("export: found neither --out DIR nor --mlflow, expected at least one of them")
    if not to_mlflow and (register or alias or uri):
        raise ConfigError("export: found --register, --alias or --uri, expected --mlflow with them")
    root, console = resolve_run(run, storage), Console(soft_wrap=True, highlight=False, markup=False)
    if out is not None:
        _export_files(console, root, out, tasks, test_images)
    if to_mlflow:
        from orchestrator.cli.answers import unsearched_tasks
        from orchestrator.tracking.model import export_model, serve_command

        model = export_model(root, uri, register, alias)
        note = unsearched_tasks(root)
        if note is not None:
            console.print(note)
        console.print(f"logged {model.uri}, a model of {plural(model.num_tasks, 'task')}; serve it:")
        console.print(f"  {serve_command(model)}")


@views.command()
def sync(
    run: RunName,
    uri: Annotated[str | None, typer.Option(help="MLflow's store; default: the run's.")] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A tracker besides those of tracking.also, such as tensorboard."),
    ] = None,
    storage: Storage = "runs",
) -> None:
    """Bring MLflow, and the other trackers of a run or a search, up to date from its folder; nothing is ever doubled."""
    from orchestrator.cli.display import make_display
    from orchestrator.status import resolve_run, resolve_search
    from orchestrator.tracking.sync import sync_run, synced_trackers

    searched = resolve_search(run, storage)
    if searched is not None:
        from orchestrator.cli.searches import sync_search

        sync_search(Console(), searched, uri, also or [])
        return
    console, root = Console(), resolve_run(run, storage)
    store, num_sent = sync_run(root, uri, make_display(console), also or [])
    lines = [f"{root.name} is in {name}" for name in synced_trackers(root, also or [])]
    if store is not None:
        lines.append(f"{root.name} is in MLflow at {store}; {plural(num_sent, 'task')} got a child run")
    console.print("\n".join(lines), soft_wrap=True, highlight=False)


@views.command()
def ui(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", show_default=False, autocompletion=complete_run)
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="MLflow's store; default: the run's, or sqlite:///runs/mlflow.db.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: a free one.", min=1, max=65535)] = None,
    *,
    show: Annotated[bool, typer.Option("--open", help="Open the first link in a browser.")] = False,
    storage: Storage = "runs",
) -> None:
    """Serve the MLflow pages on 127.0.0.1 until Ctrl-C, and print the links worth opening."""
    from orchestrator.status import resolve_run, resolve_search
    from orchestrator.tracking.server import serve_search, serve_ui

    handle_stops()
    searched = None if run is None else resolve_search(run, storage)
    if searched is not None:
        from orchestrator.search.stored import read_search

        serve_search(Console(), searched, read_search(searched).config, uri, port, show=show)
        return
    root = None if run is None else resolve_run(run, storage)
    serve_ui(Console(), root, uri, port, show=show)


def _export_files(console: Console, root: "Location", out: Path, tasks: str, num_images: int) -> None:
    from orchestrator.export import export_run, export_test_images
    from orchestrator.runs.run import open_run
    from orchestrator.stages import training_stage

    run, _ = open_run(root)
    stage = training_stage(run.config)
    progress = stage.progress(run)
    is_trained = stage.has_masks and progress.unit != "decisions"
    end = progress.num_total + len(progress.forgotten) if is_trained else 0
    chosen = [*progress.wanted] if is_trained and tasks == "all" else parse_tasks(tasks, end)
    console.print(f"wrote network.safetensors and {plural(export_run(run, out, chosen), 'mask')} to {out}")
    if num_images:
        folder = data_folder(run.config.data_dir)
        num_written = export_test_images(run, out, chosen, num_images, folder)
        console.print(f"wrote {plural(num_written, 'test image')} to {out}")
