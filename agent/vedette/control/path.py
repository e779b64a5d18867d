"""Where the control socket is: the agent and its commands must agree."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vedette.state import state_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vedette.config import AgentConfig

_NAME = "control.sock"
_LONGEST = 107
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


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of the socket that fits into an address: by way of its folder's descriptor where the path is too long.

    Source: unix(7), sun_path holds 108 bytes, a NUL among them.

    Raises:
        OSError: the folder cannot be opened.
    """
    if len(bytes(path.absolute())) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def socket_paths(options: AgentConfig, environ: Mapping[str, str]) -> list[Path]:
    """Where a command looks: it has not the environment that systemd gives the service."""
    first = socket_path(options, environ)
    return [first] if options.control_socket is not None else [first, _SERVICE]
