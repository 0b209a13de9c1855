"""Specifications of a run, as frozen dataclasses. No numpy and no torch."""
