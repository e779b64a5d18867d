"""Where an application's metrics go and which tags all of them carry: arguments first, then the environment."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from vedette.instrument.wire import clean

LOG = logging.getLogger("vedette.instrument")
"""Where the library says what is wrong; by `say`."""
_HOST, _PORT = "127.0.0.1", 8125
_YES = frozenset({"1", "true", "yes", "on"})
_BETWEEN_TAGS = re.compile(r"[,\s]+")


def say(level: int, text: str, *values: object) -> None:
    """Write to the log; a handler that raises, on a full disk say, is not to harm who only wanted to count."""
    with suppress(Exception):
        LOG.log(level, text, *values)


@dataclass(frozen=True, slots=True)
class Settings:
    """One target and the constant tags; equal settings share one client.

    Attributes:
        host: of the StatsD server.
        port: its UDP port.
        socket_path: unix socket instead, also as `unixgram://…` or `unixstream://…`; empty for UDP.
        tags: `key:value` tags of every metric.
        enabled: False drops everything, uncounted, by `DD_DOGSTATSD_DISABLE`.
        histogram_as: `h` or, for percentiles over all hosts, `d` (a distribution).
    """

    host: str = _HOST
    port: int = _PORT
    socket_path: str = ""
    tags: tuple[str, ...] = ()
    enabled: bool = True
    histogram_as: Literal["h", "d"] = "h"

    @property
    def target(self) -> str:
        """The target for people."""
        if self.socket_path:
            return self.socket_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def suffix(self) -> str:
        """The constant tags, ready to end a line that has tags of its own."""
        return "".join(f",{tag}" for tag in self.tags)


def read_settings(
    *,
    host: str | None = None,
    port: int | None = None,
    socket_path: str | None = None,
    environment: str | None = None,
    service: str | None = None,
    version: str | None = None,
    tags: Iterable[str] = (),
    histogram_as: Literal["h", "d"] = "h",
    env: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from arguments and, where these say nothing, from the environment. Never raises.

    Source: Datadog, "DogStatsD: client instantiation" (`DD_DOGSTATSD_URL` before `DD_AGENT_HOST` and
    `DD_DOGSTATSD_PORT`) and "Unified service tagging".
    """
    variables = os.environ if env is None else env
    where: tuple[str, int, str] | None = None
    if socket_path:
        where = (_HOST, _PORT, str(socket_path))
    elif host is None and port is None:
        where = _from_url(variables.get("DD_DOGSTATSD_URL", ""))
    if where is None:
        named = host or variables.get("DD_AGENT_HOST") or _HOST
        number = _port_of(variables.get("DD_DOGSTATSD_PORT", ""), "DD_DOGSTATSD_PORT") if port is None else port
        where = (named, _port_of(number, "port"), "")
    return Settings(
        *where,
        tags=_constant_tags(variables, environment, service, version, tags),
        enabled=variables.get("DD_DOGSTATSD_DISABLE", "").lower() not in _YES,
        histogram_as="d" if histogram_as == "d" else "h",
    )


def _from_url(url: str) -> tuple[str, int, str] | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        if parts.scheme in ("unix", "unixgram", "unixstream") and (path := parts.netloc + parts.path):
            return _HOST, _PORT, path if parts.scheme == "unix" else f"{parts.scheme}://{path}"
        if parts.scheme == "udp" and parts.hostname:
            return parts.hostname, parts.port or _PORT, ""
    except ValueError:
        pass
    say(logging.WARNING, "DD_DOGSTATSD_URL is not understood: give udp://HOST:PORT or unix:///PATH; it is ignored")
    return None


def _port_of(value: object, name: str) -> int:
    """A port number; Kubernetes itself sets `…_PORT` variables to addresses, which must not harm."""
    if value == "":
        return _PORT
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if 0 < number < 65536:
        return number
    say(logging.WARNING, "%s is not a port number: %d is used", name, _PORT)
    return _PORT


def _constant_tags(
    env: Mapping[str, str], environment: str | None, service: str | None, version: str | None, tags: Iterable[str]
) -> tuple[str, ...]:
    named = {
        "environment": environment or env.get("ENVIRONMENT") or env.get("DD_ENV"),
        "service": service or env.get("DD_SERVICE"),
        "version": version or env.get("APP_VERSION") or env.get("DD_VERSION"),
        "dd.internal.entity_id": env.get("DD_ENTITY_ID"),
    }
    found = [f"{key}:{value}" for key, value in named.items() if value]
    found += [str(tag) for tag in ((tags,) if isinstance(tags, str) else tags)]
    for name in ("DD_TAGS", "DATADOG_TAGS"):
        found += [tag for tag in _BETWEEN_TAGS.split(env.get(name, "")) if tag]
    taken: dict[str, None] = {}
    keys = {key for key, value in named.items() if value}
    for position, tag in enumerate(found):
        if position < len(keys) or tag.partition(":")[0] not in keys:  # a tag said twice would count as two values
            taken.setdefault(clean(tag), None)
    return tuple(taken)
