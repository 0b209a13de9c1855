"""Object stores that refuse or are silent: named, within the limit, and bad input."""

import socket
import subprocess
import sys
import time

import pytest

import storage.store
from core.errors import ConfigError, StoreError
from orchestrator.config.load import load_sweep
from storage.locations import to_location


@pytest.fixture
def silent():
    """Return the address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_options_that_a_store_does_not_know_are_refused_by_key(sweep):
    with pytest.raises(
        ConfigError, match=r"storage\.uri: found 'profile', expected only these options.*region"
    ):
        load_sweep(sweep, ["storage.uri=s3://bucket/runs?profile=me"])
    with pytest.raises(ConfigError, match="credentials go into the environment") as raised:
        load_sweep(sweep, ["storage.uri=gs://bucket/runs?access_key=AKIA&secret_key=SECRET"])
    assert "SECRET" not in str(raised.value)
    assert load_sweep(sweep, ["storage.uri=s3://bucket/runs?region=eu-west-1"])


def test_an_unknown_option_elsewhere_is_bad_input_too():
    with pytest.raises(StoreError, match="profile"):
        to_location("s3://bucket/runs?profile=me").exists()


@pytest.mark.parametrize("options", ["region=%ff", "region=eu&scheme=ftp"])
def test_a_wrong_value_of_an_option_is_bad_input_and_said_once(options):
    with pytest.raises(StoreError) as raised:
        to_location(f"s3://bucket/runs?{options}").exists()
    assert str(raised.value).count("see storage.uri") == 1


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/runs?region=us-east-1&scheme=http&endpoint_override={}",
        "gs://bucket/runs?retry_limit_seconds=2&scheme=http&endpoint_override={}",
    ],
)
def test_a_silent_store_is_given_up_at_the_limit(monkeypatch, silent, uri):
    monkeypatch.setattr(storage.store, "LIMIT_S", 2.0)
    monkeypatch.setattr(storage.store, "CONNECT_S", 1.0)  # so that the thread ends soon
    monkeypatch.setattr(storage.store, "SILENCE_S", 1.0)
    start_s = time.monotonic()
    with pytest.raises(StoreError, match=r"did not answer within 2 s|tried for at most 2 s"):
        to_location(uri.format(silent)).exists()
    assert time.monotonic() - start_s < 10
    assert StoreError.exit_code == 2


def test_a_store_that_refuses_is_named_with_what_it_said():
    with pytest.raises(StoreError, match=r"s3://bucket/runs cannot be used.*connect"):
        to_location("s3://bucket/runs?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:9").exists()


def test_a_silent_store_does_not_keep_the_process_from_ending():
    code = (
        "import storage.store as s, time; s.LIMIT_S = 0.1; s.answered('s3://bucket', lambda: time.sleep(60))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30
    )
    assert "s3://bucket did not answer" in done.stderr
