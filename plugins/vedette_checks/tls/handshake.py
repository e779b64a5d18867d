"""TLS connections, and what their certificates say."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from vedette.kit import ssl_context

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
        certificate: the server's own.
    """

    version: str
    fault: str
    certificate: Certificate


async def shake(config: TlsConfig) -> Shaken:
    """Connect, with the certificate looked at; if that is not valid once more without, to see when it ends.

    Raises:
        OSError: no connection, or no TLS.
        TimeoutError: not in time.
    """
    fault = ""
    async with asyncio.timeout(config.patience):
        try:
            version, certificate = await _connect(config, verify=True)
        except ssl.SSLCertVerificationError as error:
            fault = error.verify_message or "the certificate is not valid"
            version, certificate = await _connect(config, verify=False)
    return Shaken(version, fault, certificate)


def read_file(path: Path) -> Certificate:
    """The first certificate of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    return _described(x509.load_pem_x509_certificate(path.read_bytes()))


def _described(found: x509.Certificate) -> Certificate:
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return Certificate(begins, ends, found.subject.rfc4514_string())


async def _connect(config: TlsConfig, *, verify: bool) -> tuple[str, Certificate]:
    context = ssl_context(ca_file=config.ca_file, cert_file=config.cert_file, key_file=config.key_file, verify=verify)
    host = config.host or ""
    _, writer = await asyncio.open_connection(
        host, config.port, ssl=context, server_hostname=config.server_name or host
    )
    try:
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        raw = connection.getpeercert(binary_form=True) or b""
        return connection.version() or "", _described(x509.load_der_x509_certificate(raw))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
