"""Commands of ``supsup`` that messages suggest, written so that they can be pasted into a shell."""

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.config.sweep import SweepConfig


def supsup_command(*words: object, config: "SweepConfig | None" = None) -> str:
    """Return ``supsup WORD...`` with each word quoted for the shell where it has to be.

    config: of the run that it is about; code of the user's own gets ``--allow-code``.
    """
    is_own = config is not None and bool(config.run_spec().own_code)
    return shlex.join(["supsup", *(["--allow-code"] if is_own else []), *map(str, words)])
