"""Base networks, one file per family."""
