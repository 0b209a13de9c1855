"""Made tests/contracts/format-1, and must not be run again: old files stay as they were.

python tests/contracts/make_format_1.py FOLDER
"""

import sys
from pathlib import Path

from orchestrator.config.load import load_sweep
from orchestrator.sweep import run_sweep
from tests.conftest import sweep_text
from tests.orchestrator.fakes import Recorder

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sweep = folder / "tiny.yaml"
    sweep.write_text(sweep_text(folder))
    run_sweep(load_sweep(sweep), None, Recorder())
