"""Data sets and benchmarks: files, labels, and each task's view of them. No torch."""
