"""Floor 1: the options of everything that serves pages: address, TLS, password; sinks get them from `vedette.kit`."""

from __future__ import annotations

import base64
import binascii
import hmac
import ssl
from ipaddress import ip_address
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette.secrets import Secret

_ADDRESS = "must be an address and a port, such as 127.0.0.1:9464 or [::]:9464"
_EXPOSED = "listens beyond this machine: give tls_cert, username and password, or listen on 127.0.0.1"


class ListenOptions(BaseModel):
    """Where a page is served and to whom. Beyond the loopback interface it takes TLS and a password.

    Derive a configuration model from it, give `listen` a default, and ask `address`, `tls()` and `admits()`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field(description="Address and port of the page; port 0 takes a free one.")
    tls_cert: Path | None = Field(default=None, description="Certificate chain (PEM): serve https.")
    tls_key: Path | None = Field(default=None, description="Its private key (PEM), if it is not in `tls_cert`.")
    username: str = Field(default="", description="Ask for this user name (basic authentication).")
    password: Secret | None = Field(default=None, description="And for this password.")

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _guarded(self) -> ListenOptions:
        if bool(self.username) != (self.password is not None):
            raise PydanticCustomError("vedette", "give both username and password, or neither")
        if self.tls_key is not None and self.tls_cert is None:
            raise PydanticCustomError("vedette", "tls_key needs tls_cert")
        if not is_loopback(self.address[0]) and (self.tls_cert is None or not self.password):
            raise PydanticCustomError("vedette", _EXPOSED)
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return split_address(self.listen)

    def tls(self) -> ssl.SSLContext | None:
        """The server's TLS context, from the files as they are now; None without `tls_cert`.

        Raises:
            OSError: a file cannot be read or holds no certificate with its key; the text names it.
        """
        if self.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except OSError as error:
            why = "no certificate with its key" if isinstance(error, ssl.SSLError) else error.strerror
            raise OSError(error.errno, f"{self.tls_cert}: {why}") from None
        return context

    def admits(self, authorization: str) -> bool:
        """Whether a request with this Authorization header may come in (RFC 7617); always without a password."""
        if self.password is None:
            return True
        scheme, _, given = authorization.partition(" ")
        try:
            credentials = base64.b64decode(given, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            credentials = b""
        return hmac.compare_digest(credentials, f"{self.username}:{self.password.reveal()}".encode())


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9464`, `[::]:9464` or `:9464` (every IPv4 address).

    Raises:
        ValueError: the text is none of these.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise PydanticCustomError("vedette", _ADDRESS)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - only if the user leaves the host out


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; of names only `localhost` is known to be such."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
