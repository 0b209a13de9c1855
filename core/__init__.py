"""SupSup as a library: base networks, supermasks, benchmarks and cohort training.

Pure functions and frozen dataclasses over numpy and torch, independent of file formats,
clusters and trackers. Equation and section numbers refer to Wortsman et al.,
"Supermasks in Superposition", NeurIPS 2020 (arXiv 2006.14769).
"""
