"""Requests while masks are added and the server is killed: every answer is computed again from the mask it names.

python perf/serving_churn.py RUN [--requests 200000] [--add 200] [--kills 10] [--address URL --no-kills]

RUN has all masks; a copy with all but the last ``--add`` is served, and these are committed one by one while requests go on.
The server is killed (SIGKILL) and started again, as an engineer's supervisor would. An answer is wrong if its mask is not
that of the task it names, its generation never existed, or class and confidence are not those of that mask.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from cases import mnist, versions
from serving_requests import seen

from core.masks.bits import joint_digest
from orchestrator.predict import Predictor, load_predictor
from orchestrator.runs.record import processor
from orchestrator.runs.run import Run, open_run
from storage.layout import RunLayout
from storage.locations import to_location
from storage.mask_store import MaskStore

PORT, CLIENTS, MOST_IMAGES = 8655, 8, 4
SURE = 1e-4  # confidences of other batches may differ by rounding


@dataclass
class Tally:
    """What came back. answers: (task asked or None, image, answer) to be computed again."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answers: list[tuple[int | None, int, dict[str, Any], str]] = field(default_factory=list)
    generations: Counter[str] = field(default_factory=Counter)


def main() -> None:
    """Ask, add, kill; then check and print a line for each count."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("run", type=Path)
    words.add_argument("--requests", type=int, default=200_000)
    words.add_argument("--add", type=int, default=200)
    words.add_argument("--kills", type=int, default=10)
    words.add_argument("--unknown", type=float, default=0.02, help="share of requests without a task")
    words.add_argument("--folder", type=Path, help="where the copy goes; default: a temporary folder")
    words.add_argument(
        "--served", help="address of a server of that copy, which is then not started or killed"
    )
    given = words.parse_args()
    run, _ = open_run(to_location(given.run))
    with tempfile.TemporaryDirectory() as temporary:
        root = (given.folder or Path(temporary)) / given.run.name
        first = copy_without(run, root, given.add)
        print(
            f"{processor()}, {len(os.sched_getaffinity(0))} cores, {versions()}; {first} masks, then {given.add} more",
            flush=True,
        )
        started_s = time.perf_counter()
        tally = asyncio.run(churn(run, root, first, given))
        print(f"{tally.done:,} requests answered in {time.perf_counter() - started_s:,.0f} s", flush=True)
    report(run, tally, first)


def copy_without(run: Run, root: Path, num: int) -> int:
    """Copy a run folder without its last ``num`` masks; return how many it has."""
    first = run.store.locate().num_leading - num
    if not root.exists():
        (root / "masks").mkdir(parents=True)
        shutil.copy(run.layout.root / "run.json", root)
        for chunk in np.array_split(np.arange(first), max(1, first // 100)):
            commit(run, root, chunk.tolist())
    return first


def commit(run: Run, root: Path, tasks: list[int]) -> None:
    """Store masks of the whole run in the copy, as a worker does."""
    store = MaskStore(RunLayout(to_location(root)), run.identity)
    store.write_cohort([*run.store.iterate(tasks)], {"finished_s": time.time()})


async def churn(run: Run, root: Path, first: int, given: argparse.Namespace) -> Tally:
    """Send requests from several clients while masks are added and the server is killed."""
    tally, images = Tally(), test_images(run, first)
    server = Server(root) if given.served is None else None
    if server is not None:
        server.start()
    address = given.served or f"http://127.0.0.1:{PORT}"
    async with aiohttp.ClientSession(address) as session:
        await ready(session)
        share = given.requests // CLIENTS
        clients = [client(session, images, tally, share, seed, given.unknown) for seed in range(CLIENTS)]
        asked = asyncio.gather(*clients)
        await asyncio.gather(
            add_masks(run, root, first, given, tally), kill_server(server, given, tally), asked
        )
    if server is not None:
        server.stop()
    return tally


@dataclass
class Server:
    """`supsup serve`, which may be killed at any moment and is started again."""

    root: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "supsup", "serve", str(self.root), "--port", str(PORT)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()


async def ready(session: aiohttp.ClientSession) -> None:
    """Wait until the server answers."""
    while True:
        try:
            async with session.get("/readyz") as reply:
                if reply.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.2)


async def add_masks(run: Run, root: Path, first: int, given: argparse.Namespace, tally: Tally) -> None:
    """Commit a mask each time that a share of the requests is done."""
    for number in range(given.add):
        while tally.done + sum(tally.failed.values()) < given.requests * 0.9 * number / given.add:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(commit, run, root, [first + number])


async def kill_server(server: Server | None, given: argparse.Namespace, tally: Tally) -> None:
    """Kill the server, evenly over the requests, and start it again."""
    for number in range(given.kills if server is not None else 0):
        while tally.done < given.requests * 0.9 * (number + 0.5) / given.kills:
            await asyncio.sleep(0.02)
        assert server is not None
        server.stop(signal.SIGKILL)
        server.start()


async def client(
    session: aiohttp.ClientSession, images: np.ndarray, tally: Tally, num: int, seed: int, unknown: float
) -> None:
    """Send requests one after another; what fails is counted and asked again once the server answers."""
    draw = np.random.default_rng(seed)
    known = 0
    while not known:
        known = (await bank(session))["num_tasks"]
    left = num
    while left:
        rows = draw.integers(0, len(images), draw.integers(1, MOST_IMAGES + 1))
        tasks = None if draw.random() < unknown else draw.integers(0, known, len(rows))
        path = "/v1/infer" if tasks is None else f"/v1/classify?tasks={','.join(map(str, tasks))}"
        try:
            async with session.post(path, data=npy(images[rows]), headers=NPY) as reply:
                body = await reply.read()
                if reply.status != 200:
                    tally.failed[f"status {reply.status}"] += 1
                    await ready(session)
                    continue
        except (aiohttp.ClientError, ConnectionError) as error:
            tally.failed[type(error).__name__] += 1
            await ready(session)
            continue
        found = json.loads(body)
        tally.done += 1
        left -= 1
        tally.generations[found["generation"]] += 1
        asked = [None] * len(rows) if tasks is None else tasks.tolist()
        tally.answers += [
            (task, int(row), answer, found["generation"])
            for task, row, answer in zip(asked, rows, found["answers"], strict=True)
        ]
        if tally.done % 200 == 0:
            known = (await bank(session, known))["num_tasks"]


NPY = {"Content-Type": "application/x-npy"}


async def bank(session: aiohttp.ClientSession, known: int = 0) -> dict[str, Any]:
    """Return what the server serves; what is known if it does not answer."""
    try:
        async with session.get("/v1/bank") as reply:
            return dict(await reply.json()) if reply.status == 200 else {"num_tasks": known}
    except aiohttp.ClientError:
        return {"num_tasks": known}


def npy(array: np.ndarray) -> bytes:
    """Return an array as a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_images(run: Run, num_tasks: int) -> np.ndarray:
    """Return test images as some of the tasks see them, uint8 [N, 28, 28]."""
    dataset, _ = mnist(Path(os.environ["SUPSUP_DATA"]))
    draw = np.random.default_rng(1)
    return np.stack([seen(run, dataset, int(task), draw) for task in draw.integers(0, num_tasks, 500)])


def report(run: Run, tally: Tally, first: int) -> None:
    """Compute every answer again and print the counts."""
    digests = [
        hashlib.sha256(mask.bits).hexdigest()
        for mask in run.store.iterate(range(run.store.locate().num_leading))
    ]
    names = {joint_digest(digests[:num])[:16]: num for num in range(first, len(digests) + 1)}
    predictor = load_predictor(run.layout.root)
    images = test_images(run, first)
    wrong = Counter[str]()
    for task, _, answer, generation in tally.answers:
        wrong["mask of another task"] += answer["mask"] != digests[answer["task"]]
        wrong["another task than asked"] += task is not None and answer["task"] != task
        wrong["a generation that never was"] += generation not in names
        wrong["a task beyond its generation"] += answer["task"] >= names.get(generation, 0)
    wrong["class or confidence of another mask"] = differing(predictor, images, tally)
    wrong["another task inferred"] = differing_tasks(predictor, run, images, tally, names)
    print(f"{len(tally.answers):,} images, {len(tally.generations)} generations seen of {len(names)}")
    print(f"failed requests: {dict(tally.failed)}")
    print(f"wrong answers: {sum(wrong.values())} {dict(wrong)}")


def differing(predictor: Predictor, images: np.ndarray, tally: Tally) -> int:
    """Return how many answers differ from the predictor's under the mask that they name."""
    num = 0
    for start in range(0, len(tally.answers), 4096):
        chunk = tally.answers[start : start + 4096]
        rows, tasks = [row for _, row, _, _ in chunk], [answer["task"] for _, _, answer, _ in chunk]
        expected = predictor.classify(images[rows], tasks)
        num += sum(
            answer["class"] != one.label or abs(answer["confidence"] - one.confidence) > SURE
            for (_, _, answer, _), one in zip(chunk, expected, strict=True)
        )
    return num


def differing_tasks(
    predictor: Predictor, run: Run, images: np.ndarray, tally: Tally, names: dict[str, int]
) -> int:
    """Return how many inferred tasks differ from those among the masks of their generation; a sample of 300."""
    del predictor
    unknown = [(row, answer, name) for task, row, answer, name in tally.answers if task is None]
    draw = np.random.default_rng(2)
    chosen = draw.permutation(len(unknown))[:300]
    by_size: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for number in chosen:
        row, answer, name = unknown[number]
        by_size.setdefault(names[name], []).append((row, answer))
    num = 0
    for size, asked in by_size.items():
        expected = load_predictor(run.layout.root, k=size).infer(images[[row for row, _ in asked]])
        num += sum(one.task != answer["task"] for one, (_, answer) in zip(expected, asked, strict=True))
    print(f"{len(chosen)} of {len(unknown):,} inferred tasks searched again, in {len(by_size)} generations")
    return num


if __name__ == "__main__":
    main()
