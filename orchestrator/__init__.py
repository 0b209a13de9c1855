"""Runs sweeps: a YAML file in; masks, accuracy tables and an MLflow run out."""
