"""Sweep files: read, checked, and turned into a SweepConfig."""
