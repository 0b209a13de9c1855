"""One controller per run: a file lock on file systems, a lease in object stores.

A lease is an object that its holder rewrites every few seconds. In a race, two controllers could both
get it; they would then train the same tasks to the same bits, which costs only time.
"""

import json
import math
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from core.errors import RunFolderError, RunLockedError, first_line
from storage.layout import RunLayout, host_name
from storage.locations import ObjectPath, plain_file

RENEW_S = 5.0
LEASE_S = 20.0  # without renewal, a lease expires; several times RENEW_S
LONG_DEAD_S = 600.0  # by wall clock: more than the clocks of a cluster differ
READ_BACK_S = 0.5


@contextmanager
def locked(layout: RunLayout) -> Iterator[None]:
    """Create the run folder and hold its lock. Raises RunLockedError or RunFolderError."""
    lock = layout.lock
    with _lease(lock, layout) if isinstance(lock, ObjectPath) else _file_lock(lock, layout):
        yield


def lock_holder(layout: RunLayout) -> str:
    """Return, as text, the process that holds the lock."""
    try:
        holder = json.loads(plain_file(layout.lock).read_bytes())
        return f"process {holder['process_id']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def is_locked(layout: RunLayout) -> bool:
    """Return whether a controller is at work; writes nothing."""
    if isinstance(layout.lock, ObjectPath):
        holder = _holder(layout.lock)
        return holder is not None and not _is_dead(holder, LEASE_S)
    if not layout.lock.exists():
        return False
    lock = FileLock(layout.lock, blocking=False)
    try:
        with lock:
            return False
    except (Timeout, OSError):
        return True


@contextmanager
def _file_lock(path: Path, layout: RunLayout) -> Iterator[None]:
    lock = FileLock(path, blocking=False)
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RunLockedError(f"already running: {layout.root} is held by {lock_holder(layout)}") from error
    except OSError as error:
        raise RunFolderError(
            f"cannot use the run folder {layout.root} ({error.strerror}); see storage.uri"
        ) from error
    try:
        path.write_text(json.dumps(_me()))
        yield
    finally:
        path.write_text("")
        lock.release()


@contextmanager
def _lease(path: ObjectPath, layout: RunLayout) -> Iterator[None]:
    mine = _me() | {"lease": uuid.uuid4().hex}
    try:
        _wait_until_free(path, layout)
        _write(path, mine)
        time.sleep(READ_BACK_S)
        if (_holder(path) or {}).get("lease") != mine["lease"]:
            raise RunLockedError(f"already running: {layout.root} was just taken by {lock_holder(layout)}")
    except OSError as error:
        raise RunFolderError(
            f"cannot use the run folder {layout.root} ({first_line(error)[:200]}); see storage.uri, and "
            "AWS_ENDPOINT_URL, AWS_REGION and the credentials in the environment"
        ) from error
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, mine, stop), name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        stop.set()
        renewing.join()
        with suppress(OSError):  # it expires by itself
            path.write_bytes(b"")


def _wait_until_free(path: ObjectPath, layout: RunLayout) -> None:
    """Wait until the lease is free or has expired. Raises RunLockedError if its holder renews it."""
    first = _holder(path)
    if first is None or _is_dead(first, LONG_DEAD_S):
        return
    # By observed changes, not by the clock of another machine, which may differ.
    until_s = time.monotonic() + LEASE_S
    while time.monotonic() < until_s:
        now = _holder(path)
        if now is None:
            return
        if first["host"] == host_name() or now != first:
            raise RunLockedError(f"already running: {layout.root} is held by {lock_holder(layout)}")
        time.sleep(1.0)


def _renew(path: ObjectPath, mine: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(RENEW_S):
        with suppress(OSError):  # retried soon
            _write(path, mine)


def _write(path: ObjectPath, mine: dict[str, Any]) -> None:
    path.write_bytes(json.dumps(mine | {"renewed_s": time.time()}).encode())


def _holder(path: ObjectPath) -> dict[str, Any] | None:
    """Return the last holder of the lease, None if it is free."""
    try:
        holder = json.loads(path.read_bytes() or b"null")
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return holder if _is_holder(holder) else None


def _is_holder(found: Any) -> bool:
    """Return whether this names a process that can exist, and a time; a damaged lease may hold anything."""
    kinds = {"host": str, "process_id": int, "renewed_s": float}
    if not isinstance(found, dict) or not all(
        isinstance(found.get(key), kind) for key, kind in kinds.items()
    ):
        return False
    return bool(0 < found["process_id"] < 2**31 and math.isfinite(found["renewed_s"]))


def _is_dead(holder: dict[str, Any], patience_s: float) -> bool:
    """Return whether the holder is a dead process of this machine, or has not renewed for ``patience_s``."""
    if holder["host"] == host_name() and not psutil.pid_exists(int(holder["process_id"])):
        return True
    return time.time() - float(holder["renewed_s"]) > patience_s


def _me() -> dict[str, Any]:
    return {"host": host_name(), "process_id": os.getpid(), "since_s": time.time()}
