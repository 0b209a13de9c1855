"""``supsup serve``: a run's masks over HTTP."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from core.errors import ConfigError, plural
from orchestrator.cli.common import RunName, Storage
from orchestrator.execution.ctrl_c import handle_stops, stop_taken

if TYPE_CHECKING:
    from orchestrator.serve.process import ServerSpec

serving = typer.Typer()
PORT = 8650


@serving.command()
def serve(
    run: RunName,
    port: Annotated[int, typer.Option(help="0: a free one.", min=0, max=65535)] = PORT,
    host: Annotated[
        str, typer.Option(help="The address to listen at; beyond loopback only with a token.")
    ] = "127.0.0.1",
    replicas: Annotated[
        int, typer.Option(metavar="N", help="Processes that share the port.", min=1, max=256)
    ] = 1,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The bearer token; default: SUPSUP_SERVE_TOKEN.")
    ] = None,
    algorithm: Annotated[str | None, typer.Option(help="How to infer tasks; default: the run's.")] = None,
    objective: Annotated[str | None, typer.Option(help="What to infer them by; default: the run's.")] = None,
    max_images: Annotated[int, typer.Option(metavar="N", help="Images in a request, at most.", min=1)] = 4096,
    timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds until a request is given up.", min=0.1)
    ] = 30.0,
    accept_tasks: Annotated[
        bool, typer.Option("--accept-tasks", help="Learn tasks that are posted; for benchmark.kind 'files'.")
    ] = False,
    ray: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve nothing; write a config for Ray Serve.")
    ] = None,
    max_replicas: Annotated[
        int | None, typer.Option(metavar="N", help="With --ray: replicas under load.", min=1)
    ] = None,
    shards: Annotated[
        int, typer.Option(metavar="N", help="With --ray: parts of the masks that replicas share.", min=0)
    ] = 0,
    storage: Storage = "runs",
) -> None:
    """Answer images over HTTP with the masks of a run, and with those that it stores meanwhile, until Ctrl-C."""
    from orchestrator.serve.access import read_token
    from orchestrator.serve.limits import Limits
    from orchestrator.serve.process import ServerSpec, check_servable, listen, serve_here, serve_replicas
    from orchestrator.status import resolve_run

    handle_stops()
    token = read_token(token_file, host)
    words = {"algorithm": algorithm, "objective": objective}
    spec = ServerSpec(
        root=str(resolve_run(run, storage)),
        host=host,
        inference={key: value for key, value in words.items() if value is not None},
        limits=Limits(request_images=max_images, queue_images=2 * max_images, timeout_s=timeout),
        token=token,
        accepts_tasks=accept_tasks,
    )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    num_tasks = check_servable(spec)
    if ray is not None:
        _write_config(console, ray, spec, (replicas, max_replicas or replicas, shards), port)
        return
    if accept_tasks and replicas > 1:
        raise ConfigError(
            "--accept-tasks: found --replicas with it, expected one process, which numbers the tasks"
        )
    if max_replicas is not None or shards:
        raise ConfigError("serve: found --max-replicas or --shards, expected --ray with them")
    listening = listen(host, port)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    address = f"http://{host if ':' not in host else f'[{host}]'}:{listening.getsockname()[1]}"
    served = f"{plural(num_tasks, 'task')} of {spec.root} at {address}"
    console.print(f"{served} (API: {address}/docs); Ctrl-C ends it")
    try:
        if replicas == 1:
            serve_here(spec, listening)
        else:
            serve_replicas(spec, listening, replicas)
    except KeyboardInterrupt:  # the way to end it
        stop_taken()


def _write_config(
    console: Console, path: Path, spec: "ServerSpec", sizes: tuple[int, int, int], port: int
) -> None:
    """Write the config of a deployment and say how to use it. sizes: replicas, their most, shards."""
    if find_spec("watchfiles") is None:
        raise ConfigError("--ray: Ray Serve is not installed; pip install 'supsup[serve]'")
    from orchestrator.serve.on_ray import RaySpec, write_config

    replicas, most, shards = sizes
    if most < replicas:
        raise ConfigError(f"--max-replicas: found {most}, expected at least {replicas}, as --replicas says")
    ray_spec = RaySpec(server=spec, replicas=replicas, max_replicas=most, num_shards=shards)
    write_config(path, ray_spec, spec.host, port)
    console.print(f"wrote {path}; serve it on this machine, or on a cluster that reads {spec.root}:")
    console.print(f"  serve run {path}")
    console.print(f"  serve deploy {path} --address http://HEAD:8265")
