"""Making sockets: addresses, files left behind, permissions, the kernel's buffers."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from vedette import CheckError

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h: beyond net.core.rmem_max, for those who may
_BACKLOG = 128
_LONGEST_PATH = 107  # unix(7)

Identity = tuple[int, int] | None
"""Device and inode of a socket's file."""


def bind_udp(host: str, port: int, buffer: int) -> socket.socket:
    """A UDP socket.

    Raises:
        CheckError: it cannot be had.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError):
        raise CheckError(f"{host} does not resolve", hint="listen on an address of this machine") from None
    made = socket.socket(family, kind, number)
    try:
        made.setblocking(False)
        made.bind(address)
    except OSError as error:
        made.close()
        raise CheckError(f"cannot listen on {place}: {error.strerror}", hint=_why_not(error)) from None
    enlarge(made, buffer)
    return made


def _why_not(error: OSError) -> str:
    return {
        errno.EADDRINUSE: "another StatsD server has this port, perhaps Datadog's agent: stop it, or take another port",
        errno.EADDRNOTAVAIL: "listen on an address of this machine",
        errno.EACCES: "ports below 1024 are for root",
    }.get(error.errno or 0, "")


def bind_unix(path: Path, kind: socket.SocketKind, mode: int, group: str, buffer: int) -> socket.socket:
    """A unix socket; a file that was left behind gives way, one that somebody serves does not.

    Raises:
        CheckError: it cannot be had.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise CheckError(f"the path of {path.name} is too long", hint="a unix socket's path has at most 107 bytes")
    _clear(path, kind)
    made = socket.socket(socket.AF_UNIX, kind)
    made.setblocking(False)
    try:
        made.bind(str(path))
    except OSError as error:
        made.close()
        hint = f"make the folder {path.parent}, writable for the agent" if error.errno in _FOLDER else ""
        raise CheckError(f"cannot listen on {path}: {error.strerror}", hint=hint) from None
    try:
        _permit(path, mode, group)
        if kind is socket.SOCK_STREAM:
            made.listen(_BACKLOG)
    except (OSError, CheckError):
        made.close()
        path.unlink(missing_ok=True)
        raise
    enlarge(made, buffer)
    return made


_FOLDER = (errno.ENOENT, errno.EACCES, errno.EROFS, errno.ENOTDIR)


def _permit(path: Path, mode: int, group: str) -> None:
    if group:
        import grp

        try:
            number = grp.getgrnam(group).gr_gid
        except KeyError:
            raise CheckError(f"there is no group {group}", hint="see socket_group") from None
        try:
            os.chown(path, -1, number)
        except OSError:
            hint = f"the agent must be a member of {group}, or root; under systemd use the drop-in statsd-group.conf"
            raise CheckError(f"{path} cannot be given to the group {group}", hint=hint) from None
    path.chmod(mode)


def _clear(path: Path, kind: socket.SocketKind) -> None:
    """Remove a socket's file that nobody serves any more."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise CheckError(f"{path} is there and is no socket", hint="remove it, or give another path")
    except OSError:
        return  # nothing is there, or `bind` will say what is wrong
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
            return
        except OSError as error:
            if error.errno not in (errno.EPROTOTYPE, errno.EAGAIN):
                return  # gone meanwhile, or not ours to touch: `bind` will say so
    raise CheckError(f"somebody listens on {path}", hint="another StatsD server has this socket: give another path")


def enlarge(made: socket.socket, buffer: int) -> None:
    """Ask for a receive buffer, beyond the kernel's limit where that is allowed."""
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
    except OSError:
        with suppress(OSError):  # Linux grants what it may, others refuse
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)


def granted(made: socket.socket) -> int:
    """The receive buffer that a socket has got, in the bytes that were asked for: Linux doubles them (socket(7))."""
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def identity(path: Path) -> Identity:
    """Which file there is now, or None."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove_own(path: Path, own: Identity) -> None:
    """Remove a socket's file, unless another one has taken its place."""
    if own is not None and identity(path) == own:
        with suppress(OSError):
            path.unlink()
