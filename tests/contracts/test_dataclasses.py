"""Values and messages cannot be changed by those who get them."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "storage", "orchestrator")
# What changes while it works: buffers of a running computation, and the state of a run's controller and displays.
CHANGING = {
    "core/networks/layer_trace.py",
    "core/training/fused.py",
    "core/training/loop.py",
    "core/training/triton_launch.py",
    "core/training/triton_step.py",
    "orchestrator/cli/display.py",
    "orchestrator/cluster/executor.py",
    "orchestrator/execution/controller.py",
    "orchestrator/execution/counts.py",
    "orchestrator/runs/live.py",
    "orchestrator/serve/engine.py",
    "orchestrator/session.py",
    "orchestrator/tracking/conformance.py",
    "orchestrator/tracking/mlflow_pages.py",
    "orchestrator/tracking/runs.py",
    "orchestrator/tracking/tensorboard_files.py",
    "orchestrator/tracking/wandb_files.py",
    "orchestrator/watcher.py",
    "orchestrator/worker/stream.py",
}


def is_dataclass(node):
    called = node.func if isinstance(node, ast.Call) else node
    return isinstance(called, ast.Name) and called.id == "dataclass"


def is_frozen(node):
    words = node.keywords if isinstance(node, ast.Call) else []
    return any(word.arg == "frozen" and getattr(word.value, "value", None) is True for word in words)


def test_dataclasses_are_frozen():
    changing = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        decorators = [one for node in classes for one in node.decorator_list if is_dataclass(one)]
        if not all(map(is_frozen, decorators)):
            changing.add(path.relative_to(ROOT).as_posix())
    assert changing == CHANGING
