"""Floor 5: how the translation of a check is described, and what takes more than a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from vedette.moving.families import keep
from vedette.moving.values import login, truth

Convert = Callable[[Any], Any]
"""Makes the value; raises ValueError with what cannot be said here, Partly if that is only some of it."""
Settle = Callable[[dict[str, Any], dict[str, Any]], Iterable[str]]
"""Puts right in the options here what depends on several there; returns notes, raises ValueError to leave all out."""


@dataclass(frozen=True, slots=True)
class Move:
    """One option.

    Attributes:
        to: its name here, with dots.
        how: makes its value.
        minor: whether the instance watches the same thing without it; else it is not made without it.
    """

    to: str
    how: Convert = lambda value: value
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Translation:
    """One check.

    Attributes:
        check: its name here.
        options: by the name that Datadog has.
        idle: options without a counterpart that need none as long as they have this value; `...` is any.
        needed: options without a counterpart that change what is watched, unless they have this value.
        more: options that `settle` reads.
        one: whether all instances, of several of Datadog's checks, are one here.
        called: options that name an instance, the first that is there.
        aims: options that name what is watched, one of which there must be.
        settle: puts right what depends on several options.
    """

    check: str
    options: Mapping[str, Move] = field(default_factory=dict)
    idle: Mapping[str, Any] = field(default_factory=dict)
    needed: Mapping[str, Any] = field(default_factory=dict)
    more: frozenset[str] = frozenset()
    one: bool = False
    called: tuple[str, ...] = ("name", "host")
    aims: tuple[str, ...] = ()
    settle: Settle = lambda made, given: ()


def settle_http(made: dict[str, Any], given: dict[str, Any]) -> Iterable[str]:
    """The login of an address; no days of a certificate where nobody asked for it."""
    login(made, "url", "auth.username", "auth.password")
    if not truth(given.get("check_certificate_expiration", True)):
        made.get("expect", {}).pop("certificate_days", None)
    return ()


def settle_redis(made: dict[str, Any], given: dict[str, Any]) -> Iterable[str]:
    """A socket wins over host and port, as it does in the driver."""
    if "unix_socket_path" in made:
        made.pop("host", None)
        made.pop("port", None)
    return ()


def settle_rabbitmq(made: dict[str, Any], given: dict[str, Any]) -> Iterable[str]:
    """The login of an address."""
    login(made, "url", "username", "password")
    return ()


def settle_tls(made: dict[str, Any], given: dict[str, Any]) -> Iterable[str]:
    """A server may be written as an address."""
    if "://" in str(made.get("host", "")):
        parts = urlsplit(str(made["host"]))
        made["host"] = parts.hostname
        if parts.port is not None:
            made.setdefault("port", parts.port)
    return ()


def settle_openmetrics(made: dict[str, Any], given: dict[str, Any]) -> Iterable[str]:
    """The login of an address, and which metrics are kept."""
    login(made, "url", "username", "password")
    return keep(made, given)
