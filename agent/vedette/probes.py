"""Floor 1: the layers on the way to a server, one line of a diagnosis each; part of `vedette.kit`."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vedette.advice import Diagnosis

    Upgrade = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]

PATIENCE = 3.0
"""Seconds that one layer may take."""
_MOST_DRIFT = 2.0  # seconds
_SOON = 21  # days
_EXPIRED, _SELF_SIGNED, _WRONG_NAME, _NOT_YET = (10,), (18, 19, 20, 21), (62, 64), (9,)
"""X509_V_ERR codes of OpenSSL's x509_vfy.h."""


async def probe_dns(diagnosis: Diagnosis, host: str, patience: float = PATIENCE) -> bool:
    """Whether a host name has an address; says so in a line `DNS`, unless it is an address itself."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(patience):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        diagnosis.failed("DNS", f"no answer about {host} within {patience:g}s", "see the machine's /etc/resolv.conf")
        return False
    except (OSError, UnicodeError):
        diagnosis.failed("DNS", f"{host} does not resolve", "check the name, and the machine's DNS")
        return False
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    diagnosis.ok("DNS", f"{host} is {addresses}, in {format_duration(time.perf_counter() - begun)}")
    return True


async def probe_tcp(diagnosis: Diagnosis, host: str, port: int, patience: float = PATIENCE) -> bool:
    """Whether something listens there; says so in lines `DNS` and `TCP`. The connection is closed at once."""
    if not await probe_dns(diagnosis, host, patience):
        diagnosis.not_reached("TCP")
        return False
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        diagnosis.failed(
            "TCP", f"no answer from {place} within {patience:g}s", "a firewall drops the packets, or the host is down"
        )
        return False
    except OSError as error:
        diagnosis.failed("TCP", *_tcp_failure(error, place))
        return False
    diagnosis.ok("TCP", f"{place} took the connection in {format_duration(time.perf_counter() - begun)}")
    await _close(writer)
    return True


def _tcp_failure(error: OSError, place: str) -> tuple[str, str]:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return f"nothing listens on {place}", "is the server running, and is this its address?"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"no route to {place}", "check the address and the network"
    return f"{place}: {error.strerror or type(error).__name__}", "check the address and the network"


async def probe_unix(diagnosis: Diagnosis, path: Path, patience: float = PATIENCE, *, datagrams: bool = False) -> bool:
    """Whether a unix socket is there and takes connections; says so in a line `socket`. Nothing is sent."""
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            async with asyncio.timeout(patience):
                await asyncio.get_running_loop().sock_connect(probe, str(path))
        except TimeoutError:
            diagnosis.failed("socket", f"{path} does not answer", "whoever listens there hangs")
            return False
        except OSError as error:
            diagnosis.failed("socket", *_unix_failure(error, path))
            return False
    diagnosis.ok("socket", f"{path} takes connections")
    return True


def _unix_failure(error: OSError, path: Path) -> tuple[str, str, str]:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"there is no socket {path}", "is the server running, and is this its path?", ""
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = f"the agent runs as {_who(os.geteuid())}: add it to the socket's group"
        return f"no permission to connect to {path}", hint, ""
    if error.errno == errno.EPROTOTYPE:
        return f"{path} is a socket of another type", "write unixgram:// or unixstream:// before the path", ""
    if error.errno == errno.ECONNREFUSED:
        return f"nobody listens on {path}", "the file was left behind: is the server running?", ""
    return f"{path}: {error.strerror or type(error).__name__}", "is it a socket?", ""


async def probe_tls(
    diagnosis: Diagnosis,
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    server_name: str | None = None,
    upgrade: Upgrade | None = None,
    patience: float = PATIENCE,
) -> bool:
    """Whether TLS comes about; says so in lines `TLS` and `certificate`, the latter with the days that are left.

    Args:
        diagnosis: where to say it.
        host: host name or address, which the certificate must name.
        port: TCP port.
        context: as the check itself would use.
        server_name: the name to ask for, which the certificate must have, where it is not `host`.
        upgrade: for protocols that begin in the clear: asks for TLS, and returns whether the server agrees.
        patience: seconds that it may take.
    """
    try:
        async with asyncio.timeout(patience):
            writer = await _handshake(host, port, context, upgrade, server_name or host)
    except ssl.SSLCertVerificationError as error:
        diagnosis.failed("TLS", f"the certificate is not valid: {error.verify_message}", _certificate_hint(error))
        return False
    except ssl.SSLError as error:
        why = (error.reason or "the handshake failed").replace("_", " ").lower()
        diagnosis.failed("TLS", why, "does the server speak TLS on this port?")
        return False
    except TimeoutError:
        diagnosis.failed("TLS", f"no handshake within {patience:g}s", "does the server speak TLS on this port?")
        return False
    except (OSError, EOFError):
        diagnosis.failed("TLS", "the server closed the connection", "does it speak TLS, or want a client certificate?")
        return False
    if writer is None:
        diagnosis.failed("TLS", "the server does not speak TLS", "switch TLS on there, or off here")
        return False
    connection = writer.get_extra_info("ssl_object")
    diagnosis.ok("TLS", f"{connection.version()}, {connection.cipher()[0]}")
    _judge_certificate(diagnosis, connection.getpeercert(), context)
    await _close(writer)
    return True


async def _handshake(
    host: str, port: int, context: ssl.SSLContext, upgrade: Upgrade | None, name: str
) -> asyncio.StreamWriter | None:
    if upgrade is None:
        return (await asyncio.open_connection(host, port, ssl=context, server_hostname=name))[1]
    reader, writer = await asyncio.open_connection(host, port)
    if not await upgrade(reader, writer):
        await _close(writer)
        return None
    await writer.start_tls(context, server_hostname=name)
    return writer


def _certificate_hint(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _EXPIRED:
        return "renew it on the server"
    if error.verify_code in _NOT_YET:
        return "it is not valid yet: see the clocks of both machines"
    if error.verify_code in _WRONG_NAME:
        return "use a host name that the certificate has"
    return "set `ca_file` to the authority that signed it" if error.verify_code in _SELF_SIGNED else ""


def _judge_certificate(diagnosis: Diagnosis, certificate: Any, context: ssl.SSLContext) -> None:
    until = certificate.get("notAfter") if certificate else None
    if until is None:
        unchecked = context.verify_mode is ssl.CERT_NONE
        diagnosis.info("certificate", "is not checked" if unchecked else "there is none")
        return
    days = int((ssl.cert_time_to_seconds(until) - time.time()) // 86_400)
    text = f"valid for {days} more days, until {until}"
    if days < _SOON:
        diagnosis.warning("certificate", text, "renew it on the server")
    else:
        diagnosis.ok("certificate", text)


def probe_clock(diagnosis: Diagnosis, theirs: float, asked: float, answered: float, resolution: float = 0.0) -> None:
    """Compare a server's clock with this machine's, in a line `clock`: over 2 s apart is a warning.

    Args:
        diagnosis: where to say it.
        theirs: the server's time, Unix seconds.
        asked: when it was asked, by this machine's clock.
        answered: when it had answered.
        resolution: seconds that the server's time is rounded to.
    """
    apart = theirs + resolution / 2 - (asked + answered) / 2
    slack = (answered - asked) / 2 + resolution / 2
    ahead = "ahead of" if apart > 0 else "behind"
    if abs(apart) - slack > _MOST_DRIFT:
        text = f"the server is {format_duration(abs(apart))} {ahead} this machine"
        diagnosis.warning("clock", text, "set both by NTP: points with the wrong time are lost or misplaced")
    else:
        diagnosis.ok("clock", f"within {format_duration(max(abs(apart), slack))} of this machine's")


def probe_file(diagnosis: Diagnosis, path: Path, what: str = "file", *, private: bool = False) -> bool:
    """Whether a file can be read; of a `private` one also whether others can. Says so in a line called `what`.

    Others are left out in a volume that the kubelet fills, as a Secret in a pod is: no chmod could mend it.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
    except OSError as error:
        denied = f"the agent runs as {_who(os.geteuid())}"
        hint = denied if error.errno == errno.EACCES else "check the path"
        diagnosis.failed(what, f"{path} cannot be read: {error.strerror}", hint)
        return False
    if private and mode & (stat.S_IROTH | stat.S_IWOTH) and not kubelets_own(path):
        word = "changed" if mode & stat.S_IWOTH else "read"
        hint, snippet = mode_change(path, "o-rwx", "it holds a secret")
        diagnosis.warning(what, f"{path} can be {word} by everybody", hint, snippet)
    else:
        diagnosis.ok(what, f"{path} can be read")
    return True


def kubelets_own(path: Path) -> bool:
    """Whether a file is in a volume that a kubelet fills: read-only here, its name a link through `..data`.

    Raises:
        OSError: the path cannot be reached.

    Source: AtomicWriter in Kubernetes' pkg/volume/util: `NAME -> ..data/NAME`, `..data -> ..2026_11_27_…`.
    """
    return _read_only(path) and any(part.startswith("..") for part in path.resolve().parts)


def mode_change(path: Path, change: str, why: str = "") -> tuple[str, str]:
    """The hint and the snippet by which a file's mode is changed; no snippet where it is mounted read-only.

    Args:
        path: the file.
        change: as chmod takes it.
        why: what the hint begins with.

    Raises:
        OSError: the path cannot be reached.
    """
    if _read_only(path):
        return f"{why}{'; ' if why else ''}it is mounted read-only here: change it where it comes from", ""
    return why, f"chmod {change} {quoted(path)}"


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def quoted(path: Path) -> str:
    """The path as a shell takes it."""
    from shlex import quote

    return quote(str(path))


def _who(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await asyncio.sleep(0)  # the transport closes its socket at the loop's next turn
