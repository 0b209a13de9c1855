"""Sweep files that come with the package: those of ``sweeps/`` in a checkout, copies of them in a wheel."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[1] / "sweeps"


def shipped_sweep(name: str) -> Path | None:
    """Return the sweep file of this name, without suffix, that comes with the package, None if there is none."""
    return {path.stem: path for path in SHIPPED.glob("*.yaml")}.get(name)
