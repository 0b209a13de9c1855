"""The paper's targets: run, measured, judged."""
