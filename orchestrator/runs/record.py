"""``run.json`` of a run, checked at every start; the provenance of results."""

import os
import platform
import subprocess
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from core.data.datasets import Dataset
from orchestrator.config.load import config_values
from orchestrator.runs.arithmetic import arithmetic
from orchestrator.runs.dataset import check_dataset, data_provenance
from orchestrator.runs.run import Run, check_record
from orchestrator.runs.sizing import Resources, cohort_size, run_engine
from storage.files import remove_temporaries
from storage.layout import RunLayout, host_name
from storage.run_file import RunRecord, read_run, write_run

FOREIGN_HOST_TEMPORARY_S = 24 * 3600.0
PACKAGES = ("supsup", "torch", "numpy", "numba", "llvmlite", "pyarrow", "ray", "mlflow")


def ensure_record(run: Run, resources: Resources, dataset: Dataset) -> RunRecord:
    """Return the record in ``run.json``; write it if it is missing or has fewer tasks.

    Raises RunFolderError if the run was made by other versions, or on other data.
    """
    wanted = run.config.benchmark.num_tasks
    if not run.layout.run_file.exists():
        record = _new_record(run, resources, dataset)
        write_run(run.layout, record)
        return record
    record = read_run(run.layout)
    check_record(run.layout, record, run)
    is_growing = run.config.benchmark.kind == "files"
    check_dataset(run.layout, record, dataset, is_growing=is_growing)
    if wanted > record.num_tasks:
        data = data_provenance(run.config, dataset) if is_growing else {}
        provenance = record.provenance | data
        record = replace(record, num_tasks=wanted, config=config_values(run.config), provenance=provenance)
        write_run(run.layout, record)
    return record


def fitting(record: RunRecord) -> dict[str, int]:
    """Return how many tasks fit on devices whose memory ran out in this run, by the device's name."""
    found = record.provenance.get("fitting", {})
    known = found.items() if isinstance(found, dict) else ()
    return {str(name): num for name, num in known if type(num) is int and num >= 1}


def remember_fitting(layout: RunLayout, device: str, num_tasks: int) -> None:
    """Record how many tasks fit on a device whose memory ran out; the fewest count."""
    record = read_run(layout)
    known = fitting(record)
    if num_tasks < known.get(device, num_tasks + 1):
        more = {"fitting": {**known, device: num_tasks}}
        write_run(layout, replace(record, provenance=record.provenance | more))


def clean_temporaries(layout: RunLayout) -> list[Path]:
    """Remove the temporary files of dead writers; return their paths."""
    return remove_temporaries(layout.root, _writer_is_alive)


def _writer_is_alive(host: str, process_id: int, path: Path) -> bool:
    try:
        written_s = path.stat().st_mtime
    except FileNotFoundError:
        return True
    if host != host_name():  # cannot see its processes from here
        return time.time() - written_s < FOREIGN_HOST_TEMPORARY_S
    try:
        process = psutil.Process(process_id)
        started_before = process.create_time() <= written_s + 1
        return started_before and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _new_record(run: Run, resources: Resources, dataset: Dataset) -> RunRecord:
    return RunRecord(
        config=config_values(run.config),
        fingerprint=run.fingerprint,
        num_tasks=run.config.benchmark.num_tasks,
        cohort_size=cohort_size(run, resources),
        engine=run_engine(run, resources),
        created_s=time.time(),
        layers=[{"name": name, "shape": list(shape)} for name, shape in run.identity.layers],
        network=run.identity.network,
        provenance=provenance()
        | data_provenance(run.config, dataset)
        | {"planned_for": resources.planned_for()},
    )


def provenance() -> dict[str, Any]:
    """Return versions, git commit (None outside a checkout), processor, arithmetic and usable cores of this machine."""
    return {
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "processor": processor(),
        **arithmetic(),
        "cores": len(os.sched_getaffinity(0)),
    }


def package_version(name: str) -> str | None:
    """Return an installed package's version without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of the source tree, with ``+changes`` if it was edited; None outside a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    options = ["--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    command = ["git", "-C", str(folder), "describe", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def processor() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
