"""Hyperparameter searches with Ray Tune: settings, trials, summary."""
