"""A folder in which each .npz file is a task: a data set of its own (``core.data.arrays``), in the order of names."""

from pathlib import Path

from core.data.arrays import OwnArrays, read_arrays
from core.errors import DataError, plural
from core.specs.base import MAX_TASKS


def tasks_folder(name: str, folder: Path | None) -> Path:
    """Return the folder ``name`` in the folder of data sets, or else in the current one. Raises DataError."""
    given = Path(name).expanduser()
    places = [given] if folder is None else [folder / given, given]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        looked = " nor ".join(str(place.absolute()) for place in dict.fromkeys(places))
        raise DataError(f"benchmark.dataset {name}: found no folder {looked}")
    return found


def task_files(folder: Path) -> list[Path]:
    """Return the file of each task. A name that starts with a dot is of a file that is being written."""
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))


def read_tasks(name: str, folder: Path | None, num_tasks: int) -> tuple[OwnArrays, ...]:
    """Return the first ``num_tasks`` tasks, 0 for all. Raises DataError, naming the file."""
    place = tasks_folder(name, folder)
    paths = task_files(place)
    if not paths or len(paths) > MAX_TASKS:
        found = plural(len(paths), ".npz file")
        raise DataError(f"{place}: found {found}, expected one for each task, at most {MAX_TASKS:,}")
    tasks = [read_arrays(str(path.absolute()), None) for path in paths[: num_tasks or None]]
    for task in tasks:
        if task.shape != tasks[0].shape:
            raise DataError(
                f"{task.source}: found images of {list(task.shape)}, expected {list(tasks[0].shape)} as in {paths[0].name}"
            )
    return tuple(tasks)
