"""The user's own code, as a sweep names it. No numpy, no torch."""

import re
from dataclasses import dataclass

from core.plugins import plugins

DATASETS, TASKS, NETWORKS, METHODS = (
    f"supsup.{what}" for what in ("datasets", "tasks", "networks", "methods")
)
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class OwnCode:
    """A name in a module of the user's. key: of the sweep, for messages. import_path: ``package.file:name``."""

    key: str
    import_path: str

    @property
    def module(self) -> str:
        """The part of the import path before the colon."""
        return self.import_path.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.key}: {self.import_path}"


def code_path(name: str | None, group: str) -> str | None:
    """Return the import path that a name in a sweep stands for, None if it is none.

    group: of the entry points under which installed packages give such paths a short name.
    """
    if name is None or IMPORT_PATH.fullmatch(name):
        return name
    return plugins(group).get(name)
