"""What installed packages add to this project, found by the names that they register; nothing is imported."""

from functools import cache
from importlib.metadata import entry_points


@cache
def plugins(group: str) -> dict[str, str]:
    """Return the import path ``package.module:name`` of each entry point of a group, by its name."""
    return {one.name: one.value for one in entry_points(group=group)}
