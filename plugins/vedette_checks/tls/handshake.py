"""TLS connections, and what their certificates say."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from vedette import CheckError
from vedette.kit import cut_text, ssl_context

if TYPE_CHECKING:
    from pathlib import Path

    from vedette_checks.tls.config import TlsConfig


@dataclass(frozen=True, slots=True)
class Certificate:
    """When a certificate holds.

    Attributes:
        begins, ends: Unix seconds.
        subject: whom it is for, for people.
    """

    begins: float
    ends: float
    subject: str


@dataclass(frozen=True, slots=True)
class Shaken:
    """How a handshake came out.

    Attributes:
        version: of TLS, such as `TLSv1.3`.
        fault: why the certificate is not valid; empty if it is.
        chain: the server's own certificate first, then those that signed it: up to the authority that is trusted,
            or as far as the server sends them where `fault` is set.
    """

    version: str
    fault: str
    chain: tuple[Certificate, ...]


async def shake(config: TlsConfig) -> Shaken:
    """Connect, with the certificate looked at; if that is not valid once more without, to see when it ends.

    Raises:
        CheckError: one of the files of the options cannot be used.
        OSError: no connection, or no TLS.
        TimeoutError: not in time.
        ValueError: a name or a certificate that nobody can read.
    """
    fault = ""
    async with asyncio.timeout(config.patience):
        try:
            version, chain = await _connect(config, verify=True)
        except ssl.SSLCertVerificationError as error:
            fault = error.verify_message or "the certificate is not valid"
            version, chain = await _connect(config, verify=False)
    return Shaken(version, fault, chain)


def read_file(path: Path) -> tuple[Certificate, ...]:
    """The certificates of a file, in its order.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    return tuple(map(_described, x509.load_pem_x509_certificates(path.read_bytes())))


def client_side(config: TlsConfig, *, verify: bool = True) -> ssl.SSLContext:
    """The context of the connection.

    Raises:
        CheckError: one of the files cannot be used: nothing that the server could mend.
    """
    try:
        return ssl_context(ca_file=config.ca_file, cert_file=config.cert_file, key_file=config.key_file, verify=verify)
    except (OSError, ValueError) as error:
        option = _guilty(config, error)
        why = in_words(error)
        raise CheckError(f"{option}: {why}", hint="it is a file of the agent's machine: see the options") from error


def in_words(error: OSError | ValueError) -> str:
    """What is wrong, for people."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the handshake failed").replace("_", " ").lower()
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return cut_text(str(error), 100)


def _guilty(config: TlsConfig, error: Exception) -> str:
    """The option whose file is at fault, with the file."""
    options = {"ca_file": config.ca_file, "cert_file": config.cert_file, "key_file": config.key_file}
    named = getattr(error, "filename", None)
    for option, path in options.items():
        if path is not None and str(path) == str(named):
            return f"{option} {path}"
    try:
        ssl_context(ca_file=config.ca_file)
    except (OSError, ValueError):
        return f"ca_file {config.ca_file}"
    return f"cert_file {config.cert_file}" + (f", key_file {config.key_file}" if config.key_file else "")


def _described(found: x509.Certificate) -> Certificate:
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return Certificate(begins, ends, found.subject.rfc4514_string())


async def _connect(config: TlsConfig, *, verify: bool) -> tuple[str, tuple[Certificate, ...]]:
    context = client_side(config, verify=verify)
    host = config.host or ""
    _, writer = await asyncio.open_connection(
        host, config.port, ssl=context, server_hostname=config.server_name or host
    )
    try:
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return connection.version() or "", _chain(connection, verified=verify)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _chain(connection: ssl.SSLObject, *, verified: bool) -> tuple[Certificate, ...]:
    inner: Any = connection._sslobj  # type: ignore[attr-defined]  # its chains are public from Python 3.13 on only
    found = inner.get_verified_chain() if verified else inner.get_unverified_chain()
    if not found:
        raise ValueError("the server shows no certificate")
    return tuple(_described(x509.load_pem_x509_certificate(one.public_bytes().encode())) for one in found)
