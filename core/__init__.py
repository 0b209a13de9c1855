"""SupSup as a library: base networks, supermasks, benchmarks and cohort training.

Pure functions and frozen dataclasses over numpy and torch. Knows no file format,
no cluster and no tracker. Equation and section numbers refer to Wortsman et al.,
"Supermasks in Superposition", NeurIPS 2020 (arXiv 2006.14769).
"""
