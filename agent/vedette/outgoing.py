"""Floor 1: the options of whatever sends over HTTP: proxy, authorities, patience; sinks get them from `vedette.kit`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from vedette.secrets import Secret
from vedette.units import Duration

if TYPE_CHECKING:
    from collections.abc import Mapping


class HttpOptions(BaseModel):
    """How a server is reached over HTTP. Derive a configuration model from it, and ask `proxy_for`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    proxy: Secret | None = Field(
        default=None,
        description="Proxy to go through, such as `http://user:password@proxy:3128`. Default: that of $HTTPS_PROXY "
        "(or $HTTP_PROXY for http), unless $NO_PROXY names the host.",
        examples=["http://proxy.internal:3128"],
    )
    no_proxy: tuple[str, ...] = Field(
        default=(),
        description="Hosts and domains to reach without a proxy, beside those of $NO_PROXY; `*` is all.",
        examples=[["internal.example.com"]],
    )
    ca_file: Path | None = Field(
        default=None, description="Certificate authorities (PEM) to trust instead of the system's."
    )
    timeout: Duration = Field(default=20.0, gt=0, description="Longest time that one request may take.")

    @field_validator("proxy")
    @classmethod
    def _proxy_url(cls, value: Secret | None) -> Secret | None:
        if value:
            try:
                parts = urlsplit(value.reveal())
                known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                known = False
            if not known and "://" in value.reveal():
                raise PydanticCustomError("vedette", "must be the URL of a proxy such as http://proxy:3128")
        return value

    def proxy_for(self, url: str, environ: Mapping[str, str] = os.environ) -> str | None:
        """The proxy's URL for a request to this URL, or None to ask its host itself.

        Variables of the environment are read in lower case first; $HTTP_PROXY in upper case is left alone under CGI.
        Source: curl(1), "Environment", which most programs follow.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        excepted = [*self.no_proxy, *_variable("no_proxy", environ).split(",")]
        if any(_covers(one.strip().lower(), host, parts.port) for one in excepted):
            return None
        found = self.proxy.reveal() if self.proxy else ""
        found = found or _variable(f"{parts.scheme}_proxy", environ) or _variable("all_proxy", environ)
        return f"http://{found}" if found and "://" not in found else found or None


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return environ.get(name, "")
    return environ.get(name) or environ.get(name.upper(), "")


def _covers(pattern: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY means this host: `*`, a name with all below it, an address, a network."""
    if not pattern:
        return False
    if pattern == "*":
        return True
    if "/" in pattern:
        return _in_network(host, pattern)
    bare, wanted = pattern, ""
    if bare.startswith("["):  # an IPv6 address, as in a URL
        bare, _, wanted = bare[1:].partition("]")
        wanted = wanted.removeprefix(":")
    elif bare.count(":") == 1:
        bare, _, wanted = bare.partition(":")
    if wanted and wanted != str(port or ""):
        return False
    bare = bare.removeprefix("*").removeprefix(".")
    return host == bare or host.endswith(f".{bare}")


def _in_network(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
