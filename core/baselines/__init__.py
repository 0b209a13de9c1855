"""Baselines that train weights, one per file; ``method`` has what they share."""
