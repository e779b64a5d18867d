"""How a command asks the running agent. Blocking, standard library and msgspec only: commands start fast."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.control import ControlError
from vedette.control.path import short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PATIENCE = 10.0
_LONGEST_ANSWER = 64 * 1024 * 1024


class NoAgentError(ControlError):
    """No agent answers; the text says where it was looked for."""


def ask(paths: Sequence[Path], request: dict[str, Any], *, patience: float = _PATIENCE) -> Any:
    """Send a request to the first agent that listens on one of these sockets; returns its result.

    Args:
        paths: where to look, in order.
        request: see `vedette.control.wire.perform`.
        patience: seconds that the agent may be silent.

    Raises:
        NoAgentError: none listens, or it does not answer.
        ControlError: the agent refuses.
    """
    why: dict[Path, str] = {}
    for path in paths:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            try:
                with short(path) as name:
                    connection.connect(name)
                connection.sendall(msgspec.json.encode(request) + b"\n")
                return _result(_read(connection))
            except PermissionError:
                raise NoAgentError(f"{path} belongs to another user: ask as that user, or as root") from None
            except TimeoutError:
                raise NoAgentError(f"the agent on {path} does not answer within {patience:.0f} s") from None
            except OSError as error:
                why[path] = str(error.strerror or error).lower()
    shown = "; ".join(f"{path}: {reason}" for path, reason in why.items())
    raise NoAgentError(f"no agent is running here ({shown}); --conf DIR names its configuration")


def _read(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = connection.recv(1 << 20)
        if not part:
            raise OSError("it hung up")
        received += part
        if len(received) > _LONGEST_ANSWER:
            raise OSError("its answer has no end")
    return bytes(received)


def _result(line: bytes) -> Any:
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise ControlError("the agent's answer makes no sense; is it of another version?") from None
    if not answer.get("ok"):
        raise ControlError(str(answer.get("error", "the agent refused and did not say why")))
    return answer.get("result")
