"""Where a PostgreSQL server is, how to log in, and what a DSN may say of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic_core import PydanticCustomError

from vedette import Login, Password

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
"""libpq's `sslmode` (PostgreSQL documentation, 32.19 SSL Support)."""

_SHAPE = "must look like postgresql://user@host:5432/database?sslmode=verify-full"
_FILES = {"sslrootcert": "ca_file", "sslcert": "cert_file", "sslkey": "key_file"}


@dataclass(frozen=True, slots=True)
class Target:
    """One database of one server.

    Attributes:
        host: host name, IP address, or the folder of a unix socket.
        port: TCP port, or the number in the socket's name.
        username: role to log in as.
        password: its password, never printed; empty leaves it to the password file of libpq.
        dbname: database to connect to.
        sslmode: as in libpq.
        ca_file: certificate authorities to trust instead of the system's.
        cert_file: client certificate.
        key_file: its private key.
        minted: a password that is made for each connection, instead of `password`.
    """

    host: str = "localhost"
    port: int = 5432
    username: str = ""
    password: str = field(default="", repr=False)
    dbname: str = "postgres"
    sslmode: SslMode = "prefer"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    minted: Password | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of Datadog's integration for the server."""
        return (f"server:{self.host}", f"port:{self.port}")

    @property
    def verified(self) -> bool:
        """Whether the server's certificate is checked; as in libpq, an authority with `require` is `verify-ca`."""
        return self.sslmode.startswith("verify") or (self.ca_file is not None and self.sslmode == "require")

    @property
    def encrypted(self) -> bool:
        """Whether nothing is sent in the clear, whatever the server says."""
        return self.sslmode not in ("disable", "allow", "prefer") and not self.host.startswith("/")

    @property
    def has_password(self) -> bool:
        """Whether there is one to log in with."""
        return bool(self.password) or self.minted is not None

    def with_password(self, password: Password | None) -> Target:
        """The same with a password that does not stand in the DSN."""
        if password is None or password.minted is None:
            return replace(self, password=password.reveal() if password is not None else "", minted=None)
        if password.needs_tls and not self.encrypted:
            text = "this password only goes over TLS: say `sslmode: verify-full` (or require), in `dsn` too"
            raise PydanticCustomError("vedette", text)
        if not self.username:
            raise PydanticCustomError("vedette", "this password is made for a user: give `username`")
        return replace(self, password="", minted=password)

    async def new_password(self) -> str:
        """The password for a connection that is about to be made.

        Raises:
            SecretError: it cannot be made.
        """
        if self.minted is None:
            return self.password
        return await self.minted.of(Login("postgresql", self.host, self.port, self.username))

    def at(self, dbname: str) -> Target:
        """Another database of the same server."""
        return replace(self, dbname=dbname)


def parse_dsn(dsn: str) -> Target:
    """The target in a `postgresql://` URL; `%40` and the like are decoded.

    Raises:
        ValueError: it is none, or says what is not supported; the text does not repeat it.
    """
    try:
        parts = urlsplit(dsn)
        port = parts.port or 5432
    except ValueError:
        if "," in dsn:
            raise ValueError("names several hosts; make each of them an instance") from None
        raise ValueError("is not a URL: write @ : / ? # in a password as %40 %3A %2F %3F %23") from None
    if parts.scheme not in ("postgresql", "postgres") or parts.fragment:
        raise ValueError(_SHAPE)
    query = _query(parts)
    host = unquote(parts.hostname or "") or query.pop("host", "localhost")
    if "," in host:
        raise ValueError("names several hosts; make each of them an instance")
    sslmode = query.pop("sslmode", "prefer")
    if sslmode not in get_args(SslMode):
        raise ValueError(f"sslmode must be one of {', '.join(get_args(SslMode))}")
    files: dict[str, Any] = {
        name: Path(query.pop(parameter)) for parameter, name in _FILES.items() if parameter in query
    }
    if query:
        raise ValueError(f"has the parameter {min(query)}, which is not supported; {_SHAPE}")
    return Target(
        host,
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        unquote(parts.path.removeprefix("/")) or "postgres",
        sslmode,  # type: ignore[arg-type]
        **files,
    )


def _query(parts: SplitResult) -> dict[str, str]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(_SHAPE) from None
    if len(dict(pairs)) < len(pairs):
        raise ValueError("gives a parameter twice")
    return dict(pairs)
