"""What is printed steers no terminal and shows no password."""

import pytest

from core.printing import has_secret, printable, redacted, without_secret

SECRETS = [
    ("http://me:word@host:5000/x", "http://...@host:5000/x", "http://me@host:5000/x"),
    ("postgresql://me:w%40rd@h/db", "postgresql://...@h/db", "postgresql://me@h/db"),
    ("postgresql+psycopg2://:word@h/db", "postgresql+psycopg2://...@h/db", "postgresql+psycopg2://@h/db"),
    ("mysql://h/db?password=word&ssl=1", "mysql://h/db?password=...&ssl=1", "mysql://h/db?&ssl=1"),
    ("s3://b/x?access_key=A&secret_key=B", "s3://b/x?access_key=...&secret_key=...", "s3://b/x"),
]
PLAIN = [
    "sqlite:///runs/mlflow.db",
    "http://127.0.0.1:5000",
    "postgresql://me@h/db",
    "s3://b/c?region=eu",
    "runs",
]


@pytest.mark.parametrize(("uri", "shown", "kept"), SECRETS)
def test_a_secret_is_found_hidden_and_taken_out(uri, shown, kept):
    assert has_secret(uri)
    assert redacted(f"no answer from {uri} again") == f"no answer from {shown} again"
    assert without_secret(uri) == kept


@pytest.mark.parametrize("uri", PLAIN)
def test_other_uris_hold_none(uri):
    assert not has_secret(uri)


def test_control_characters_are_written_out():
    assert printable("a\x1b[31mb\x07\n\tc\u202e\udce9.png é") == "a\\x1b[31mb\\x07\n\tc\\u202e\\udce9.png é"
