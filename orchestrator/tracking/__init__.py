"""Trackers: where runs are shown."""
