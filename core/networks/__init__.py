"""Base networks, a file for each family."""
