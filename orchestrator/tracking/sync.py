"""``supsup sync``: brings the trackers of a run up to date, from its folder alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from core.errors import SupSupError, first_line
from core.printing import redacted
from orchestrator.config.store_uri import chosen_store
from orchestrator.execution.progress import Display
from orchestrator.runs.lock import locked
from orchestrator.runs.run import Run, open_run
from orchestrator.tracking.registry import chosen_trackers
from orchestrator.tracking.sender import MlflowSender, Sender
from storage.locations import Location


def sync_run(
    root: Location, uri: str | None, display: Display, also: Sequence[str] = ()
) -> tuple[str | None, int]:
    """Send a run to its trackers; return MLflow's store and the number of tasks whose own runs were sent there.

    uri: of the store, None for the run's. also: further trackers than those of ``tracking.also``. Raises ConfigError
    if there is nothing to send it to, RunLockedError while a controller is at work, SupSupError if a tracker fails.
    """
    run, record = open_run(root)
    run = _with_trackers(run, also)
    others = [Sender(run, record, name, tracker) for name, tracker in chosen_trackers(run).items()]
    is_sent_there = uri is not None or run.config.tracking.uri is not None or not others
    store = chosen_store(run.name, uri, run.config.tracking.uri) if is_sent_there else None
    senders = [*others, *([] if store is None else [MlflowSender(run, record, store)])]
    with locked(run.layout):
        tried = [_sent_or_error(sender, display) for sender in senders]
    for one in tried:
        if isinstance(one, Exception):
            raise one
    return store, sum(one for one in tried if isinstance(one, int))


def synced_trackers(root: Location, also: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the trackers, besides MLflow, that ``sync_run`` sends a run to."""
    return _with_trackers(open_run(root)[0], also).config.tracking.also or ()


def _with_trackers(run: Run, also: Sequence[str]) -> Run:
    tracking = run.config.tracking
    names = tuple(dict.fromkeys((*(tracking.also or ()), *also)))
    return replace(run, config=replace(run.config, tracking=replace(tracking, also=names or None)))


def _sent_or_error(sender: Sender, display: Display) -> int | SupSupError:
    """Send everything to one tracker; return the number of tasks whose own runs were sent, or what went wrong."""
    try:
        return sum(_send(sender, display))
    except SupSupError as error:
        return error
    # Trackers, their databases and servers raise errors of any type.
    except Exception as error:
        reason = redacted(first_line(error)[:200])
        failure = SupSupError(
            f"{sender.where} did not accept {sender.run.name}: {reason}; run the same command again to send the rest"
        )
        failure.__cause__ = error
        return failure
    finally:
        display.stop()


def _send(sender: Sender, display: Display) -> Iterator[int]:
    """Send everything; yield 1 for each task's own run."""
    sender.open()
    sender.add(None)
    num_waiting = sender.num_waiting
    display.start(f"sending to {sender.name}", num_waiting, 0, "task runs")
    for step in sender.end():
        step()
        if sender.num_waiting < num_waiting:
            num_waiting = sender.num_waiting
            display.count(1)
            yield 1
