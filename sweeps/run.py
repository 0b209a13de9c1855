"""The script for `ray submit FILE sweeps/run.py`: runs the sweep of FILE (docs/cluster.md)."""

import sys

from orchestrator.cli.job import main

sys.exit(main())
