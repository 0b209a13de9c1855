"""Whether the user's own network is the same one in another process, as each worker has it.

Python's hashes of texts, and with them the order of sets, differ from process to process, and so does what
a file draws or measures when it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from core.networks.architectures import ImageShape
from core.rooms import python
from core.specs.network import NetworkSpec

HASH_SEED = "PYTHONHASHSEED"
CODE = "from core.networks.probe_answer import answer; answer()"


@dataclass(frozen=True)
class Elsewhere:
    """What a network is in another process. digest: of ``core.networks.probe.network_digest``."""

    digest: str = ""
    error: str | None = None


def probe_elsewhere(spec: NetworkSpec, image_shape: ImageShape) -> Elsewhere:
    """Build and call a network in a process of its own, whose texts have other hashes."""
    question = {
        "import_path": spec.import_path,
        "outputs": spec.outputs,
        "image_shape": image_shape,
        "path": sys.path,
        "num_threads": torch.get_num_threads(),
    }
    command, text = python(CODE), json.dumps(question)
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=_environment(os.environ),
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return Elsewhere(error=f"it ended its process with exit code {done.returncode}")
    return Elsewhere(**json.loads(lines[-1]))


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    folders = [entry for entry in sys.path if entry]
    other = "2" if own.get(HASH_SEED) == "1" else "1"
    return {**own, HASH_SEED: other, "PYTHONPATH": os.pathsep.join(folders)}
