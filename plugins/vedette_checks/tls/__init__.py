"""The tls check: certificates that end, chains that nobody trusts, versions of TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vedette import Check, CheckError, Kind, Metric, Status, hookimpl
from vedette.kit import given, probe_tcp, probe_tls
from vedette_checks.tls.config import TlsConfig
from vedette_checks.tls.handshake import Certificate, client_side, in_words, read_file, shake

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["Tls", "TlsConfig", "register_checks"]

_DAY = 86_400.0
_TAGS = ("server", "server_hostname", "port", "path")


class Tls(Check[TlsConfig]):
    """Looks at the certificates of a server, or of a file, and at what the handshake agrees on."""

    name = "tls"
    metrics = (
        Metric("tls.days_left", Kind.GAUGE, unit="day", tags=_TAGS, help="Time until its own ends; negative after."),
        Metric("tls.seconds_left", Kind.GAUGE, unit="second", tags=_TAGS, help="The same in seconds."),
        Metric("tls.chain.days_left", Kind.GAUGE, unit="day", tags=_TAGS,
               help="Time until the first of its chain, or of the file, ends."),
        Metric("tls.issued_days", Kind.GAUGE, unit="day", tags=_TAGS, help="How long the certificate holds in all."),
        Metric("tls.issued_seconds", Kind.GAUGE, unit="second", tags=_TAGS, help="The same in seconds."),
    )  # fmt: skip
    statuses = ("tls.can_connect", "tls.version", "tls.cert_validation", "tls.cert_expiration")

    @classmethod
    def reaches(cls, config: TlsConfig) -> Iterable[str]:
        """The one host."""
        if refused := given(config, ("cert_path",)):
            raise ValueError(f"only the operator may set {', '.join(refused)}")
        return (config.host or "",)

    async def run(self, emit: Emit) -> None:
        """Connect once, or read the file.

        Raises:
            CheckError: there was no connection, no TLS or no certificate.
        """
        config = self.config
        if config.cert_path is not None:
            await self._read(emit)
            return
        tags = (
            f"server:{config.host}",
            f"server_hostname:{config.server_name or config.host}",
            f"port:{config.port}",
        )
        try:
            shaken = await shake(config)
        except CheckError as error:  # a file of ours: nothing is known of the server
            emit.status("tls.can_connect", Status.UNKNOWN, error.message, tags)
            raise
        except (OSError, ValueError) as error:
            reason = _why(config, error)
            emit.status("tls.can_connect", Status.CRITICAL, reason, tags)
            raise CheckError(reason, hint="`vedette doctor` says what is reached") from error
        emit.status("tls.can_connect", Status.OK, "", tags)
        good = shaken.version in config.versions
        chosen = "" if good else f"the server speaks {shaken.version}, allowed is {', '.join(config.versions)}"
        emit.status("tls.version", Status.OK if good else Status.CRITICAL, chosen, tags)
        emit.status("tls.cert_validation", Status.CRITICAL if shaken.fault else Status.OK, shaken.fault, tags)
        self._judge(emit, shaken.chain, tags)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The port, the handshake, the certificate; or the file."""
        config = self.config
        if config.cert_path is None:
            await self._diagnose_server(config.host or "", diagnosis)
            return
        try:
            found = await asyncio.to_thread(read_file, config.cert_path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no certificate"
            diagnosis.failed("certificate", f"{config.cert_path}: {why}", "the agent's user must be able to read it")
        else:
            first = _first(found)
            left = (first.ends - time.time()) / _DAY
            say = diagnosis.failed if left <= 0 else diagnosis.warning if left <= config.warning_days else diagnosis.ok
            say("certificate", f"{first.subject}, {left:.0f} days left")

    async def _diagnose_server(self, host: str, diagnosis: Diagnosis) -> None:
        config = self.config
        reached = await probe_tcp(diagnosis, host, config.port)
        try:
            context = client_side(config)
        except CheckError as error:
            diagnosis.failed("certificates", error.message, error.hint)
        else:
            if reached:
                await probe_tls(diagnosis, host, config.port, context, server_name=config.server_name)

    async def _read(self, emit: Emit) -> None:
        path = self.config.cert_path
        assert path is not None  # noqa: S101 - for the type checker
        tags = (f"path:{path}",)
        try:
            found = await asyncio.to_thread(read_file, path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no certificate"
            emit.status("tls.cert_validation", Status.CRITICAL, f"{path}: {why}", tags)
            raise CheckError(f"{path}: {why}", hint="the agent's user must be able to read it") from error
        now = time.time()
        faults = [f"{one.subject} has expired" for one in found if one.ends <= now]
        faults += [f"{one.subject} is not valid yet" for one in found if one.begins > now]
        emit.status("tls.cert_validation", Status.CRITICAL if faults else Status.OK, "; ".join(faults[:5]), tags)
        self._judge(emit, found, tags)

    def _judge(self, emit: Emit, chain: tuple[Certificate, ...], tags: tuple[str, ...]) -> None:
        """The figures are of the first one, as Datadog's; the verdict is about the one that ends first."""
        config, now, own, first = self.config, time.time(), chain[0], _first(chain)
        left, lasts = own.ends - now, own.ends - own.begins
        emit.gauge("tls.days_left", left / _DAY, tags)
        emit.gauge("tls.seconds_left", left, tags)
        emit.gauge("tls.issued_days", lasts / _DAY, tags)
        emit.gauge("tls.issued_seconds", lasts, tags)
        left = first.ends - now
        emit.gauge("tls.chain.days_left", left / _DAY, tags)
        if left <= config.critical_days * _DAY:
            status = Status.CRITICAL
        else:
            status = Status.WARNING if left <= config.warning_days * _DAY else Status.OK
        ends = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(first.ends))
        which = (
            "the certificate" if first is own else f"{first.subject} of the {'file' if config.cert_path else 'chain'}"
        )
        text = f"{which} ended on {ends}" if left <= 0 else f"{which} ends on {ends}, in {left / _DAY:.1f} days"
        emit.status("tls.cert_expiration", status, "" if status is Status.OK else text, tags)


def _first(chain: tuple[Certificate, ...]) -> Certificate:
    """The one that ends before the others; of equals the server's own."""
    return min(chain, key=lambda one: one.ends)


def _why(config: TlsConfig, error: OSError | ValueError) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"{config.host} has no address"
    where = f"{config.host} port {config.port}"
    if isinstance(error, TimeoutError):
        return f"{where}: no handshake in time"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return f"{where}: the server closed the connection: does it speak TLS there?"
    if isinstance(error, ssl.SSLError | ValueError):
        return f"{where}: {in_words(error)}"
    return f"{where}: {os.strerror(error.errno).lower() if error.errno else 'no connection'}"


@hookimpl
def register_checks(register: Callable[[type[Tls]], None]) -> None:
    """Offer the tls check."""
    register(Tls)
