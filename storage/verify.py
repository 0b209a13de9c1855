"""Verify masks and Hopfield memories, report what is bad, and move it aside if asked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from core.errors import DamagedFileError, ForeignFileError
from storage.hopfield_file import read_memory
from storage.layout import temporary_writer
from storage.locations import Location, listed, move
from storage.mask_facts import BadFile, MaskFacts
from storage.mask_store import MaskStore


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem. ``path`` is None for a missing task.

    kind: ``stale`` is a file made from other masks, ``old`` one from before files named their masks.
    """

    kind: Literal["damaged", "foreign", "missing", "stale", "old"]
    path: Location | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The results of verifying: the tasks whose masks are good, and the files that are bad.

    provenances: the distinct (engine, device, torch, instructions, BLAS) that made the good files; more than
    one means a mixed run, whose bits may differ from those of a single machine. Files of older versions
    do not name all of these, and are assumed to have those of the other files. facts: of the good files.
    """

    tasks: frozenset[int]
    problems: tuple[Problem, ...]
    provenances: tuple[tuple[str, ...], ...]
    facts: MaskFacts

    def missing(self, tasks: Iterable[int]) -> tuple[Problem, ...]:
        """Return one problem for each of ``tasks`` that is in no good file."""
        return tuple(
            Problem(kind="missing", path=None, message=f"task {task}: missing")
            for task in tasks
            if task not in self.tasks
        )


def verify_masks(store: MaskStore, *, quick: bool = False) -> Findings:
    """Read every file of ``masks/`` and ``hopfield/`` and check checksums, digests, padding and identity.

    quick: read no memories, take mask files that have not changed since the index was written as they were then, and read of the others
    all but their masks. Damage that leaves a file's size and time as they are is not found so.
    """
    facts = store.facts() if quick else store.verified_facts()
    provenances = facts.made_by
    return Findings(
        tasks=frozenset(facts.known.rows["task"].to_pylist()) - facts.files.forgotten,
        problems=(*_mask_problems(store, facts), *(() if quick else _memory_problems(store))),
        provenances=tuple(sorted(one for one in provenances if not _is_vague(one, provenances))),
        facts=facts,
    )


def _mask_problems(store: MaskStore, facts: MaskFacts) -> list[Problem]:
    """Return the problems of the masks' folder, by name."""
    folder = store.layout.masks
    errors: dict[str, BadFile] = dict(facts.problems)
    for name in facts.strays:
        errors[name] = ForeignFileError(f"{folder / name} is not a mask file of any run (by its name)")
    return [_problem(folder / name, errors[name]) for name in sorted(errors)]


def _problem(path: Location, error: BadFile) -> Problem:
    kind: Literal["damaged", "foreign"] = "foreign" if isinstance(error, ForeignFileError) else "damaged"
    return Problem(kind=kind, path=path, message=_named(path, error))


def _is_vague(one: tuple[str, ...], provenances: set[tuple[str, ...]]) -> bool:
    """Return whether another provenance agrees with this one and says more."""
    return any(len(other) > len(one) and other[: len(one)] == one for other in provenances)


def quarantine(store: MaskStore, problems: Iterable[Problem]) -> list[Location]:
    """Move bad files into ``quarantine/`` and return their new locations; nothing is deleted."""
    moved = []
    for problem in problems:
        if problem.path is None:
            continue
        target = store.layout.quarantine / problem.path.name
        number = 1
        while target.exists():
            target = store.layout.quarantine / f"{problem.path.name}.{number}"
            number += 1
        target.parent.mkdir(exist_ok=True)
        move(problem.path, target)
        moved.append(target)
    return moved


def _memory_problems(store: MaskStore) -> Iterator[Problem]:
    """Read every Hopfield memory and yield the problems found."""
    for path in _entries(store.layout.memories):
        try:
            read_memory(path, store.identity.fingerprint, store.identity.names)
        except (DamagedFileError, ForeignFileError) as error:
            yield _problem(path, error)


def _entries(folder: Location) -> list[Location]:
    return [path for path in listed(folder) if temporary_writer(path.name) is None]


def _named(path: Location, error: Exception) -> str:
    text = str(error)
    return text if str(path) in text else f"{path}: {text}"
