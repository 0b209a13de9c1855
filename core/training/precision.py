"""How a GPU multiplies while masks are trained or tested; nothing here has an effect on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from core.specs.training import Matmul


@contextmanager
def gpu_products(matmul: Matmul) -> Iterator[None]:
    """Allow TF32 in float32 products and convolutions only if ``matmul`` asks, and take cuDNN's deterministic ones.

    torch allows it in convolutions by default, and cuDNN may choose sums whose order changes from call to call.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic, convolutions.benchmark
    products.allow_tf32 = convolutions.allow_tf32 = matmul == "tf32"
    convolutions.deterministic, convolutions.benchmark = True, False
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32, convolutions.deterministic, convolutions.benchmark = (
            before
        )
