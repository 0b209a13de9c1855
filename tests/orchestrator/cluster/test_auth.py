"""The token file: made once, for its owner alone; used where it is found; never shown."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestrator.cluster import auth
from tests.conftest import supsup


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (auth.MODE, auth.TOKEN, auth.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_made_once_and_for_its_owner_alone(home):
    path = auth.ensure_token()
    assert path == home / ".ray" / "auth_token"
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    token = path.read_text()
    assert len(token) == 64
    assert auth.ensure_token().read_text() == token


def test_the_command_creates_the_token_and_shows_where_it_is_but_never_its_value(home, monkeypatch, capsys):
    path = home / ".ray" / "auth_token"
    assert supsup("token") == 0
    token, first = path.read_text(), capsys.readouterr()
    assert f"created a token in {path}" in first.out
    assert mode(path) == 0o600
    assert supsup("token") == 0
    second = capsys.readouterr()
    assert f"the token is in {path}" in second.out
    assert path.read_text() == token
    monkeypatch.setenv(auth.TOKEN, "f" * 64)
    assert supsup("token") == 0
    third = capsys.readouterr()
    assert f"environment variable {auth.TOKEN}" in third.out
    shown = "".join(part for one in (first, second, third) for part in one)
    assert token not in shown
    assert "f" * 64 not in shown


def test_an_empty_token_file_is_no_token(home, capsys):
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.touch()
    assert supsup("token") == 2
    assert f"{path} is empty" in capsys.readouterr().err


def test_a_file_that_others_may_read_is_closed(home):
    path = auth.ensure_token()
    path.chmod(0o644)
    auth.ensure_token()
    assert mode(path) == 0o600


def test_the_mode_follows_the_token_unless_the_user_says_otherwise(home, monkeypatch):
    assert not auth.use_token_if_any()
    assert auth.MODE not in os.environ
    token = auth.ensure_token().read_text()
    assert auth.use_token_if_any()
    assert auth.token_header() == [("authorization", f"Bearer {token}")]
    monkeypatch.setenv(auth.MODE, "disabled")
    assert not auth.use_token_if_any()
    assert auth.token_header() == []


def test_the_error_is_one_line_that_says_what_is_wrong_and_never_the_token(home, monkeypatch):
    assert "there is no token in" in str(auth.token_error("--address", "http://h:8265"))
    token = auth.ensure_token().read_text()
    for value, words in (("token", "is not that cluster's"), ("disabled", "RAY_AUTH_MODE is 'disabled'")):
        monkeypatch.setenv(auth.MODE, value)
        text = str(auth.token_error("--address", "http://h:8265"))
        assert words in text
        assert "\n" not in text
        assert token not in text


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_that_is_started_here_answers_nobody_without_the_token(tmp_path):
    """In a process of its own, with a home that has no token yet."""
    code = """
        import grpc
        from orchestrator.cluster.connect import PROBE_METHOD, ray, start_ray
        start_ray(None, num_cpus=1)
        from orchestrator.cluster.auth import token_file
        with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
            ask = channel.unary_unary(PROBE_METHOD)
            try:
                print("open", ask(b"", timeout=10))
            except grpc.RpcError as error:
                print("without:", error.code().name)
            header = [("authorization", f"Bearer {token_file().read_text()}")]
            print("with:", len(ask(b"", timeout=10, metadata=header)) > 0)
        ray.shutdown()
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert "without: UNAUTHENTICATED" in done.stdout, done.stdout + done.stderr
    assert "with: True" in done.stdout
    assert mode(tmp_path / ".ray" / "auth_token") == 0o600
