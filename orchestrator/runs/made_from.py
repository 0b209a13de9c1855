"""The masks that the tables of a run must have been made from, to count as its results."""

from dataclasses import dataclass

from orchestrator.runs.run import Run
from storage.hopfield_file import stored_masks_digest
from storage.mask_digests import MaskDigests, good_digests
from storage.verify import Problem
from storage.verify_derived import DerivedFiles


@dataclass(frozen=True)
class TableSources:
    """The joint digest of the masks behind the tables of each k, read when this is made.

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


def table_sources(run: Run) -> TableSources:
    """Return the sources of a run's tables as its masks are now."""
    return TableSources(run, good_digests(run.store))


def verify_derived(run: Run) -> list[Problem]:
    """Return what is wrong with the files of a run that are made from its masks."""
    sources = table_sources(run)
    return DerivedFiles(run.store, sources.digests, sources.masks).problems()
