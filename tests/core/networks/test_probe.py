"""Which networks of the user's own are accepted, which are refused, and by which check."""

import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from core.batches.problem import Problem
from core.data.datasets import load_dataset
from core.errors import ConfigError
from core.networks.module import make_network
from core.networks.probe import check_network
from core.own_code.permission import ALLOW_CODE
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import MaskSpec, NetworkSpec
from core.specs.run import RunSpec
from core.specs.training import OptimizerSpec, TrainingSpec
from core.training.modules import train_modules

ACCEPTED = (
    "linear", "gelu", "inplace_relu", "no_dropout", "batch_norm_1d", "batch_norm_2d", "group_norm", "layer_norm",
    "instance_norm", "depthwise", "local_norm", "Attention", "CalledTwice", "TwoNames", "InPlace", "View", "Cached",
    "KeepsFeatures", "RandomFeatures", "Prints",
)  # fmt: skip
REFUSED = {
    "dropout": r"layer 3 is dropout",
    "FunctionalDropout": r"draws random numbers in training, in the forward of FunctionalDropout",
    "AlwaysDropout": r"draws random numbers at test",
    "rrelu": r"draws random numbers in training, in layer 2 \(RReLU\)",
    "NumpyNoise": r"draws random numbers in training",
    "PythonNoise": r"draws random numbers in training",
    "OwnGenerator": r"another answer to the same images in training when it is called again",
    "Clock": r"another answer to the same images in training",
    "DrawnByNumpy": r"has another shift each time it is built",
    "DrawnByPython": r"another answer in training when it is built again",
    "FirstBatch": r"another answer in training when it is built again, or when other images came before",
    "OwnBuffer": r"changes mu when it is called in training",
    "AssignedBuffer": r"changes mu when it is called in training",
    "ChangesWeights": r"changes a\.weight when it is called in training",
    "Counter": r"changes calls when it is called in training",
    "GlobalCounter": r"changes own_modules\.NUM_CALLS when it is called",
    "GlobalList": r"changes own_modules\.SEEN when it is called",
    "RemembersInAFunction": r"changes own_modules\.remember when it is called in training",
    "CountsInAClass": r"changes own_modules\.Counts\.number when it is called in training",
    "ByHash": r"is another network, or gives another answer, in another process",
    "OrderOfSet": r"is another network, or gives another answer, in another process",
    "doubles": r"sets torch's default type to torch\.float64 for the whole process",
    "more_threads": r"sets torch's number of threads to \d+ for the whole process",
    "instance_norm_with_statistics": r"changes 1\.running_mean when it is called in training",
    "untracked": r"layer 2 \(BatchNorm1d\) has no running statistics",
    "BatchMean": r"another answer at test when other images are beside it",
    "Squeezed": r"gave \[8\] for 1 images, expected logits \[1, 8\]",
    "Tied": r"b\.weight and d\.weight are one weight",
    "Tuple": r"gave a tuple, expected logits",
    "OtherOutputs": r"gives 9 outputs, network\.outputs says 8",
    "Doubles": r"logits of torch\.float64",
    "halves": r"a\.weight of Linear is of torch\.float16",
    "Unused": r"does not use b\.weight",
    "Detached": r"does not use a\.weight, or cuts its gradient",
    "Rounded": r"gives a\.weight gradients of zero only",
    "wrong_size": r"mat1 and mat2 shapes cannot be multiplied .* in layer 3 \(Linear\)",
    "lazy": r"3\.weight of LazyLinear has no size yet",
    "prelu": r"parameter 2\.weight of PReLU cannot be masked",
    "lstm": r"parameter 2\.weight_ih_l0 of LSTM cannot be masked",
    "spectral": r"parameter 2\.parametrizations\.weight\.original of ParametrizationList cannot be masked",
    "no_module": r"gave a function, expected a torch\.nn\.Module",
    "raises": r"failed \(KeyError: 'width', own_modules\.py, line \d+\)",
    "ends": r"SystemExit: 3: it ended the program",
}  # fmt: skip
SHAPE = (1, 6, 6)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Networks are imported from this folder."""
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(ALLOW_CODE, "1")


def network(name):
    return NetworkSpec(kind="module", import_path=f"own_modules:{name}", outputs=8)


def states():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def masks(name):
    """Train two tasks and return their bits."""
    spec = RunSpec(
        seed=3,
        benchmark=BenchmarkSpec(kind="permuted", dataset="synthetic", num_tasks=2),
        network=network(name),
        mask=MaskSpec(rule="top_k", density=0.3),
        training=TrainingSpec(steps=4, batch_size=8, optimizer=OptimizerSpec(kind="adam", lr=1e-2)),
    )
    found = train_modules(Problem(spec, load_dataset("synthetic")), range(2))
    return b"".join(layer.tobytes() for layer in found.masks)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_pure_function_is_accepted_and_trains_to_the_same_bits(name, capfd):
    before = states()
    check_network(network(name), SHAPE)
    assert states() == before
    assert masks(name) == masks(name)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_is_none_is_refused_by_name(name):
    before = states()
    with pytest.raises(ConfigError, match=f"network.import_path: own_modules:{name}.*{REFUSED[name]}"):
        check_network(network(name), SHAPE)
    assert states() == before


def test_the_probe_is_quick():
    check_network(network("gelu"), SHAPE)
    begin_s = time.process_time()
    check_network(network("batch_norm_2d"), (3, 32, 32))
    assert time.process_time() - begin_s < 1.0


def test_built_in_networks_need_no_probe():
    check_network(NetworkSpec(kind="resnet50", outputs=10), (3, 224, 224))


def test_images_with_their_channels_last_reach_a_network_as_it_takes_them():
    """Augmentation makes such images; ``view`` cannot read them, and convolutions are faster on them."""
    x_BCHW = torch.randn(2, 6, 6, 3).permute(0, 3, 1, 2)
    for name, is_strided in (("View", False), ("batch_norm_2d", True), ("InPlace", True)):
        found = make_network(network(name), (3, 6, 6))
        assert found.is_strided == is_strided
        weights, before = [torch.ones(shape) for shape in found.shapes], x_BCHW.clone()
        statistics = found.start_statistics(torch.device("cpu"))
        for call in (found.train_logits, found.logits):
            torch.testing.assert_close(
                call(x_BCHW, weights, statistics.clone()),
                call(x_BCHW.contiguous(), weights, statistics.clone()),
            )
        assert torch.equal(x_BCHW, before)
