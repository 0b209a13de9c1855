"""Runs, measures and judges the paper's targets."""
