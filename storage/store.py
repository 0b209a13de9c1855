"""Connections to object stores: the options of their URIs, and a limit on the wait for an answer."""

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.fs as pa_fs

from core.errors import StoreError, first_line

T = TypeVar("T")

# Seconds until a store that has not answered counts as out of reach: looking up one object, or listing.
# Without a limit Google's client tries for 15 minutes, and Amazon's for two.
LIMIT_S = 60.0
GS_RETRY_S = 20  # Google's client retries credentials and request one after the other
CONNECT_S = 5.0  # to S3, which tries three times
SILENCE_S = 10.0  # of S3 in the middle of a transfer
ONLY_IN_URI = ("smart_defaults", "tls_verify_certificates")
FLAGS = {"true": True, "1": True, "false": False, "0": False}
COMMON = ("endpoint_override", "scheme")
# What pyarrow takes in a URI.
OPTIONS = {
    "s3": (
        *COMMON,
        "allow_bucket_creation",
        "allow_bucket_deletion",
        "allow_delayed_open",
        "region",
        "smart_defaults",
        "tls_ca_file_path",
        "tls_verify_certificates",
    ),
    "gs": (*COMMON, "project_id", "retry_limit_seconds"),
}


def unknown_options(uri: str) -> list[str]:
    """Return the names of the options in a URI that its store does not know."""
    scheme, _, rest = uri.partition("://")
    known = OPTIONS.get(scheme, ())
    given = parse_qsl(rest.partition("?")[2], keep_blank_values=True)
    return [name for name, _ in given if name not in known]


@lru_cache(maxsize=16)
def connect(bucket: str, query: str) -> Any:
    """Return pyarrow's file system of a bucket (``s3://BUCKET``). Raises StoreError."""
    if bucket.startswith("gs://") and "retry_limit_seconds" not in query:
        query = "&".join(filter(None, (query, f"retry_limit_seconds={GS_RETRY_S}")))
    uri = f"{bucket}?{query}" if query else bucket
    options = dict(parse_qsl(query))
    try:
        return answered(bucket, lambda: _with_limits(pa_fs.FileSystem.from_uri(uri)[0], options))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{bucket}: found the options {', '.join(options)} ({first_line(error)[:200]}), which its store does not take "
            "so; see storage.uri"
        ) from error


def _with_limits(store: Any, options: dict[str, str]) -> Any:
    """Return an S3 store with limits of its own, so that the end of the process need not wait for it.

    A URI cannot ask for them. Options that only a URI can give leave the store as it is.
    """
    if not isinstance(store, pa_fs.S3FileSystem) or not options.keys().isdisjoint(ONLY_IN_URI):
        return store
    settings: dict[str, Any] = {key: FLAGS.get(value.lower(), value) for key, value in options.items()}
    named = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    settings.setdefault("endpoint_override", next(filter(None, named), None))
    settings |= {"region": store.region, "connect_timeout": CONNECT_S, "request_timeout": SILENCE_S}
    return pa_fs.S3FileSystem(**settings)


def answered(uri: str, ask: Callable[[], T]) -> T:
    """Return what a store answers. Raises StoreError if it refuses, or is silent for ``LIMIT_S``.

    A thread asks, as the clients of stores heed neither signals nor, all of them, a limit.
    """
    found: list[T] = []
    problems: list[BaseException] = []

    def work() -> None:
        try:
            found.append(ask())
        # Handed on to the caller below.
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work, name="store", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if found:
        return found[0]
    if not problems:
        raise StoreError(f"{uri} did not answer within {LIMIT_S:.0f} s; see storage.uri and the network")
    error = problems[0]
    is_said = isinstance(error, FileNotFoundError | StoreError)
    if isinstance(error, pa.ArrowException | OSError) and not is_said:
        raise StoreError(
            f"{uri} cannot be used, tried for at most {LIMIT_S:.0f} s ({first_line(error)[:200]}); see storage.uri, "
            "and the credentials and endpoint in the environment"
        ) from error
    raise error
