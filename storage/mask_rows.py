"""Verifies the rows of mask files: bits by their digest, what was measured by the bits, statistics by the network."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from core.errors import DamagedFileError
from core.masks.bits import bits_digest, check_padding, from_gaps, num_ones, packed_num_bytes
from storage.locations import Location

FLOAT_BYTES = 4


@dataclass(frozen=True)
class RowChecks:
    """What the rows of a run must be. shapes: of its masks. num_statistics: running statistics of a task."""

    shapes: tuple[tuple[int, ...], ...]
    num_statistics: int

    @cached_property
    def num_weights(self) -> int:
        """How many weights a mask covers."""
        return sum(map(prod, self.shapes))

    @cached_property
    def mask_num_bytes(self) -> int:
        """The size of packed bits."""
        return packed_num_bytes(self.shapes)

    def checked(self, path: Location, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its mask as bits, verified. Raises DamagedFileError."""
        row = self._with_bits(path, row)
        if bits_digest(row["bits"]) != row["digest"]:
            raise DamagedFileError(f"{path}: task {row['task']}: the mask does not match its digest")
        check_padding(np.frombuffer(row["bits"], dtype=np.uint8), self.shapes)
        return row

    def check_density(self, path: Location, row: dict[str, Any]) -> None:
        """Raise DamagedFileError if the density of a row that was checked is not that of its bits."""
        kept = num_ones(np.frombuffer(row["bits"], dtype=np.uint8)) / self.num_weights
        if np.float32(kept) != np.float32(row["density"]):
            raise DamagedFileError(
                f"{path}: task {row['task']}: its density is {row['density']:g}, but the mask keeps {kept:g}"
            )

    def check_statistics(self, path: Location, row: dict[str, Any]) -> None:
        """Raise DamagedFileError unless the running statistics are numbers, as many as the network has."""
        found, num_bytes = row.get("norm_stats") or b"", FLOAT_BYTES * self.num_statistics
        if len(found) % FLOAT_BYTES or not np.isfinite(np.frombuffer(found, "<f4")).all():
            raise DamagedFileError(f"{path}: task {row['task']}: its norm_stats are no float32 numbers")
        if len(found) != num_bytes:
            raise DamagedFileError(
                f"{path}: task {row['task']}: its norm_stats have {len(found)} bytes, expected {num_bytes}"
            )

    def _with_bits(self, path: Location, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with its mask as bits. Raises DamagedFileError."""
        gaps = row.get("gaps")
        if gaps is None:
            return {**row, "bits": row["bits"] or b""}
        try:
            packed = from_gaps(np.frombuffer(gaps, dtype=np.uint8), row["rare_bit"], self.mask_num_bytes)
        except (ValueError, TypeError) as error:
            raise DamagedFileError(f"{path}: task {row['task']}: {error}") from error
        return {**row, "bits": packed.tobytes()}
