"""A run folder: identity, record, lock, history, results."""
