"""``supsup sync``: sends what MLflow lacks of a run, from its folder alone."""

from collections.abc import Iterator

from core.errors import SupSupError, first_line
from orchestrator.config.store_uri import chosen_store
from orchestrator.execution.progress import Display
from orchestrator.runs.lock import locked
from orchestrator.runs.run import open_run
from orchestrator.tracking.tracker import Sender
from storage.locations import Location


def sync_run(root: Location, uri: str | None, display: Display) -> tuple[str, int]:
    """Send a run to MLflow; return the store's URI and the number of tasks whose own runs were sent.

    uri: of the store, None for the run's. Raises ConfigError if neither is set, RunLockedError while
    a controller is at work, SupSupError if MLflow fails.
    """
    run, record = open_run(root)
    store = chosen_store(run.name, uri, run.config.tracking.uri)
    with locked(run.layout):
        sender = Sender(run, record, store)
        try:
            num_sent = sum(_send(sender, display))
        except SupSupError:
            raise
        # MLflow, its database and its server raise errors of any type.
        except Exception as error:
            raise SupSupError(
                f"MLflow at {sender.uri} did not accept {run.name}: {first_line(error)[:200]}; run the same "
                "command again to send the rest"
            ) from error
        finally:
            display.stop()
    return store, num_sent


def _send(sender: Sender, display: Display) -> Iterator[int]:
    """Send everything; yield 1 for each task's own run."""
    sender.open()
    sender.add(None)
    num_waiting = len(sender.waiting)
    display.start("sending to MLflow", num_waiting, 0, "task runs")
    for step in sender.end():
        step()
        if len(sender.waiting) < num_waiting:
            num_waiting = len(sender.waiting)
            display.count(1)
            yield 1
