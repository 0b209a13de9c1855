"""Masks and tables on disk: a run folder of immutable Parquet files (see FORMAT.md).

Needs numpy and pyarrow, but not torch, Ray, MLflow or OmegaConf.
"""

from typing import TYPE_CHECKING

from core.public import lazy_names

# The one place that says where a public name is at home; a test compares the three lists.
_HOMES = {
    "Findings": "storage.verify",
    "Location": "storage.locations",
    "MaskInfo": "storage.mask_info",
    "MaskStore": "storage.mask_store",
    "ObjectPath": "storage.locations",
    "RunLayout": "storage.layout",
    "RunRecord": "storage.run_file",
    "StoreIdentity": "storage.mask_store",
    "TableKey": "storage.layout",
    "TaskMask": "storage.mask_store",
    "ensure_bank": "storage.bank_file",
    "map_bank": "storage.bank_file",
    "quarantine": "storage.verify",
    "read_decisions": "storage.decisions",
    "read_evaluation": "storage.tables",
    "read_run": "storage.run_file",
    "task_accuracies": "storage.tables",
    "to_location": "storage.locations",
    "verify_masks": "storage.verify",
}
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
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
