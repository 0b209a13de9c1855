"""Whole runs of ``supsup run``: one worker and two, tasks of one step, memory, the second start."""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import psutil
from cases import Row

from orchestrator.config.load import load_sweep
from orchestrator.runs.run import locate_run

SWEEPS = Path(__file__).resolve().parents[1] / "sweeps"
PRODUCTS = "import torch; torch.set_num_threads(1); from task import products_seconds; print({})"


@dataclass(frozen=True)
class Watched:
    """A finished run.

    first_file_s, last_file_s, total_s: since its start. cpu_s: of the controller, without the workers. resident_bytes: of the whole process tree, each second
    while masks were written. periods_s: by worker, the times between consecutive masks.
    """

    first_file_s: float
    last_file_s: float
    total_s: float
    cpu_s: float
    resident_bytes: list[int]
    periods_s: list[list[float]]


def scaling_row(data: Path | None) -> Row:
    """Compare two workers with one, medians of three runs each; the limit: products on two cores.

    A worker's rate is one task per median time between its masks, testing included.
    """
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3):
        for num_workers, taken in rates.items():
            settings = [f"benchmark.num_tasks={8 * num_workers}", f"executor.workers={num_workers}"]
            settings += ["training.cohort_size=1", "tracking.uri=null", "evaluation.scenarios=[GG]"]
            run = _run("permuted_2500.yaml", settings, data)
            taken.append(sum(1 / statistics.median(periods) for periods in run.periods_s))
    one, two = (statistics.median(rates[n]) for n in (1, 2))
    limit = _two_products()
    return Row(
        "tasks a minute, 2 workers on 2 cores against 1",
        f"{60 * two:.1f} against {60 * one:.1f}",
        f"products alone, two processes against one: {limit:.2f} x",
        f"{two / one:.2f} x",
    )


def overhead_rows(num_tasks: int = 2500) -> list[Row]:
    """Run tasks of one step on the digits, with Ray, MLflow and Parquet."""
    settings = [f"benchmark.num_tasks={num_tasks}", "training.steps=1", "evaluation.scenarios=[GG]"]
    settings += ["evaluation.at=null"]
    run, with_runs = (
        _run("digits_10.yaml", [*settings, f"tracking.task_runs={which}"], None) for which in ("none", "all")
    )
    lasted_s, longer_s = (one.total_s - one.first_file_s for one in (run, with_runs))
    quarter = len(run.resident_bytes) // 4
    early, late = run.resident_bytes[quarter], run.resident_bytes[-1]
    return [
        Row(
            f"{num_tasks} tasks of one step, after start-up",
            f"{lasted_s:.1f} s, {1000 * lasted_s / num_tasks:.1f} ms a task",
            "60 s",
            f"{lasted_s / 60:.0%}",
        ),
        Row(
            "the same with a run in MLflow for each task",
            f"{longer_s:.1f} s, {1000 * (longer_s - lasted_s) / num_tasks:.1f} ms a run",
            "60 s",
            f"{longer_s / 60:.0%}",
        ),
        Row(
            "memory of all its processes, at the last mask and at a quarter of the way",
            f"{late / 1e6:.0f} MB",
            f"{early / 1e6:.0f} MB",
            f"{late / early:.2f} x",
        ),
    ]


def tracker_rows(data: Path | None, num_tasks: int = 48, num_pairs: int = 5) -> list[Row]:
    """Run the same tasks without trackers and with all that are installed, in turn; compare the medians."""
    also = [name for name in ("tensorboard", "wandb") if name != "wandb" or find_spec("wandb")]
    settings = [f"benchmark.num_tasks={num_tasks}", "training.cohort_size=1", "evaluation.scenarios=[GG]"]
    settings += ["evaluation.at=null", "executor.workers=2"]
    pairs = [
        [
            _run("permuted_2500.yaml", [*settings, *more], data)
            for more in (["tracking.uri=null"], [_also(also)])
        ]
        for _ in range(num_pairs)
    ]
    what = f"with {' and '.join(['MLflow', *also])}"
    return [
        _paired_row(
            f"{num_tasks} tasks on 2 workers {what}, start to last mask",
            [(one.last_file_s, other.last_file_s) for one, other in pairs],
        ),
        _paired_row(
            f"processor time of the controller {what}", [(one.cpu_s, other.cpu_s) for one, other in pairs]
        ),
        _paired_row(f"whole command {what}", [(one.total_s, other.total_s) for one, other in pairs]),
    ]


def _also(names: Sequence[str]) -> str:
    return f"tracking.also=[{','.join(names)}]"


def _paired_row(what: str, pairs: Sequence[tuple[float, float]]) -> Row:
    """Return a row of the medians without and with; the range is that of the ratios of neighbours in time."""
    without, with_all = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = sorted(b / a for a, b in pairs)
    return Row(
        what,
        f"{with_all:.1f} s",
        f"without trackers: {without:.1f} s",
        f"{with_all / without:.3f} x ({ratios[0]:.3f} to {ratios[-1]:.3f})",
    )


def empty_task_rows(num_tasks: int = 2500, num_actors: int = 8) -> list[Row]:
    """Run empty tasks, one per job, on actors; measure the time and the controller's memory."""
    from orchestrator.cluster.executor import RayExecutor
    from orchestrator.execution.controller import run_jobs
    from orchestrator.execution.jobs import Job, JobResult
    from orchestrator.execution.retry_policy import RetryPolicy

    class Empty:  # local, so pickled by value: actors cannot import this folder
        def __init__(self, shared: object) -> None:
            del shared

        def run(self, job: Job) -> JobResult:
            del job
            return JobResult()

    watcher = _Memory()
    executor = RayExecutor(
        Empty, None, num_workers=num_actors, gpus_per_worker=0, threads_per_worker=1, address=None
    )
    while executor.num_slots < num_actors:
        executor.collect(1.0)
    start_s = time.monotonic()
    jobs = [Job(first=task, last=task) for task in range(num_tasks)]
    run_jobs(jobs, executor, RetryPolicy(max_retries=0), watcher, network_digest="")
    lasted_s = time.monotonic() - start_s
    executor.close()
    early, late = watcher.resident_bytes[num_tasks // 4], watcher.resident_bytes[-1]
    rate = f"{lasted_s:.2f} s, {1000 * lasted_s / num_tasks:.2f} ms a task"
    memory = "the controller's memory, at the last and at a quarter of the way"
    return [
        Row(
            f"{num_tasks} empty tasks, {num_actors} actors, actors ready",
            rate,
            "60 s",
            f"{lasted_s / 60:.0%}",
        ),
        Row(memory, f"{late / 1e6:.1f} MB", f"{early / 1e6:.1f} MB", f"{late / early:.3f} x"),
    ]


class _Memory:
    """A watcher that records this process's memory after each job."""

    def __init__(self) -> None:
        self.resident_bytes: list[int] = []

    def job_done(self, *_: object) -> None:
        self.resident_bytes.append(psutil.Process().memory_info().rss)

    def job_retried(self, *arguments: object) -> None:
        raise SystemExit(f"an empty task failed: {arguments}")

    job_failed = job_retried

    def waiting(self, *_: object) -> None:
        pass

    workers = waiting


def second_start_row(data: Path | None) -> Row:
    """Start a small sweep twice; the second compiles nothing."""
    settings = ["benchmark.num_tasks=2", "evaluation.scenarios=[GG]"]
    name = "digits_10.yaml" if data is None else "permuted_10.yaml"
    with tempfile.TemporaryDirectory() as cache:
        first, second = (_run(name, settings, data, {"NUMBA_CACHE_DIR": cache}) for _ in range(2))
    return Row(
        f"start to first trained cohort, {name}, 2 tasks, second start",
        f"{second.first_file_s:.1f} s",
        f"first start, which compiles: {first.first_file_s:.1f} s",
        f"{second.first_file_s / first.first_file_s:.2f} x",
    )


def _run(
    sweep: str, settings: Sequence[str], data: Path | None, environment: dict[str, str] | None = None
) -> Watched:
    with tempfile.TemporaryDirectory() as folder:
        settings = [*settings, f"storage.uri={folder}/runs"]
        if "tracking.uri=null" not in settings:
            settings = [*settings, f"tracking.uri=sqlite:///{folder}/runs/mlflow.db"]
        store = locate_run(load_sweep(SWEEPS / sweep, settings)).store
        command = [str(Path(sys.executable).parent / "supsup"), "run", str(SWEEPS / sweep), *settings]
        known = {**os.environ, **(environment or {}), **({"SUPSUP_DATA": str(data)} if data else {})}
        start_s = time.time()
        process = subprocess.Popen(command, env=known, stdout=subprocess.DEVNULL)
        first_file_s, cpu_s, resident = _watch(process, store.layout.masks, start_s)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")
        total_s = time.time() - start_s
        finished: dict[int, list[float]] = {}
        for path in store.locate().values():
            made = store.provenance(path)
            finished.setdefault(made["process_id"], []).append(float(made["finished_s"]))
    periods = [[b - a for a, b in pairwise(sorted(times))] for times in finished.values()]
    last_file_s = max(time for times in finished.values() for time in times) - start_s
    return Watched(first_file_s, last_file_s, total_s, cpu_s, resident, periods)


def _watch(process: subprocess.Popen, masks: Path, start_s: float) -> tuple[float, float, list[int]]:
    """Return the time of the first mask file, the controller's CPU time, and all resident bytes each second."""
    first_file_s, cpu_s, resident, last_num = 0.0, 0.0, [], 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(process.pid).cpu_times()
            cpu_s = max(cpu_s, times.user + times.system)
        num_files = len(list(masks.glob("*.parquet"))) if masks.is_dir() else 0
        if num_files and not first_file_s:
            first_file_s = time.time() - start_s
        if num_files > last_num and int(time.time() - start_s) > len(resident):
            resident.append(_resident_bytes(process.pid))
        last_num = num_files
        time.sleep(0.05)
    return first_file_s, cpu_s, resident


def _resident_bytes(process_id: int) -> int:
    root, total = psutil.Process(process_id), 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _two_products() -> float:
    """Return the speedup of two processes over one on the step's products."""
    one, two = [], []
    for _ in range(3):
        one += _products(1)
        two += _products(2)
    return 2 * statistics.median(one) / statistics.median(two)


def _products(num_processes: int) -> list[float]:
    code = PRODUCTS.format("sorted(products_seconds() for _ in range(20))[10]")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
        )
        for _ in range(num_processes)
    ]
    return [float(process.communicate()[0]) for process in started]
