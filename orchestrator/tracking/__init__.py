"""Trackers: where runs are shown."""

import warnings

# MLflow imports tqdm, which asks for ipywidgets in every notebook without them; nothing here draws with it.
warnings.filterwarnings("ignore", message="IProgress not found")
