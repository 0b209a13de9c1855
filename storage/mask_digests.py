"""Which masks a derived file was made from, or should be made from, as one digest.

Every table, bank and memory names the joint digest of its masks. A file that names another is stale: masks were
trained again since, or it came from elsewhere. ``MaskFacts.digests`` has those of a run.
"""

from dataclasses import dataclass

from core.masks.bits import joint_digest


@dataclass(frozen=True)
class MaskDigests:
    """The digests (sha256, hex) of the masks of tasks 0, 1, 2 and so on, up to the first that is missing.

    That of a forgotten task is empty, so that it adds nothing to a joint digest.
    """

    leading: tuple[str, ...]

    @property
    def present(self) -> tuple[str, ...]:
        """Those of the tasks that have a mask, in order."""
        return tuple(filter(None, self.leading))

    @property
    def num_masks(self) -> int:
        """How many of these tasks have a mask."""
        return len(self.present)

    def joint(self, num_tasks: int) -> str | None:
        """Return the joint digest of the masks of the first tasks, None if they are not all there."""
        return joint_digest(self.leading[:num_tasks]) if num_tasks <= len(self.leading) else None
