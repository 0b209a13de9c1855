"""Reports of training steps from actors to the controller, through the key-value store of Ray's head.

An actor is busy with its job and cannot be queried. It writes its progress under its own key, and
whoever waits for it reads that key. This needs no further actor or thread, and a report takes a millisecond.
"""

import json

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from orchestrator.execution.jobs import Job, StepsDone

NAMESPACE = b"supsup-steps"


def put_steps(key: str, job: Job, steps: StepsDone) -> None:
    """Replace the report under ``key``."""
    content = [job.kind, job.first, job.last, steps.done, steps.total, steps.unit]
    _internal_kv_put(key, json.dumps(content), overwrite=True, namespace=NAMESPACE)


def read_steps(key: str, job: Job) -> StepsDone | None:
    """Return the last report under ``key``, None if it is about another job."""
    content = json.loads(_internal_kv_get(key, namespace=NAMESPACE) or "null")
    if content is None or content[:3] != [job.kind, job.first, job.last]:
        return None
    return StepsDone(*content[3:])


def forget_steps(key: str) -> None:
    """Remove the report under ``key``."""
    _internal_kv_del(key, namespace=NAMESPACE)
