"""Print a table of measurements, each with a limit measured in the same run, and their ratio.

python perf/bench.py                 everything, about half an hour
python perf/bench.py task storage    some of: task, scaling, overhead, trackers, start, storage, memory
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import disk
import orchestration
import task
from cases import Row, mnist, versions

from orchestrator.runs.record import processor


def main() -> None:
    """Measure the requested parts and print each row at once."""
    folder = os.environ.get("SUPSUP_DATA")
    data = Path(folder) if folder else None
    dataset, data_name = mnist(data)
    parts: dict[str, Callable[[], list[Row]]] = {
        "task": lambda: task.rows(dataset),
        "scaling": lambda: [orchestration.scaling_row(data)] if data else [],
        "overhead": orchestration.overhead_rows,
        "trackers": lambda: orchestration.tracker_rows(data),
        "empty": orchestration.empty_task_rows,
        "start": lambda: [orchestration.second_start_row(data)],
        "storage": disk.rows,
        "memory": lambda: [disk.memory_row()],
    }
    wanted = sys.argv[1:] or list(parts)
    if unknown := set(wanted) - parts.keys():
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; expected some of: {', '.join(parts)}")
    print(f"{processor()}, {len(os.sched_getaffinity(0))} cores, {versions()}; {data_name}\n")
    print("| what | measured | limit, in the same run | ratio |\n| --- | --- | --- | --- |", flush=True)
    for name in wanted:
        for row in parts[name]():
            print(row, flush=True)


if __name__ == "__main__":
    main()
