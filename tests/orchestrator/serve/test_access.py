"""Who may ask: whoever has the token; without one, this machine alone, and no web page of others."""

import numpy as np
import pytest

from core.errors import ConfigError
from orchestrator.serve.access import TOKEN, is_loopback, read_token
from tests.orchestrator.serve.conftest import asking, npy

NPY, SECRET = "application/x-npy", "secret"


def statuses(run, requests, token):
    async def talk(client):
        return [(await client.post(path, npy(np.zeros((1, 6, 6))), NPY, **headers)).status
                for path, headers in requests]  # fmt: skip

    return asking(run, talk, token=token)


def test_a_token_is_asked_for(run):
    asked = [
        ("/v1/infer", {}),
        ("/v1/infer", {"authorization": "Bearer wrong"}),
        ("/v1/infer", {"authorization": "secret"}),
        ("/v1/infer", {"authorization": "Bearer secret"}),
        ("/v1/infer", {"authorization": "Bearer secret", "host": "example.org"}),
    ]
    assert statuses(run, asked, SECRET) == [401, 401, 401, 200, 200]


def test_probes_and_the_page_need_no_token(run):
    async def talk(client):
        paths = ("/", "/healthz", "/readyz", "/metrics", "/v1/tasks", "/v1/bank", "/docs", "/openapi.json")
        return {path: (await client.get(path)).status for path in paths}

    found = asking(run, talk, token=SECRET)
    assert {path for path, status in found.items() if status == 200} == {"/", "/healthz", "/readyz"}
    assert set(found.values()) == {200, 401}


HOSTS = {
    "127.0.0.1:8650": 200,
    "localhost:8650": 200,
    "[::1]:8650": 200,
    "evil.example:8650": 403,
    "127.0.0.1.evil.example": 403,
    "": 403,
    "[": 403,
}


def test_without_a_token_other_sites_cannot_ask(run):
    asked = [("/v1/infer", {"host": host}) for host in HOSTS]
    asked += [("/v1/infer", {"origin": "https://evil.example"}), ("/v1/infer", {"origin": "null"})]
    assert statuses(run, asked, None) == [*HOSTS.values(), 403, 403]


def test_an_address_that_others_reach_needs_a_token(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    assert read_token(None, "127.0.0.1") is None
    with pytest.raises(ConfigError, match="which other machines reach"):
        read_token(None, "192.0.2.1")
    monkeypatch.setenv(TOKEN, "from the environment")
    assert read_token(None, "192.0.2.1") == "from the environment"
    path = tmp_path / "token"
    path.write_text("from a file\n")
    assert read_token(path, "192.0.2.1") == "from a file"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_token(path, "127.0.0.1")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "none", "127.0.0.1")


def test_loopback_names():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("192.0.2.1", "10.0.0.1", "", "localhost.example")))
