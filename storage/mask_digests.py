"""Which masks a derived file was made from, or should be made from, as one digest.

Every table, bank and memory names the joint digest of its masks. A file that names another is stale: masks were
trained again since, or it came from elsewhere.
"""

from dataclasses import dataclass

from core.masks.bits import joint_digest
from storage.mask_info import mask_info
from storage.mask_store import MaskStore


@dataclass(frozen=True)
class MaskDigests:
    """The digests (sha256, hex) of the masks of tasks 0, 1, 2 and so on, up to the first that is missing."""

    leading: tuple[str, ...]

    def joint(self, num_masks: int) -> str | None:
        """Return the joint digest of the first masks, None if they are not all there."""
        return joint_digest(self.leading[:num_masks]) if num_masks <= len(self.leading) else None


def leading_digests(store: MaskStore) -> MaskDigests:
    """Return the digests of the leading masks. Raises DamagedFileError or ForeignFileError."""
    infos = store.info_table()
    return _leading(dict(zip(infos["task"].to_pylist(), infos["digest"].to_pylist(), strict=True)))


def good_digests(store: MaskStore) -> MaskDigests:
    """Return the digests of the leading masks, up to the first that is missing or unreadable."""
    return _leading({info.task: info.digest for info in mask_info(store)})


def _leading(by_task: dict[int, str]) -> MaskDigests:
    num = next((task for task in range(len(by_task)) if task not in by_task), len(by_task))
    return MaskDigests(tuple(by_task[task] for task in range(num)))
