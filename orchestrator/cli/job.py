"""The entry point of jobs on the cluster: ``python job.py`` beside a staged sweep, or alone on the head.

Its arguments are settings, ``key=value``, and options of `supsup run`. Alone, after `ray submit` over ssh, it needs the id of the sweep: the head has the one of the last
`ray up`, which may be out of date.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")


def main(arguments: list[str] | None = None) -> int:
    """Run the staged sweep, or the one on the head; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    from orchestrator.cli.common import call
    from orchestrator.cli.main import app  # here: this file is also run by its path
    from orchestrator.cluster.submission import (
        LOCK_FILE,
        SWEEP_FILE,
        take_data_hint,
        version_differences,
        versions_of,
    )

    staged = Path(SWEEP_FILE)
    if not staged.is_file():
        return call(lambda **_: _run_on_head(given))
    sweep = json.loads(staged.read_text())
    lock = json.loads(Path(LOCK_FILE).read_text())
    differ = version_differences(lock, versions_of(lock))
    for words in [*(f"this node has {words}" for words in differ), take_data_hint()]:
        if words is not None:
            print(f"note: {words}", flush=True)  # the job's log
    return call(app, ["run", SWEEP_FILE, *_on_this_cluster(sweep), *given])


def _run_on_head(given: list[str]) -> int:
    from core.errors import ConfigError
    from orchestrator.cli.common import call
    from orchestrator.cli.main import app
    from orchestrator.cluster.submission import sweep_id
    from orchestrator.config.load import read_sweep_file
    from orchestrator.runs.commands import supsup_command
    from storage.files import commit_text

    carried = os.environ.get("SUPSUP_SWEEP")
    path = Path(carried) if carried else BOOTSTRAP.expanduser()
    if not path.is_file():
        raise ConfigError(
            f"no sweep came with this script, and the head has none ({path}); `ray up` copies it there"
        )
    sweep = read_sweep_file(path)
    found = sweep_id(sweep)
    if not carried:
        wanted = next((word for word in given if "=" not in word and not word.startswith("-")), None)
        given = [word for word in given if word != wanted]
        if wanted != found:
            asked = f"but {wanted} is wanted" if wanted else "and no id says which sweep is wanted"
            raise ConfigError(
                f"the head has the sweep {found} of the last `ray up`, {asked}; run `ray up -y --no-restart FILE`, then "
                f"`ray submit FILE sweeps/run.py ID`, with the ID that `{supsup_command('plan', 'FILE')}` shows"
            )
    local = Path(f"~/.supsup/{found}.json").expanduser()
    commit_text(local, json.dumps(sweep))
    return call(app, ["run", str(local), *_on_this_cluster(sweep), *given])


def _on_this_cluster(sweep: dict[str, Any]) -> list[str]:
    """Return the setting that joins this cluster, unless the sweep runs inline."""
    kind = (sweep.get("executor") or {}).get("kind", "ray")
    return ["executor.address=auto"] if kind == "ray" else []


if __name__ == "__main__":
    sys.exit(main())
