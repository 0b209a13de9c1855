"""Which networks of the user's own are accepted, and whether two runs of one give the same bits.

python perf/own_networks.py [--only WORDS]: prints a table in Markdown. Each network is a file of its own, as users
write them, and two runs of two tasks on scikit-learn's digits, in processes with other random states and other
hashes of texts; the second run trains one task, ends, and is resumed.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from core.errors import ConfigError
from core.own_code.permission import ALLOW_CODE
from orchestrator import load_sweep, run_sweep
from orchestrator.execution.progress import Display

SWEEP = """
name: own
benchmark: {kind: permuted, dataset: digits, num_tasks: 2}
network: {kind: module, import_path: "net:Net", outputs: 20}
mask: {rule: top_k, density: 0.3}
training: {steps: 30, batch_size: 32, optimizer: {kind: adam, lr: 1.0e-3}}
evaluation: {scenarios: [GG], at: null}
executor: {kind: inline}
tracking: {uri: null, figures: false}
"""
FLAT = """
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

def Net(outputs, image_shape):
    c, h, w = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, 24), {}, nn.Linear(24, outputs))
"""
IMAGES = """
from torch import nn

def Net(outputs, image_shape):
    c, h, w = image_shape
    return nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), {}, nn.Flatten(), nn.Linear(8 * h * w, outputs))
"""
CALLS = """
import itertools
import numpy as np, torch, torch.nn.functional as F
from torch import nn

NUMBERS = itertools.count()

class Net(nn.Module):
    def __init__(self, outputs, image_shape):
        super().__init__()
        c, h, w = image_shape
        self.a, self.b, self.o = nn.Linear(c * h * w, 24), nn.Linear(24, 24), nn.Linear(24, outputs)
        self.register_buffer("mean", torch.zeros(24))
        self.draws, self.drawn = torch.Generator().manual_seed(0), np.random.default_rng().random()

    def forward(self, x):
        f = F.relu(self.a(x.flatten(1)))
        {}
        return self.o(F.relu(self.b(f)))
"""
# What stands in place of the braces, by template.
ROWS = {
    FLAT: {
        "ReLU": "nn.ReLU()",
        "GELU, LayerNorm": "nn.GELU(), nn.LayerNorm(24)",
        "BatchNorm1d, SiLU": "nn.BatchNorm1d(24), nn.SiLU()",
        "Dropout": "nn.Dropout(0.2)",
        "RReLU": "nn.RReLU()",
        "PReLU": "nn.PReLU()",
        "BatchNorm1d without statistics": "nn.BatchNorm1d(24, track_running_stats=False)",
        "spectral_norm": "spectral_norm(nn.Linear(24, 24))",
        "LSTM": "nn.LSTM(24, 24)",
        "LazyLinear": "nn.LazyLinear(24)",
    },
    IMAGES: {
        "Conv2d, BatchNorm2d": "nn.BatchNorm2d(8), nn.ReLU()",
        "Conv2d, GroupNorm, pooling": "nn.GroupNorm(4, 8), nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 1, 1)",
        "Conv2d, InstanceNorm2d with statistics": "nn.InstanceNorm2d(8, track_running_stats=True)",
        "grouped Conv2d, LocalResponseNorm": "nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.LocalResponseNorm(3)",
        "ConvTranspose2d": "nn.ConvTranspose2d(8, 8, 3, padding=1)",
        "FractionalMaxPool2d": "nn.FractionalMaxPool2d(2, output_size=4), nn.Upsample(scale_factor=2)",
    },
    CALLS: {
        "a layer called twice": "f = F.gelu(self.b(f)) + f",
        "attention by function": "f = F.scaled_dot_product_attention(*[self.b(f)[:, None]] * 3)[:, 0]",
        "input changed in place": "f = F.relu(self.a(x.sub_(0.5).flatten(1)))",
        "print": "print('called')",
        "F.dropout": "f = F.dropout(f, 0.2, self.training)",
        "numpy's random numbers": "f = f * np.random.rand()",
        "a generator of its own": "f = f + torch.rand(24, generator=self.draws)",
        "drawn by numpy when built": "f = f * self.drawn",
        "hash of a text": "f = f * (1 + hash('mask') % 7)",
        "a buffer of its own": "self.mean = 0.9 * self.mean + 0.1 * f.detach().mean(0); f = f - self.mean",
        "a counter of its file": "f = f * (1 + (next(NUMBERS) > 40))",
        "mean of the batch at test": "f = f if self.training else f - f.mean(0)",
        "detach": "f = f.detach()",
        "number of images": "f = f * len(f)",
    },
}


def main() -> None:
    """Print the table, or, in processes of its own, run what stdin says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="rows whose name has these words")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        _serve(arguments.serve)
        return
    servers = [_server(number) for number in (1, 2)]
    print("| network | answer | why | two runs |\n| --- | --- | --- | --- |")
    for template, rows in ROWS.items():
        for name, words in rows.items():
            if arguments.only in name:
                print(f"| {name} | {_cells(servers, template.replace('{}', words))} |", flush=True)


def _cells(servers: list[subprocess.Popen[str]], code: str) -> str:
    """Return the other cells of a row."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "net.py").write_text(code)
        Path(folder, "own.yaml").write_text(SWEEP)
        first = _ask(servers[0], folder)
        if first.startswith("refused"):
            return f"refused | {first.partition(' ')[2]} | -"
        return f"accepted | - | {'same bits' if _ask(servers[1], folder) == first else 'OTHER BITS'}"


def _server(number: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--serve", str(number)]
    environment = {**os.environ, "PYTHONHASHSEED": str(number), ALLOW_CODE: "1"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def _ask(server: subprocess.Popen[str], folder: str) -> str:
    assert server.stdin is not None, "a pipe"
    assert server.stdout is not None, "a pipe"
    server.stdin.write(f"{folder}\n")
    server.stdin.flush()
    return server.stdout.readline().strip()


def _serve(number: int) -> None:
    """Run each sweep in a process of its own, which has everything imported but the network."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(_forked(line.strip(), number), flush=True)


def _forked(folder: str, number: int) -> str:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, _bits(folder, number).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        found = answer.read()
    os.wait()
    return found


def _bits(folder: str, number: int) -> str:
    """Return the digest of the masks and of what was measured, or why the network is refused."""
    os.chdir(folder)
    torch.manual_seed(number)
    np.random.seed(number)  # noqa: NPY002  # the user's code may draw from it
    random.seed(number)
    found = []
    try:
        for num_tasks in (1, 2) if number == 2 else (2,):
            settings = [f"storage.uri=runs-{number}", f"benchmark.num_tasks={num_tasks}"]
            run = run_sweep(load_sweep(Path("own.yaml"), settings), None, Display()).run
        found = [run.store.read(task) for task in range(2)]
    except ConfigError as error:
        words = str(error).partition("net:Net")[2].partition("; ")[0].strip(" :")
        return f"refused {' '.join(words.split())}".replace("|", "/")[:160]
    # Whatever else goes wrong is what the table is to show.
    except Exception as error:
        return f"failed {type(error).__name__} in run {number}"
    kept = [(mask.bits, mask.test_accuracy, mask.train_loss, mask.norm_stats) for mask in found]
    return hashlib.sha256(repr(kept).encode()).hexdigest()


if __name__ == "__main__":
    main()
