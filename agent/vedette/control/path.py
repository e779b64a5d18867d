"""Where the control socket is: the agent and its commands must agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vedette.state import state_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vedette.config import AgentConfig

_NAME = "control.sock"
_SERVICE = Path("/run/vedette") / _NAME


def socket_path(options: AgentConfig, environ: Mapping[str, str], state: Path | None = None) -> Path:
    """The agent's socket: configured, in systemd's RUNTIME_DIRECTORY, or beside the state.

    Source: systemd.exec(5) on RuntimeDirectory=.

    Args:
        options: agent.yaml.
        environ: environment variables.
        state: the state directory, where it is not what `options` and `environ` say.
    """
    if options.control_socket is not None:
        return options.control_socket
    if runtime := environ.get("RUNTIME_DIRECTORY"):
        return Path(runtime.partition(":")[0]) / _NAME
    return (state or state_directory(options.state_directory, environ)) / _NAME


def socket_paths(options: AgentConfig, environ: Mapping[str, str]) -> list[Path]:
    """Where a command looks: it has not the environment that systemd gives the service."""
    first = socket_path(options, environ)
    return [first] if options.control_socket is not None else [first, _SERVICE]
