"""Floor 1: TLS contexts of clients, from certificate files that options name; checks get them from `vedette.kit`."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from vedette.errors import CheckError


class CertificateFiles(Protocol):
    """Options that name the files of a connection."""

    @property
    def ca_file(self) -> Path | None:
        """Certificate authorities to trust instead of the system's."""

    @property
    def cert_file(self) -> Path | None:
        """Client certificate chain."""

    @property
    def key_file(self) -> Path | None:
        """Its private key, if not in `cert_file`."""


def ssl_context(
    *,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    verify: bool = True,
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """A client TLS context, one and the same for the same files as they are now on disk (making one costs 20 ms).

    Args:
        ca_file: certificate authorities to trust instead of the system's.
        cert_file: client certificate chain.
        key_file: its private key, if not in `cert_file`.
        verify: False accepts any certificate and host name.
        check_hostname: False accepts any host name in a valid certificate.

    Raises:
        OSError: a file cannot be read, or ssl.SSLError: it holds no usable certificate or key.
    """
    files = tuple((path, path.stat().st_mtime_ns) if path else None for path in (ca_file, cert_file, key_file))
    return _ssl_context(files, verify, check_hostname and verify)


@lru_cache(maxsize=64)
def _ssl_context(files: tuple[tuple[Path, int] | None, ...], verify: bool, check_hostname: bool) -> ssl.SSLContext:
    ca_file, cert_file, key_file = (file[0] if file else None for file in files)
    context = ssl.create_default_context(cafile=ca_file)
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    context.check_hostname = check_hostname
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_context(files: CertificateFiles, *, verify: bool = True, check_hostname: bool = True) -> ssl.SSLContext:
    """`ssl_context` for a check whose options are called `ca_file`, `cert_file` and `key_file`.

    Args:
        files: the options.
        verify: False accepts any certificate and host name.
        check_hostname: False accepts any host name in a valid certificate.

    Raises:
        CheckError: a file cannot be read, or holds no usable certificate or key.
    """
    try:
        return ssl_context(
            ca_file=files.ca_file,
            cert_file=files.cert_file,
            key_file=files.key_file,
            verify=verify,
            check_hostname=check_hostname,
        )
    except (OSError, ValueError) as error:
        why = f"the certificate files cannot be used: {_in_words(error)}"
        raise CheckError(why, hint="see ca_file, cert_file and key_file") from error


def _in_words(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "they hold no certificate, or no key").replace("_", " ").lower()
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return f"{why}: {error.filename}" if error.filename else why
    return str(error)
