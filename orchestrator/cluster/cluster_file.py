"""What a Ray cluster configuration must not do, where ours start clusters with it."""

import re
from typing import Any

from core.errors import ConfigError

COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")


def check_cluster_file(cluster: dict[str, Any], source: str) -> None:
    """Raise ConfigError when a command would start a Ray that anyone who reaches it can use."""
    for key in COMMANDS:
        for command in cluster.get(key) or []:
            problem = _problem(str(command))
            if problem is not None:
                raise ConfigError(
                    f"{source}: {key}: found {command!r}: {problem}; docs/cluster.md has examples"
                )


def _problem(command: str) -> str | None:
    if not re.search(r"\bray start\b", command):
        return None
    has_token = re.search(r"\bRAY_AUTH_MODE=token\b", command)
    is_open = re.search(r"--dashboard-host[= ]+(?!127\.0\.0\.1|localhost)\S+", command)
    if is_open and not has_token:
        return "it opens the dashboard, which runs code for whoever reaches it; set RAY_AUTH_MODE=token before it"
    if not has_token:
        return "it starts Ray without a token; set RAY_AUTH_MODE=token before it"
    if "--disable-usage-stats" not in command and "RAY_USAGE_STATS_ENABLED=0" not in command:
        return "it sends usage statistics; add --disable-usage-stats"
    return None
