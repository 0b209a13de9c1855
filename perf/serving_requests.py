"""Bodies of requests for wrk, and the Lua scripts that send them in turn."""

import io
import json
from pathlib import Path

import numpy as np

from core.data.benchmarks import task_view
from core.data.datasets import Dataset
from orchestrator.runs.run import Run

BATCH, FEW, NUM_ONE, NUM_MANY = 512, 64, 400, 16
SCRIPT = """
local bodies, paths = {}, {}
for line in io.lines("%(folder)s/index.txt") do
  local path, name = line:match("(%%S+) (%%S+)")
  local file = io.open("%(folder)s/" .. name, "rb")
  paths[#paths + 1], bodies[#bodies + 1] = path, file:read("*a")
  file:close()
end
local requests, turn = {}, 0
init = function(args)
  for i = 1, #bodies do
    requests[i] = wrk.format("POST", paths[i], {["Content-Type"] = "%(kind)s"}, bodies[i])
  end
end
request = function()
  turn = turn %% #requests + 1
  return requests[turn]
end
"""
JSON, NPY, NPZ = "application/json", "application/x-npy", "application/x-npz"


def lua_of(bodies: dict[str, Path], kind: str) -> Path:
    """Return the script that sends requests of a kind."""
    return bodies[kind]


def make_bodies(folder: Path, run: Run, dataset: Dataset, num_tasks: int) -> dict[str, Path]:
    """Write requests of each kind, with tasks mixed uniformly; return their scripts."""
    draw = np.random.default_rng(0)

    def images(num: int) -> tuple[np.ndarray, np.ndarray]:
        tasks = draw.integers(0, num_tasks, num)
        return np.stack([seen(run, dataset, int(task), draw) for task in tasks]), tasks

    ones, one_tasks = images(NUM_ONE)
    given = [(f"/v1/classify?task={task}", _npy(one)) for one, task in zip(ones, one_tasks, strict=True)]
    many = [images(BATCH) for _ in range(NUM_MANY)]
    few = [images(FEW)[0] for _ in range(NUM_MANY)]
    plain = [{"inputs": one[None].tolist()} for one in ones[:100]]
    named = [{**body, "params": {"task": int(task)}} for body, task in zip(plain, one_tasks, strict=False)]
    kinds = {
        "given-one": (NPY, given),
        "given-many": (NPZ, [("/v1/classify", _npz(images=batch, tasks=tasks)) for batch, tasks in many]),
        "unknown-one": (NPY, [("/v1/infer", _npy(one)) for one in ones]),
        "unknown-many": (NPY, [("/v1/infer", _npy(batch)) for batch in few]),
        "mlflow-given": (JSON, [("/invocations", json.dumps(body).encode()) for body in named]),
        "mlflow-unknown": (JSON, [("/invocations", json.dumps(body).encode()) for body in plain]),
    }
    return {name: _write(folder / name, kind, requests) for name, (kind, requests) in kinds.items()}


def seen(run: Run, dataset: Dataset, task: int, draw: np.random.Generator) -> np.ndarray:
    """Return a test image as a task sees it, uint8 [28, 28]."""
    view = task_view(run.config.benchmark, dataset, task, seed=run.config.seed)
    row = int(draw.choice(view.test_rows))
    return dataset.test_images[row].ravel()[view.input_gather].reshape(dataset.image_shape)


def _write(folder: Path, kind: str, requests: list[tuple[str, bytes]]) -> Path:
    folder.mkdir()
    lines = []
    for number, (path, body) in enumerate(requests):
        (folder / f"{number}.bin").write_bytes(body)
        lines.append(f"{path} {number}.bin\n")
    (folder / "index.txt").write_text("".join(lines))
    script = folder / "send.lua"
    script.write_text(SCRIPT % {"folder": folder, "kind": kind})
    return script


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()
