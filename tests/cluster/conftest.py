"""Hosts in namespaces of their own, with a Ray and a token; skipped where they cannot be made."""

import shutil

import pytest

from tests.cluster.hosts import Host, can_make_hosts, connect


def make_token(host: Host) -> None:
    host.must("python", "-c", "from orchestrator.cluster.auth import ensure_token; ensure_token()")


def start_head(host: Host, address: str, *words: str) -> None:
    host.must(
        *("ray", "start", "--head", f"--node-ip-address={address}", "--disable-usage-stats", *words),
        RAY_AUTH_MODE="token",
    )


def join(host: Host, address: str, **variables: str) -> None:
    host.must(
        *("ray", "start", "--address=10.77.0.1:6379", f"--node-ip-address={address}", "--num-cpus=1"),
        "--disable-usage-stats",
        RAY_AUTH_MODE="token",
        **variables,
    )


@pytest.fixture(scope="session")
def hosts_or_skip() -> None:
    why = can_make_hosts()
    if why is not None:
        pytest.skip(why)


@pytest.fixture(scope="module")
def head(hosts_or_skip, tmp_path_factory):
    """Return one host with a Ray head on its loopback, dashboard and token."""
    host = Host("head", tmp_path_factory.mktemp("head"))
    try:
        make_token(host)
        start_head(host, "127.0.0.1", "--num-cpus=2")
        yield host
    finally:
        host.close()


@pytest.fixture
def two_hosts(hosts_or_skip, tmp_path):
    """Return a head without CPUs to spare and a second host, joined by a cable; Ray runs on the first."""
    alpha, beta = Host("alpha", tmp_path / "hosts"), Host("beta", tmp_path / "hosts")
    try:
        connect(alpha, beta)
        make_token(alpha)
        (beta.home / ".ray").mkdir()
        shutil.copy2(alpha.home / ".ray" / "auth_token", beta.home / ".ray" / "auth_token")
        start_head(alpha, "10.77.0.1", "--num-cpus=1", "--include-dashboard=false")
        yield alpha, beta
    finally:
        beta.close()
        alpha.close()
