"""Node providers that make `ray submit` run a sweep (`provider: {type: external}`).

``Jobs`` submits the sweep over the Jobs API of a running cluster, without ssh. ``Ssh`` is Ray's own
provider for machines reached by ssh, but also copies the sweep: Ray itself copies the script alone.
Either way, the sweep that runs is the one in the file given to `ray submit`. Cheap to import.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler._private.local.node_provider import LocalNodeProvider
from ray.autoscaler.command_runner import CommandRunnerInterface
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

HEAD = "head"
_copied: dict[str, Path] = {}  # Ray copies the script with one runner and runs it with another


def with_sweep(cluster_config: dict[str, Any]) -> dict[str, Any]:
    """Copy ``metadata.sweep`` to ``provider``, the part that command runners get.

    Ray caches the result under a hash of the whole file, so it is never stale.
    """
    sweep = (cluster_config.get("metadata") or {}).get("sweep")
    cluster_config["provider"]["sweep"] = sweep
    return cluster_config


class Jobs(NodeProvider):  # type: ignore[misc]  # ray has no types
    """A running cluster, given by the address of its dashboard; its only node is the head."""

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Return the head if its tags match."""
        tags = self.node_tags(HEAD)
        return [HEAD] if all(tags.get(key) == value for key, value in tag_filters.items()) else []

    def is_running(self, node_id: str) -> bool:
        """Return whether this is the head."""
        return node_id == HEAD

    def is_terminated(self, node_id: str) -> bool:
        """Return whether this is not the head."""
        return node_id != HEAD

    def node_tags(self, node_id: str) -> dict[str, str]:
        """Return the tags of a head that is up to date, so that Ray does not set it up."""
        return {
            TAG_RAY_NODE_KIND: NODE_KIND_HEAD,
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            TAG_RAY_USER_NODE_TYPE: node_id,
        }

    def external_ip(self, node_id: str) -> str:
        """Return the address of the cluster's dashboard."""
        del node_id
        return str(self.provider_config["address"])

    internal_ip = external_ip

    def get_command_runner(self, *args: Any, **kwargs: Any) -> CommandRunnerInterface:
        """Return a runner that submits commands as jobs."""
        del args, kwargs
        return _JobRunner(self.provider_config)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Pass the sweep to command runners."""
        return with_sweep(cluster_config)


class _JobRunner(CommandRunnerInterface):  # type: ignore[misc]  # ray has no types
    """Submits the command as a job, along with the script that Ray would copy."""

    def __init__(self, provider_config: dict[str, Any]) -> None:
        self._config = provider_config

    def run_rsync_up(self, source: str, target: str, options: Any = None) -> None:
        del target, options
        _copied["script"] = Path(source)

    def run(self, cmd: str | None = None, *args: Any, **kwargs: Any) -> str:
        """Submit the job and follow it; exit if it fails."""
        del args, kwargs
        from orchestrator.cli.common import call

        code = call(lambda **_: self._submit(cmd or ""))
        if code:
            sys.exit(code)
        return ""

    def _submit(self, command: str) -> int:
        from orchestrator.cluster.jobs import submit
        from orchestrator.cluster.remote import follow_job
        from orchestrator.config.load import build_sweep

        config = build_sweep(self._config.get("sweep") or {}, "metadata.sweep")
        address, script = str(self._config["address"]), _copied.get("script")
        entrypoint = command.replace("~/", "./", 1)  # the script; paths in settings stay as they are
        job = submit(config, address, [script] if script else [], entrypoint)
        print(f"job {job} on {address}", flush=True)  # Ray shows what its runners print
        return follow_job(job, address)


class Ssh(LocalNodeProvider):  # type: ignore[misc]  # ray has no types
    """Ray's provider for machines at fixed addresses, with a runner that also copies the sweep."""

    def get_command_runner(self, *args: Any, **kwargs: Any) -> CommandRunnerInterface:
        """Return Ray's ssh runner, extended to copy the sweep."""
        runner = super().get_command_runner(*args, **kwargs)
        assert isinstance(runner, SSHCommandRunner)
        return _SshRunner(runner, self.provider_config)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Pass the sweep to command runners."""
        return with_sweep(cluster_config)


class _SshRunner(CommandRunnerInterface):  # type: ignore[misc]  # ray has no types
    """Ray's ssh runner, which also copies the sweep and passes its path to the command."""

    def __init__(self, runner: Any, provider_config: dict[str, Any]) -> None:
        self._runner, self._config = runner, provider_config

    def __getattr__(self, name: str) -> Any:
        """Delegate everything else to Ray's runner."""
        return getattr(self._runner, name)

    def run(self, cmd: str | None = None, *args: Any, **kwargs: Any) -> str:
        if cmd and cmd.startswith("python ~/") and self._config.get("sweep"):
            cmd = f"SUPSUP_SWEEP={self._sweep_path()} {cmd}"
        return str(self._runner.run(cmd, *args, **kwargs))

    def run_rsync_up(self, source: str, target: str, options: Any = None) -> None:
        self._runner.run_rsync_up(source, target, options)
        if source.endswith(".py") and self._config.get("sweep"):
            with tempfile.TemporaryDirectory(prefix="supsup-") as folder:
                path = Path(folder) / "sweep.yaml"
                path.write_text(yaml.safe_dump(self._config["sweep"]))
                self._runner.run_rsync_up(str(path), self._sweep_path(), options)

    def run_rsync_down(self, source: str, target: str, options: Any = None) -> None:
        self._runner.run_rsync_down(source, target, options)

    def remote_shell_command_str(self) -> str:
        return str(self._runner.remote_shell_command_str())

    def _sweep_path(self) -> str:
        from orchestrator.cluster.submission import sweep_id

        return f"~/.supsup-{sweep_id(self._config['sweep'])}.yaml"
