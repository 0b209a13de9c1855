"""Searches with Ray Tune: settings, trials, summary."""
