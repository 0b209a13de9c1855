"""The description of an experiment in MLflow: links to our views.

MLflow's own list of experiments leads to pages for traces, which a sweep does not have.
"""

from collections.abc import Mapping
from typing import Any

NOTE_TAG = "mlflow.note.content"
# What we wrote last, in a tag that MLflow hides: a description that someone has changed is left alone.
OURS_TAG = "mlflow.supsup.description"


def runs_page(experiment: str, view: str | None = None) -> str:
    """Return the address of an experiment's runs below the server's. view: the key of a saved one.

    Without ``workflowType``, MLflow would open an empty page of another kind.
    """
    page = f"#/experiments/{experiment}/runs?workflowType=machine_learning"
    return page if view is None else f"{page}&viewStateShareKey={view}"


def description(experiment: str, views: Mapping[str, str]) -> str:
    """Return the description in Markdown, one line, since MLflow folds the others. views: keys by name."""
    links = [f"[{name}]({runs_page(experiment, key)})" for name, key in views.items()]
    return f"Views: {' · '.join(links)}"


def write_description(client: Any, experiment: Any, views: Mapping[str, str]) -> None:
    """Describe an experiment, unless its description is someone else's."""
    content = description(str(experiment.experiment_id), views)
    now = experiment.tags.get(NOTE_TAG, "")
    if now == content or (now and now != experiment.tags.get(OURS_TAG)):
        return
    for tag in (OURS_TAG, NOTE_TAG):
        client.set_experiment_tag(experiment.experiment_id, tag, content)
