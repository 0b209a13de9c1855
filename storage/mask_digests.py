"""Which masks a derived file was made from, or should be made from, as one digest.

Every table, bank and memory names the joint digest of its masks. A file that names another is stale: masks were
trained again since, or it came from elsewhere. ``MaskFacts.digests`` has those of a run.
"""

from dataclasses import dataclass

from core.masks.bits import joint_digest


@dataclass(frozen=True)
class MaskDigests:
    """The digests (sha256, hex) of the masks of tasks 0, 1, 2 and so on, up to the first that is missing."""

    leading: tuple[str, ...]

    def joint(self, num_masks: int) -> str | None:
        """Return the joint digest of the first masks, None if they are not all there."""
        return joint_digest(self.leading[:num_masks]) if num_masks <= len(self.leading) else None
