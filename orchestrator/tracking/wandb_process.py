"""The process in which wandb writes an offline run.

Reads one line of JSON from stdin, as ``orchestrator.tracking.wandb_files`` sends it, and ends when stdin does.
"""

import json
import os
import sys
import threading
from typing import Any

import wandb

from orchestrator.tracking.wandb_files import axis_of


def write(content: dict[str, Any]) -> None:
    """Write one offline run into ``content["folder"]``."""
    settings = wandb.Settings(
        mode="offline",
        root_dir=content["folder"],
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
    )
    about = {key: content[key] for key in ("id", "project", "name", "group", "config", "notes")}
    run = wandb.init(**about, settings=settings)
    keys = {key for row in content["rows"] for key in row if not key.startswith("_")}
    for key in sorted(keys - {axis_of(key) for key in keys}):
        run.define_metric(key, step_metric=axis_of(key))
    for row in content["rows"]:
        run.log(row)
    run.log({key: wandb.Image(path) for key, path in content["images"].items()})
    run.finish(exit_code=0 if content["is_good"] else 1)


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing more is sent; not sys.stdin, whose lock would be held when Python ends
    os._exit(1)


def main() -> None:
    """Write what the parent asks for."""
    content = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    write(content)
