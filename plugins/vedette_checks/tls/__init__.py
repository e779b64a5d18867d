"""The tls check: certificates that end, chains that nobody trusts, versions of TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vedette import Check, CheckError, Kind, Metric, Status, hookimpl
from vedette.kit import given, probe_tcp, probe_tls, ssl_context
from vedette_checks.tls.config import TlsConfig
from vedette_checks.tls.handshake import Certificate, read_file, shake

if TYPE_CHECKING:
    from vedette import Diagnosis, Emit

__all__ = ["Tls", "TlsConfig", "register_checks"]

_DAY = 86_400.0
_TAGS = ("server", "server_hostname", "port", "path")


class Tls(Check[TlsConfig]):
    """Looks at the certificate of a server, or of a file, and at what the handshake agrees on."""

    name = "tls"
    metrics = (
        Metric("tls.days_left", Kind.GAUGE, unit="day", tags=_TAGS, help="Time until it ends; negative after."),
        Metric("tls.seconds_left", Kind.GAUGE, unit="second", tags=_TAGS, help="The same in seconds."),
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
        except (OSError, TimeoutError) as error:
            reason = f"{config.host} port {config.port}: {_why(error)}"
            emit.status("tls.can_connect", Status.CRITICAL, reason, tags)
            raise CheckError(reason, hint="`vedette doctor` says what is reached") from error
        emit.status("tls.can_connect", Status.OK, "", tags)
        good = shaken.version in config.versions
        chosen = "" if good else f"the server speaks {shaken.version}, allowed is {', '.join(config.versions)}"
        emit.status("tls.version", Status.OK if good else Status.CRITICAL, chosen, tags)
        emit.status("tls.cert_validation", Status.CRITICAL if shaken.fault else Status.OK, shaken.fault, tags)
        self._judge(emit, shaken.certificate, tags)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The port, the handshake, the certificate; or the file."""
        config = self.config
        if config.cert_path is None:
            context = ssl_context(ca_file=config.ca_file, cert_file=config.cert_file, key_file=config.key_file)
            if await probe_tcp(diagnosis, config.host or "", config.port):
                await probe_tls(diagnosis, config.server_name or config.host or "", config.port, context)
            return
        try:
            found = await asyncio.to_thread(read_file, config.cert_path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no certificate"
            diagnosis.failed("certificate", f"{config.cert_path}: {why}", "the agent's user must be able to read it")
        else:
            diagnosis.ok("certificate", f"{found.subject}, {(found.ends - time.time()) / _DAY:.0f} days left")

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
        emit.status("tls.cert_validation", Status.OK, "", tags)
        self._judge(emit, found, tags)

    def _judge(self, emit: Emit, found: Certificate, tags: tuple[str, ...]) -> None:
        config, now = self.config, time.time()
        left, lasts = found.ends - now, found.ends - found.begins
        emit.gauge("tls.days_left", left / _DAY, tags)
        emit.gauge("tls.seconds_left", left, tags)
        emit.gauge("tls.issued_days", lasts / _DAY, tags)
        emit.gauge("tls.issued_seconds", lasts, tags)
        if left <= config.critical_days * _DAY:
            status = Status.CRITICAL
        else:
            status = Status.WARNING if left <= config.warning_days * _DAY else Status.OK
        ends = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(found.ends))
        text = (
            f"the certificate ended on {ends}"
            if left <= 0
            else f"the certificate ends on {ends}, in {left / _DAY:.1f} days"
        )
        emit.status("tls.cert_expiration", status, "" if status is Status.OK else text, tags)


def _why(error: OSError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return "no handshake in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the handshake failed").replace("_", " ").lower()
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the server closed the connection: does it speak TLS there?"
    return os.strerror(error.errno).lower() if error.errno else "no connection"


@hookimpl
def register_checks(register: Callable[[type[Tls]], None]) -> None:
    """Offer the tls check."""
    register(Tls)
