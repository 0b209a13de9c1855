"""The masks that the tables of a run must have been made from, to count as its results."""

from dataclasses import dataclass

from orchestrator.runs.run import Run
from storage.hopfield_file import stored_masks_digest
from storage.mask_digests import MaskDigests
from storage.mask_facts import MaskFacts
from storage.verify import Problem
from storage.verify_derived import DerivedFiles


@dataclass(frozen=True)
class TableSources:
    """The joint digest of the masks behind the tables of each k, as they were when this was made.

    Empty for a baseline, which has no masks. A Hopfield memory outlives its masks and then names them.
    """

    run: Run
    digests: MaskDigests

    def masks(self, k: int) -> str | None:
        """Return the digest that a table of the first ``k`` tasks must name, None if some of the masks are gone."""
        config = self.run.config
        if config.baseline is not None:
            return ""
        if not config.training.is_given:  # masks are not tasks: all are searched
            return self.digests.joint(len(self.digests.leading))
        found = self.digests.joint(k)
        if found is None and config.evaluation.hopfield is not None:
            found = stored_masks_digest(self.run.layout.memory(config.evaluation.hopfield.rule, k))
        return found


def table_sources(run: Run, facts: MaskFacts | None = None) -> TableSources:
    """Return the sources of a run's tables by the facts of its masks, None for those of now."""
    return TableSources(run, (run.store.facts() if facts is None else facts).digests)


def verify_derived(run: Run, facts: MaskFacts, *, quick: bool = False) -> list[Problem]:
    """Return what is wrong with the files of a run that are made from its masks.

    quick: see ``DerivedFiles.stale``.
    """
    files = DerivedFiles(run.store, facts, table_sources(run, facts).masks)
    return files.stale() if quick else files.problems()
