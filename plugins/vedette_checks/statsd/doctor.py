"""Whether the places to listen on can be had, and what the kernel grants: for `vedette doctor`."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vedette import CheckError, Diagnosis
from vedette_checks.statsd.binding import bind_udp, granted, identity
from vedette_checks.statsd.config import StatsdConfig

_MAX = Path("/proc/sys/net/core/rmem_max")
_QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
_ENOUGH_QUEUE = 128


async def diagnose(config: StatsdConfig, diagnosis: Diagnosis) -> None:
    """Look at each place; an agent that is running has them already, which is as it should be."""
    if config.address is not None:
        _udp(config, diagnosis)
    for path, kind in ((config.socket, socket.SOCK_DGRAM), (config.stream_socket, socket.SOCK_STREAM)):
        if path is not None:
            _unix(path, kind, diagnosis)
    if config.socket is not None:
        _queue(diagnosis)


def _udp(config: StatsdConfig, diagnosis: Diagnosis) -> None:
    assert config.address is not None  # noqa: S101 - asked before
    try:
        with bind_udp(*config.address, config.receive_buffer) as probe:
            diagnosis.ok("UDP", f"{config.listen} is free")
            got = granted(probe)
    except CheckError as error:
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EADDRINUSE:
            diagnosis.info("UDP", f"somebody listens on {config.listen}", "fine if it is this agent, already running")
        else:
            diagnosis.failed("UDP", error.message, error.hint)
        return
    if got >= config.receive_buffer:
        diagnosis.ok("receive buffer", f"{got >> 10} KB, as asked for")
    else:
        hint = "packets that come while the agent is busy are lost sooner; allow more"
        snippet = f"sysctl -w {_MAX.relative_to('/proc/sys').as_posix().replace('/', '.')}={config.receive_buffer}"
        diagnosis.warning(
            "receive buffer", f"the kernel grants {got >> 10} of {config.receive_buffer >> 10} KB", hint, snippet
        )


def _unix(path: Path, kind: socket.SocketKind, diagnosis: Diagnosis) -> None:
    what = "socket" if kind is socket.SOCK_DGRAM else "stream socket"
    if not path.parent.is_dir():
        diagnosis.failed(what, f"there is no folder {path.parent}", "make it, writable for the agent")
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        diagnosis.failed(what, f"the agent may not make {path}", f"make {path.parent} writable for it")
    elif identity(path) is None:
        diagnosis.ok(what, f"{path} is free")
    else:
        with _probe(path, kind) as served:
            if served:
                diagnosis.info(what, f"somebody listens on {path}", "fine if it is this agent, already running")
            elif path.is_socket():
                diagnosis.ok(what, f"{path} was left behind and gives way")
            else:
                diagnosis.failed(what, f"{path} is there and is no socket", "remove it, or give another path")


@contextmanager
def _probe(path: Path, kind: socket.SocketKind) -> Iterator[bool]:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        yield probe.connect_ex(str(path)) in (0, errno.EAGAIN, errno.EPROTOTYPE)


def _queue(diagnosis: Diagnosis) -> None:
    """How many datagrams wait in a unix socket at most: senders that do not wait lose what is beyond."""
    try:
        most = int(_QUEUE.read_text())
    except (OSError, ValueError):
        return
    if most < _ENOUGH_QUEUE:
        hint = "clients that do not wait lose packets while the agent is busy; allow more, or use stream_socket"
        diagnosis.info("unix queue", f"{most} datagrams", hint, "sysctl -w net.unix.max_dgram_qlen=512")
    else:
        diagnosis.ok("unix queue", f"{most} datagrams")
