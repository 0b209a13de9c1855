"""Masks and tables on disk: a run folder of immutable Parquet files (see FORMAT.md).

Needs numpy and pyarrow, but not torch, Ray, MLflow or OmegaConf.
"""
