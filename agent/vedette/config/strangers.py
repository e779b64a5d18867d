"""Floor 2: how a file of the Datadog Agent is told that somebody dropped into our folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vedette.config.source import Mapping

HINT: Final = "this is a file of the Datadog Agent: `vedette import datadog DIR` translates its conf.d"
OPTIONS: Final = {
    "min_collection_interval": "here it is `interval`; `vedette import datadog DIR` translates a Datadog Agent's conf.d"
}
"""Hints for options that every instance there may have."""
_KEYS: Final = ("init_config", "ad_identifiers", "jmx_metrics", "logs")
_CHECKS: Final = frozenset(
    (
        *("redisdb", "http_check", "dns_check", "tcp_check", "cpu", "disk", "io", "load", "memory", "network"),
        *("system_core", "system_swap", "uptime", "kubelet", "kubernetes_state_core", "nagios", "amazon_rds"),
        "dogstatsd",
    )
)
"""Its checks that have another name here."""


def foreign_key(root: Mapping) -> str | None:
    """The first key of a file that only a file of the Datadog Agent has."""
    return next((key for key in root.entries if key in _KEYS), None)


def foreign_check(name: str) -> str:
    """A hint for the name of a check that is Datadog's and not ours; empty for any other."""
    return HINT if name in _CHECKS else ""
