"""vedette: a lightweight monitoring agent.

What a plugin imports is here; names load on first use, so that `vedette.instrument` in a payment service costs
neither pydantic nor pluggy (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vedette.advice import Diagnosis, Estimate
    from vedette.check import Check, CheckConfig, Listener
    from vedette.discovery import Container, Discovery, DiscoveryConfig, Found, Target
    from vedette.emit import Emit
    from vedette.engine import Engine, EngineConfig, EngineConflict, EngineRecord, EngineUnavailable
    from vedette.errors import CheckError, Remark, SecretError, Undelivered
    from vedette.hookspecs import hookimpl
    from vedette.metrics import Batch, Kind, Metric, Sample, Status
    from vedette.notifier import Alert, Evidence, Notifier, NotifierConfig
    from vedette.passwords import Login, Password
    from vedette.resolver import Resolver, ResolverConfig
    from vedette.secrets import Secret
    from vedette.sink import Sink, SinkConfig
    from vedette.units import Duration

__version__ = "0.1.0"

_HOME = {
    "Alert": "notifier",
    "Batch": "metrics",
    "Check": "check",
    "CheckConfig": "check",
    "CheckError": "errors",
    "Container": "discovery",
    "Diagnosis": "advice",
    "Discovery": "discovery",
    "DiscoveryConfig": "discovery",
    "Duration": "units",
    "Emit": "emit",
    "Engine": "engine",
    "EngineConfig": "engine",
    "EngineConflict": "engine",
    "EngineRecord": "engine",
    "EngineUnavailable": "engine",
    "Estimate": "advice",
    "Evidence": "notifier",
    "Found": "discovery",
    "Kind": "metrics",
    "Listener": "check",
    "Login": "passwords",
    "Metric": "metrics",
    "Notifier": "notifier",
    "NotifierConfig": "notifier",
    "Password": "passwords",
    "Remark": "errors",
    "Resolver": "resolver",
    "ResolverConfig": "resolver",
    "Sample": "metrics",
    "Secret": "secrets",
    "SecretError": "errors",
    "Sink": "sink",
    "SinkConfig": "sink",
    "Status": "metrics",
    "Target": "discovery",
    "Undelivered": "errors",
    "hookimpl": "hookspecs",
}

_RENAMED: dict[str, tuple[str, str]] = {}
"""By the old name: the new one, and what removes the old one, such as `vedette 2.0`."""

__all__ = [
    "Alert",
    "Batch",
    "Check",
    "CheckConfig",
    "CheckError",
    "Container",
    "Diagnosis",
    "Discovery",
    "DiscoveryConfig",
    "Duration",
    "Emit",
    "Engine",
    "EngineConfig",
    "EngineConflict",
    "EngineRecord",
    "EngineUnavailable",
    "Estimate",
    "Evidence",
    "Found",
    "Kind",
    "Listener",
    "Login",
    "Metric",
    "Notifier",
    "NotifierConfig",
    "Password",
    "Remark",
    "Resolver",
    "ResolverConfig",
    "Sample",
    "Secret",
    "SecretError",
    "Sink",
    "SinkConfig",
    "Status",
    "Target",
    "Undelivered",
    "hookimpl",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None and name not in _RENAMED:
        raise AttributeError(f"module 'vedette' has no attribute {name!r}")
    from importlib import import_module

    if home is None:
        old: object = import_module("vedette.renamed").stand_in("vedette", _RENAMED, name)
        return old
    value: object = getattr(import_module(f"vedette.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
