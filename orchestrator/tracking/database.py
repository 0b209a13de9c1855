"""MLflow's SQLite file: made whole or not at all, and recognised where an older version left half of one.

MLflow fills a new database by dozens of migrations, which takes seconds. A process that ends in between leaves a file
that no later one can use, so ours is made under a temporary name and renamed.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from core.errors import SupSupError, first_line
from orchestrator.runs.commands import supsup_command
from storage.files import commit

TABLES = ("runs", "experiments", "metrics", "params", "tags", "alembic_version")


def open_database(path: Path) -> Any:
    """Return a client of the SQLite store at ``path``, which is created if it is missing.

    Raises SupSupError if the file is not a whole store, or is one of another version of MLflow.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that create the tables of a new database at once both fail.
    with FileLock(f"{path}.lock"):
        if not path.exists() or path.stat().st_size == 0:
            _remove_unfinished(path)
            commit(path, _create)
        try:
            client = _client(path)
            client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError) as error:
            raise SupSupError(_what_is_wrong(path, error)) from error
    return client


def _client(path: Path) -> Any:
    # A registry that was set for the process, or in MLFLOW_REGISTRY_URI, is another store's.
    uri = f"sqlite:///{path}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create(path: Path) -> None:
    """Make a whole store at ``path`` and let go of it."""
    client = _client(path)
    client.search_experiments(max_results=1)
    client._tracking_client.store._dispose_engine()  # noqa: SLF001  # its connections would hold the renamed file


def _remove_unfinished(path: Path) -> None:
    """Remove what creations that were interrupted left behind; the lock is held, so none is at work."""
    for left in path.parent.glob(f".{path.name}.*.tmp*"):
        left.unlink(missing_ok=True)


def _what_is_wrong(path: Path, error: Exception) -> str:
    if _is_whole(path):
        return f"{path} is a store that this version of MLflow cannot open ({first_line(error)[:200]})"
    return (
        f"{path} is only part of an MLflow store, since its creation was interrupted; it holds no run. Remove it "
        f"(and the files beside it whose names begin with the same); then `{supsup_command('sync', 'RUN')}` fills a "
        "new one from each run folder"
    )


def _is_whole(path: Path) -> bool:
    """Return whether a database has the tables of a store, and any run in them."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
            names = {row[0] for row in opened.execute("select name from sqlite_master where type = 'table'")}
            has_runs = opened.execute("select 1 from runs limit 1").fetchone() if "runs" in names else None
    except sqlite3.Error:
        return False
    return names.issuperset(TABLES) and has_runs is not None
