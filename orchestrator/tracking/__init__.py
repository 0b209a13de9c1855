"""MLflow: what it is sent of a run, and how."""
