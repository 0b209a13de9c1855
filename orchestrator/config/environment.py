"""Environment variables in sweep files: ``${oc.env:NAME}`` works only for names that the user allows.

A sweep may come from anybody, and its values go into the run folder and to the tracker that it names; what is in the
environment is the user's. So no name is allowed from the start.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import Node, OmegaConf
from omegaconf.resolvers import oc

from core.errors import ConfigError

ALLOW_ENV = "SUPSUP_ALLOW_ENV"  # names, with commas between them


def allowed_names() -> set[str]:
    """Return the names that the user allows."""
    return {name.strip() for name in os.environ.get(ALLOW_ENV, "").split(",")} - {""}


def allow_env(names: str) -> None:
    """Allow more names, with commas between them, in this process and its children. Raises ConfigError."""
    for name in names.split(","):
        if not re.fullmatch(r"[A-Za-z_]\w*", name.strip()):
            raise ConfigError(
                f"--allow-env: found {name!r}, expected names of environment variables, such as USER,RUN_ID"
            )
    os.environ[ALLOW_ENV] = ",".join(sorted(allowed_names() | {name.strip() for name in names.split(",")}))


@contextmanager
def guarded_environment() -> Iterator[None]:
    """Have ``oc.env`` read nothing but what is allowed, and restore it: it belongs to the whole process."""
    OmegaConf.register_resolver("oc.env", _read, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_resolver("oc.env", oc.env, replace=True)


def _read(name: str, *default: Any, _node_: Node) -> Any:
    if name not in allowed_names():
        raise ConfigError(
            f"{_node_._get_full_key(None)}: reads the environment variable {name}, which you did not allow; "  # noqa: SLF001  # no public way
            f"if this sweep may have it, `supsup --allow-env={name} ...` or {ALLOW_ENV}={name}"
        )
    return oc.env(name, *default)
