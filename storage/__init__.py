"""Masks and tables on disk: a run folder of immutable Parquet files (see FORMAT.md).

Needs numpy and pyarrow, but not torch, Ray, MLflow or OmegaConf.
"""

from typing import TYPE_CHECKING

from core.public import lazy_names

__all__ = [
    "Findings",
    "Location",
    "MaskInfo",
    "MaskStore",
    "ObjectPath",
    "RunLayout",
    "RunRecord",
    "StoreIdentity",
    "TableKey",
    "TaskMask",
    "ensure_bank",
    "map_bank",
    "quarantine",
    "read_decisions",
    "read_evaluation",
    "read_run",
    "task_accuracies",
    "to_location",
    "verify_masks",
]

if TYPE_CHECKING:
    from storage.bank_file import ensure_bank, map_bank
    from storage.decisions import read_decisions
    from storage.layout import RunLayout, TableKey
    from storage.locations import Location, ObjectPath, to_location
    from storage.mask_info import MaskInfo
    from storage.mask_store import MaskStore, StoreIdentity, TaskMask
    from storage.run_file import RunRecord, read_run
    from storage.tables import read_evaluation, task_accuracies
    from storage.verify import Findings, quarantine, verify_masks
else:
    __getattr__, __dir__ = lazy_names(__name__, __file__)
