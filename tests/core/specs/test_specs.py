"""Specs are checked when built."""

import pickle

import pytest

from core import errors
from core.errors import ConfigError
from core.specs.benchmark import BenchmarkSpec
from core.specs.network import NetworkSpec
from core.specs.training import OptimizerSpec, TrainingSpec
from tests.conftest import tiny_spec


def test_optimizer_defaults_are_the_papers():
    rmsprop, sgd = OptimizerSpec(), OptimizerSpec(kind="sgd")
    assert rmsprop.canonical() == {
        "kind": "rmsprop", "lr": 1e-4, "smoothing": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0,
    }  # fmt: skip
    assert sgd.canonical() == {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    assert (TrainingSpec().steps, TrainingSpec().batch_size) == (1000, 128)


def test_a_key_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"training\.optimizer\.beta1: .*'sgd' has no such key"):
        OptimizerSpec(kind="sgd", beta1=0.9)
    with pytest.raises(ConfigError, match=r"benchmark\.angle_step_deg"):
        BenchmarkSpec(kind="permuted", dataset="digits", num_tasks=2, angle_step_deg=10.0)


def test_outputs_must_hold_the_real_classes():
    with pytest.raises(ConfigError, match=r"network\.outputs: found 3, expected at least 4"):
        tiny_spec(network=NetworkSpec(kind="mlp", hidden=(4,), outputs=3))


def test_the_first_line_of_an_error_is_never_empty():
    assert errors.first_line(OSError("\none\ntwo")) == "one"
    assert errors.first_line(TimeoutError()) == "TimeoutError"


def test_all_errors_survive_pickling_with_their_message():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.SupSupError)]
    assert len(classes) == 16
    for error_class in classes:
        again = pickle.loads(pickle.dumps(error_class("what, where, why")))  # noqa: S301 - our own bytes
        assert type(again) is error_class
        assert str(again) == "what, where, why"
