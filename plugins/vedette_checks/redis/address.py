"""The options that lead to a server, and the address they amount to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import Login, Password, Secret
from vedette_checks.redis.topology import ClusterPlace, SentinelConfig

_DATABASE = re.compile(r"/?(\d{0,9})", re.ASCII)
_PLACE = ("host", "port", "unix_socket_path")
_IN_URL = (*_PLACE, "db", "username", "password", "tls")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how to log in.

    Attributes:
        host: host name or IP address; empty with a unix socket.
        port: TCP port.
        path: path of the unix socket, or empty.
        db: database number.
        username: ACL user, or empty for the default one.
        password: its password, never printed.
        tls: whether to speak TLS.
        minted: a password that is made for each connection, instead of `password`.
    """

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    minted: Password | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def credentials(self) -> tuple[str, str]:
        """User and password for a connection that is about to be made.

        Raises:
            SecretError: the password cannot be made.
        """
        if self.minted is None:
            return self.username, self.password
        return self.username, await self.minted.of(Login("redis", self.host, self.port, self.username))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of Datadog's integration for it."""
        if self.path:
            return (f"redis_host:{self.path}", "redis_port:unix_socket")
        return (f"redis_host:{self.host}", f"redis_port:{self.port}")


class ServerOptions(BaseModel):
    """What the check and the fleet's engine have in common: where the servers are and how to log in."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    host: str = Field(
        "localhost", description="Host name or IP address.", examples=["cache1.internal"], pattern=r"^[^\s/@]+$"
    )
    port: int = Field(6379, description="TCP port.", ge=1, le=65535)
    unix_socket_path: Path | None = Field(
        None, description="Unix socket, instead of host and port.", examples=["/run/redis/redis.sock"]
    )
    url: Secret | None = Field(
        None,
        description="Address and login in one, instead of the options above and below: "
        "`redis://user:password@host:port/db`, `rediss://…` for TLS, `unix:///path?db=0`.",
        examples=["rediss://vedette:${env:REDIS_PASSWORD}@cache1.internal:6379/0"],
    )
    sentinel: SentinelConfig | None = Field(
        None, description="Watch a master that sentinels name, instead of a host: it is found anew at each run."
    )
    cluster: ClusterPlace | None = Field(None, description="Watch all nodes of a cluster, instead of a host.")
    db: int = Field(0, description="Database that `keys`, `counters` and the round trip use.", ge=0)
    username: str = Field("", description="ACL user (Redis 6 and later).", examples=["vedette"])
    password: Password | None = Field(
        None,
        description="Password; `${aws-iam:}` for IAM authentication of ElastiCache.",
        examples=["${file:/run/secrets/redis}"],
    )
    tls: bool = Field(False, description="Speak TLS.")
    ca_file: Path | None = Field(
        None,
        description="Certificate authorities to trust instead of the system's.",
        examples=["/etc/ssl/redis-ca.pem"],
    )
    cert_file: Path | None = Field(None, description="Client certificate.", examples=["/etc/ssl/vedette.pem"])
    key_file: Path | None = Field(
        None, description="Its private key, if it is in a file of its own.", examples=["/etc/ssl/vedette.key"]
    )
    verify: bool = Field(True, description="Check the server's certificate and host name.")

    @field_validator("url")
    @classmethod
    def _readable_url(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            parse_url(value.reveal())
        return value

    @model_validator(mode="after")
    def _one_address(self) -> ServerOptions:
        if self.url is not None and (given := [name for name in _IN_URL if name in self.model_fields_set]):
            raise ValueError(f"`url` says it all: leave out {', '.join(given)}")
        if self.unix_socket_path is not None:
            if given := [name for name in ("host", "port", "tls") if name in self.model_fields_set]:
                raise ValueError(f"a unix socket has no {', '.join(given)}")
        elif not self.address.tls and (
            given := [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, name) is not None]
        ):
            raise ValueError(f"{', '.join(given)} without TLS: set `tls: true`")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`key_file` needs `cert_file`")
        if self.address.username and not self.address.password and self.address.minted is None:
            raise ValueError("`username` needs `password`")
        if self.password is not None and self.password.minted is not None:
            if self.password.needs_tls and not self.tls:
                raise PydanticCustomError("vedette", "this password only goes over TLS: set `tls: true`")
            if not self.username:
                raise PydanticCustomError("vedette", "this password is made for a user: give `username`")
        return self

    @model_validator(mode="after")
    def _one_topology(self) -> ServerOptions:
        if self.sentinel is not None and self.cluster is not None:
            raise ValueError("give either `sentinel` or `cluster`, not both")
        for option in ("sentinel", "cluster"):
            given = [name for name in (*_PLACE, "url") if name in self.model_fields_set]
            if getattr(self, option) is not None and given:
                raise ValueError(f"`{option}` says where the servers are: leave out {', '.join(given)}")
        return self

    @property
    def address(self) -> Address:
        """Where the server is, from `url` or from the single options."""
        if self.url is not None:
            return parse_url(self.url.reveal())
        return Address(
            "" if self.unix_socket_path else self.host,
            0 if self.unix_socket_path else self.port,
            str(self.unix_socket_path or ""),
            self.db,
            self.username,
            self.password.reveal() if self.password else "",
            self.tls,
            self.password if self.password is not None and self.password.minted is not None else None,
        )


def parse_url(url: str) -> Address:
    """The address in a `redis://`, `rediss://` or `unix://` URL; `%40` and the like are decoded.

    Raises:
        ValueError: it is none; the text does not repeat it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise ValueError("is not a URL: write @ : / ? # in a password as %40 %3A %2F %3F %23") from None
    login: dict[str, Any] = {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    if parts.scheme == "unix" and parts.path and not parts.hostname:
        return Address("", 0, unquote(parts.path), _database(_query_database(parts)), tls=False, **login)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must look like redis://host:6379/0, rediss://host:6379/0 or unix:///path?db=0")
    database = _database(parts.path)
    return Address(unquote(parts.hostname), port, "", database, tls=parts.scheme == "rediss", **login)


def _query_database(parts: SplitResult) -> str:
    key, _, value = parts.query.partition("=")
    if key not in ("", "db"):
        raise ValueError("a unix:// URL takes no parameter but db")
    return value


def _database(text: str) -> int:
    match = _DATABASE.fullmatch(text)
    if match is None:
        raise ValueError("must end in a database number, such as /0")
    return int(match[1] or 0)
