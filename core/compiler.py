"""Is there a compiler for ``torch.compile``? Asked without importing torch."""

import os
import shutil
from importlib.util import find_spec


def has_compiler(*, on_gpu: bool) -> bool:
    """Tell whether a C++ compiler is here and, for a GPU, Triton too."""
    found = shutil.which(os.environ.get("CXX", "g++")) is not None
    return found and (not on_gpu or find_spec("triton") is not None)
