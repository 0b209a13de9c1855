"""The drawing of the architecture, tested: who may import whom, and what stays light."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "core": set(),
    "storage": {"core"},
    "orchestrator": {"core", "storage"},
    "supsup": {"core", "storage", "orchestrator"},
}
# Where a library may be imported: in these rooms and files only. The rest of the code asks them.
HOMES = {
    "ray": (
        "orchestrator/cluster/",
        "orchestrator/search/tune.py",
        "orchestrator/serve/on_ray.py",
        "orchestrator/cli/ray_provider.py",
    ),
    "mlflow": ("orchestrator/tracking/",),
    "omegaconf": ("orchestrator/config/",),
    "pydantic": (
        "orchestrator/config/",
        "orchestrator/reproduce/targets.py",
        "orchestrator/serve/schemas.py",
        "storage/json_file.py",
    ),
    "fastapi": ("orchestrator/serve/app.py",),
    "uvicorn": ("orchestrator/serve/process.py",),
    "prometheus_client": ("orchestrator/serve/metrics.py",),
    "numba": (
        "core/masks/compiled.py",
        "core/masks/forward_loops.py",
        "core/masks/table_loops.py",
        "core/masks/weight_loops.py",
        "core/training/fused_loops.py",
    ),
    "triton": ("core/training/triton_kernels.py", "core/training/triton_launch.py"),
    "PIL": ("core/data/decode.py", "core/data/image_folder.py", "orchestrator/images.py"),
    "matplotlib": ("orchestrator/report/", "orchestrator/reproduce/figures.py"),
    "scipy": ("orchestrator/compare/statistics.py",),
    "typer": ("orchestrator/cli/",),
    "sklearn": ("core/data/small.py",),
    "tensorboardX": ("orchestrator/tracking/tensorboard_events.py",),
    "wandb": ("orchestrator/tracking/wandb_process.py",),
    "model_signing": ("orchestrator/banks/signing.py",),
    "pooch": ("core/data/cifar.py", "core/data/idx.py"),
}
# What a room must not import, by its folder; the longest folder counts beside those above it.
FORBIDDEN = {
    "core/": {"pyarrow", "safetensors", "rich", "psutil", "filelock", "yaml"},
    "core/specs/": {"numpy", "torch"},
    "core/own_code/": {"numpy", "torch"},
    "core/data/": {"torch"},
    "core/masks/": {"torch"},
    "storage/": {"torch", "rich", "psutil", "filelock", "yaml"},
    "orchestrator/config/": {"torch"},
    "orchestrator/runs/": {"torch"},
    "orchestrator/execution/": {"torch", "numpy", "pyarrow"},
    "orchestrator/stages/": {"torch"},
}
# Rooms and files of a package by floor: each imports from floors above it only, and from itself.
FLOORS = {
    "core": (
        "errors machine metrics printing seeding public plugins rooms",
        "specs",
        "own_code",
        "data masks networks",
        "batches",
        "training inference",
        "stream hopfield baselines",
        "families",
        "train",
    ),
    "orchestrator": (
        "config execution images",
        "runs",
        "stages worker",
        "report",
        "cluster",
        "predict export status",
        "tracking",
        "watcher served_model",
        "session",
        "evaluate",
        "sweep",
        "banks checks compare search reproduce remeasure serve",
        "cli",
    ),
}
# The two halves of each kind of work, named in the registries alone.
HALVES = {
    "stages": {"__init__", "base", "gaps", "tables"},
    "worker": {"__init__", "base", "checkpointer", "worker"},
}
# Folders without tests of their own, and why.
TESTED_BY_RUNS = {
    "orchestrator/stages": "what a run does in which order: tests/integration runs every kind of sweep",
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


def modules(root: Path) -> dict[str, Path]:
    paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def problems(root: Path) -> list[str]:
    found = []
    for path in modules(root).values():
        room, place = path.relative_to(root).parts[0], path.relative_to(root).as_posix()
        for name in imports(path):
            top = name.split(".")[0]
            if top in ROOMS and top not in ROOMS[room] | {room}:
                found.append(f"{place} imports {name}: not a direction the drawing has")
            if not place.startswith(HOMES.get(top, place)):
                found.append(f"{place} imports {name}: that library has another home")
            if any(top in names for folder, names in FORBIDDEN.items() if place.startswith(folder)):
                found.append(f"{place} imports {name}: that room does without it")
    return found + circles(root) + wrong_floors(root) + named_halves(root)


def wrong_floors(root: Path) -> list[str]:
    found = []
    for package, floors in FLOORS.items():
        level = {room: number for number, floor in enumerate(floors) for room in floor.split()}
        for name, path in modules(root).items():
            _, room, *_ = [*name.split("."), ""]
            if not name.startswith(f"{package}.") or room == "":
                continue
            others = {other.split(".")[1] for other in imports(path) if other.startswith(f"{package}.")}
            wrong = [other for other in others - {room} if level.get(other, 99) >= level.get(room, -1)]
            found += [f"{name} imports {package}.{other}: not a floor above it" for other in wrong]
    return found


def named_halves(root: Path) -> list[str]:
    found = []
    for name, path in modules(root).items():
        for other in imports(path):
            _, room, *rest = [*other.split("."), ""]
            is_half = other.startswith("orchestrator.") and rest[0] and rest[0] not in HALVES.get(room, rest)
            if is_half and name != f"orchestrator.{room}":
                found.append(f"{name} imports {other}: only the registry of {room} names a kind of work")
    return found


def circles(root: Path) -> list[str]:
    known = modules(root)
    graph = {name: imports(path) & known.keys() for name, path in known.items()}
    done: set[str] = set()

    def visit(name, trail):
        if name in trail:
            return [" -> ".join([*trail[trail.index(name) :], name])]
        if name in done:
            return []
        found = [circle for other in sorted(graph[name]) for circle in visit(other, [*trail, name])]
        done.add(name)
        return found

    return [f"circle: {circle}" for name in graph for circle in visit(name, [])]


def test_imports_point_one_way():
    assert problems(ROOT) == []


@pytest.mark.parametrize(
    ("place", "line", "word"),
    [
        ("core/a.py", "import storage.layout", "not a direction"),
        ("storage/a.py", "from orchestrator.execution.plan import Job", "not a direction"),
        ("storage/a.py", "import torch", "does without"),
        ("core/a.py", "import pyarrow as pa", "does without"),
        ("orchestrator/a.py", "def f():\n    import ray", "another home"),
        ("core/a.py", "import core.b", "circle: core.a -> core.b -> core.a"),
        ("core/data/a.py", "from core.batches.images import x", "not a floor above"),
        ("orchestrator/runs/a.py", "import orchestrator.session", "not a floor above"),
        ("orchestrator/new/a.py", "import orchestrator.session", "not a floor above"),
        ("orchestrator/session.py", "from orchestrator.stages.given import Given", "only the registry"),
        ("orchestrator/worker/given.py", "import orchestrator.worker.inferred", "only the registry"),
    ],
)
def test_the_check_finds_what_it_is_for(tmp_path, place, line, word):
    for room in ROOMS:
        (tmp_path / room).mkdir()
    (tmp_path / "core" / "b.py").write_text("import core.a\n")
    (tmp_path / "core" / "a.py").write_text("")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(line + "\n")
    assert any(word in problem for problem in problems(tmp_path))


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_core_and_storage_import_train_and_infer_without_ray_mlflow_and_omegaconf():
    run_python("""
        import importlib, pathlib, sys
        for name in ("ray", "mlflow", "omegaconf", "pydantic", "typer", "rich", "sklearn", "pooch", "psutil",
                     "filelock", "safetensors", "numba", "PIL", "triton"):
            sys.modules[name] = None
        for room in ("core", "storage"):
            for path in pathlib.Path(room).rglob("*.py"):
                # numba's and Triton's own: packed_sums and the eager engine do without
                own = {"compiled", "packed_loops", "table_loops", "weight_loops", "forward_loops"}
                own |= {"fused_loops", "fused"}
                if path.stem not in own and not path.stem.startswith("triton_"):
                    importlib.import_module(".".join(path.with_suffix("").parts))
        import torch
        from core.data.datasets import load_dataset
        from core.specs.inference import InferenceSpec
        from core.specs.run import *
        from core.training.cohort import train_cohort
        from core.training.engine import make_step
        from core.batches.problem import Problem
        data = load_dataset("synthetic")
        spec = RunSpec(seed=0, benchmark=BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=1),
                       network=NetworkSpec(kind="mlp", hidden=(8,), outputs=4), training=TrainingSpec(steps=2))
        problem = Problem(spec, data)
        found = train_cohort(problem, range(3), step=make_step(spec.training, "eager"))
        import numpy as np
        from core.masks.bits import pack
        from core.masks.packed_sums import has_numba, to_tiles
        from core.inference.superposition import MaskBank
        from core.inference.search import infer_tasks, search_first
        packed = np.stack([pack([layer[k] for layer in found.masks]) for k in range(3)])
        bank = MaskBank(to_tiles(packed), problem.base)
        assert not has_numba()
        for algorithm in ("one_shot", "shortlist", "binary", "exhaustive"):
            search = search_first(InferenceSpec(algorithm=algorithm, objective="H"), bank, 3, num_classes=4)
            assert infer_tasks(search, torch.ones(2, 1, 36)).tasks.shape == (2, 3)
    """)


def test_storage_needs_no_torch():
    run_python("""
        import importlib, pathlib, sys
        sys.modules["torch"] = None
        for path in pathlib.Path("storage").glob("*.py"):
            importlib.import_module(f"storage.{path.stem}")
    """)


def test_a_worker_reads_no_config_and_knows_neither_ray_nor_mlflow():
    run_python("""
        import importlib, pathlib, sys
        for name in ("ray", "mlflow", "omegaconf", "pydantic", "typer", "rich", "matplotlib", "psutil"):
            sys.modules[name] = None
        for path in pathlib.Path("orchestrator/worker").glob("*.py"):
            importlib.import_module(f"orchestrator.worker.{path.stem}")
        assert not [name for name in sys.modules if name.startswith("orchestrator.config")]
    """)


def test_help_loads_nothing_heavy():
    heavy = run_python("""
        import sys
        from orchestrator.cli.main import app, call
        call(app, ["--help"])
        print(sorted({"torch", "ray", "mlflow", "pyarrow", "numpy", "omegaconf", "pydantic"} & set(sys.modules)))
    """)
    assert heavy.strip().endswith("[]")


def test_a_controller_of_ray_workers_loads_neither_torch_nor_the_figures():
    """Seconds and hundreds of megabytes that only workers and the end of a run need."""
    loaded = run_python("""
        import sys
        import orchestrator.search.search, orchestrator.sweep, orchestrator.status
        print(sorted({"torch", "ray", "mlflow", "matplotlib"} & set(sys.modules)))
    """)
    assert loaded.strip() == "[]"


def has_test_file(folder: Path) -> bool:
    return any(folder.glob("test_*.py"))


def code_folders(root: Path) -> list[str]:
    """Return the folders of core, storage and orchestrator that hold modules."""
    folders = {path.parent for path in modules(root).values() if path.name != "__init__.py"}
    return sorted(folder.relative_to(root).as_posix() for folder in folders)


def test_every_folder_has_its_tests():
    """A module of ours is tested in the folder of its folder's name."""
    without = [name for name in code_folders(ROOT) if not has_test_file(ROOT / "tests" / name)]
    assert without == sorted(TESTED_BY_RUNS)


def test_the_gpu_benchmark_runs_with_core_storage_and_their_libraries_alone():
    """As on a GPU machine that has torch, numpy and pyarrow only; here on the CPU, random images."""
    printed = run_python("""
        import os, runpy, sys
        for name in ("ray", "mlflow", "omegaconf", "pydantic", "typer", "rich", "sklearn", "pooch", "psutil",
                     "filelock", "safetensors", "numba", "PIL", "tqdm", "yaml"):
            sys.modules[name] = None
        os.environ.pop("SUPSUP_DATA", None)
        sys.path.insert(0, "perf")
        sys.argv = ["gpu.py", "--device", "cpu", "--tasks", "2", "--steps", "3", "--batches", "1"]
        runpy.run_path("perf/gpu.py", run_name="__main__")
    """)
    for row in ("ceiling: copy", "TFLOP", "roofline", "peak memory", "GG: mean accuracy", "GNu at k = 2"):
        assert row in printed


# The two ends of a pipe between processes of our own, which nobody else can write to.
PIPE_TO_RAY = ("orchestrator/cluster/driver.py", "orchestrator/cluster/local_ray.py")


def test_nothing_in_a_run_folder_is_ever_unpickled_and_no_ray_of_others_is_stopped():
    """Whoever can write a run folder must not run code here; `ray stop` ends every Ray of a machine."""
    for path in modules(ROOT).values():
        place, text = path.relative_to(ROOT).as_posix(), path.read_text()
        loaders = {"pickle", "cloudpickle", "shelve", "marshal", "joblib", "dill"}
        if place in PIPE_TO_RAY:
            loaders.remove("pickle")
        assert not {name.split(".")[0] for name in imports(path)} & loaders, place
        for word in ("torch.load", "allow_pickle=True", "Tuner.restore", '"ray", "stop"', "ray.scripts"):
            assert word not in text, f"{place}: {word}"
