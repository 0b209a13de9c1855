"""Copies masks from file to file: whole files byte by byte, parts of files row by row, with the same bits and provenance."""

from collections.abc import Collection, Iterator, Sequence

from storage.files import commit_bytes
from storage.layout import cohort_range
from storage.locations import Location, plain_file
from storage.mask_store import MaskStore


def copy_masks(source: MaskStore, name: str, tasks: Collection[int], target: MaskStore) -> list[Location]:
    """Write the masks of ``tasks``, all in the file ``name`` of ``source``, to ``target``; return the new files.

    A part of a file becomes a file for each run of contiguous tasks. Raises DamagedFileError or ForeignFileError.
    """
    path = source.layout.masks / name
    if list(tasks_of(name)) == sorted(tasks):
        commit_bytes(target.layout.masks / name, plain_file(path).read_bytes())
        return [target.layout.masks / name]
    made, files = source.provenance(path), source.named([name])
    runs = contiguous(sorted(tasks))
    return [target.write_cohort([*source.iterate(run, files)], made) for run in runs]


def tasks_of(name: str) -> range:
    """Return the tasks of a mask file, by its name; none for any other name."""
    first, last = cohort_range(name) or (0, -1)
    return range(first, last + 1)


def contiguous(tasks: Sequence[int]) -> Iterator[list[int]]:
    """Split ascending tasks where numbers are missing."""
    run: list[int] = []
    for task in tasks:
        if run and task != run[-1] + 1:
            yield run
            run = []
        run.append(task)
    if run:
        yield run
