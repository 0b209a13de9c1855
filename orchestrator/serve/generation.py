"""The masks that answers come from: one immutable generation at a time, replaced as a whole when the run has grown."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from core.inference.superposition import MaskBank
from core.masks.bits import joint_digest, packed_num_bytes
from orchestrator.predict import Predictor, base_tensors, predictor
from orchestrator.runs.run import Run
from storage.bank_file import bank_path, make_bank, map_bank
from storage.mask_facts import MaskFacts

NAME_LENGTH = 16  # of a joint digest in hex


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """The masks of a run at one moment, and how to answer with them.

    facts: what the mask files said then. predictor: over the leading tasks, those before the first without a mask.
    """

    run: Run
    facts: MaskFacts
    predictor: Predictor

    @property
    def digests(self) -> tuple[str, ...]:
        """The digest (sha256, hex) of each mask, by task; empty if it was forgotten."""
        return self.facts.digests.leading

    @property
    def num_tasks(self) -> int:
        """How many tasks it answers for."""
        return self.facts.digests.num_masks

    @cached_property
    def name(self) -> str:
        """The first digits of the joint digest of all masks: the same in every process and on every machine."""
        return joint_digest(self.digests)[:NAME_LENGTH]


def changed_facts(run: Run, before: Generation | None) -> MaskFacts | None:
    """Return what the mask files say now; None if the masks are those of ``before``.

    Raises RunFolderError if there is no mask of task 0.
    """
    facts = run.store.facts(None if before is None else before.facts)
    if before is not None and facts.digests.leading == before.digests:
        return None
    bank_path(run.store, facts)  # refuses what cannot be served
    return facts


def read_generation(run: Run, inference: Mapping[str, str], before: Generation | None = None) -> Generation:
    """Return the masks of now; ``before`` itself if they are the same.

    inference: ``algorithm`` and ``objective``, by default the run's. Raises RunFolderError (no mask of task 0),
    DamagedFileError or ForeignFileError.
    """
    facts = changed_facts(run, before)
    if facts is None:
        assert before is not None, "otherwise all is new"
        return before
    path = bank_path(run.store, facts)
    make_bank(run.store, path, facts)
    tiles = map_bank(path, packed_num_bytes(run.identity.shapes))
    base = base_tensors(run) if before is None else before.predictor.search.bank.base
    bank = MaskBank(tiles, base, len(os.sched_getaffinity(0)))
    return Generation(run=run, facts=facts, predictor=predictor(run, bank, None, inference))
