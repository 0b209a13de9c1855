"""Data sets and benchmarks: files, labels, and the view that a task has of them. No torch."""
