"""Base networks: signed constants that depend on the seed and the shape alone."""

import hashlib
import math

import numpy as np

from core.networks.base import base_weights, layers, network_digest
from core.specs.network import NetworkSpec

LENET = NetworkSpec(kind="lenet_300_100", outputs=500)


def test_weights_are_signed_kaiming_constants():
    for weight in base_weights(LENET, 784, seed=0):
        constant = np.float32(math.sqrt(2 / weight.shape[1]))
        assert weight.dtype == np.float32
        assert set(np.unique(weight).tolist()) == {-constant, constant}
        assert abs((weight > 0).mean() - 0.5) < 0.02


def test_number_of_weights_is_the_papers():
    counts = {
        ("lenet_300_100", 10): 266_200,
        ("lenet_300_100", 100): 275_200,
        ("lenet_300_100", 500): 315_200,
        ("fc_1024_1024", 200): 2_056_192,
        ("fc_1024_1024", 500): 2_363_392,
    }
    for (kind, outputs), expected in counts.items():
        spec = NetworkSpec(kind=kind, outputs=outputs)
        assert sum(layer.num_weights for layer in layers(spec, 784)) == expected


def test_other_outputs_leave_the_hidden_layers_alone():
    many = base_weights(LENET, 784, seed=4)
    few = base_weights(NetworkSpec(kind="lenet_300_100", outputs=10), 784, seed=4)
    assert np.array_equal(many[0], few[0])
    assert np.array_equal(many[1], few[1])


def test_digest_is_of_little_endian_float32_and_frozen():
    weights = base_weights(LENET, 784, seed=0)
    content = b"".join(weight.astype("<f4").tobytes() for weight in weights)
    assert network_digest(weights) == hashlib.sha256(content).hexdigest()
    assert network_digest(weights).startswith(FROZEN)
    assert network_digest(base_weights(LENET, 784, seed=1)) != network_digest(weights)


FROZEN = "16d176f3c08aa7ad"
