"""Floor 1: the hooks of a plugin. One entry point, one module, one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette.check import Check, Listener
    from vedette.discovery import Discovery
    from vedette.engine import Engine
    from vedette.notifier import Notifier
    from vedette.resolver import Resolver
    from vedette.sink import Sink

PROJECT = "vedette"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's hook function: `@hookimpl def register_checks(register): register(MyCheck)`."""


@hookspec
def register_checks(register: Callable[[type[Check] | type[Listener]], None]) -> None:  # type: ignore[type-arg]
    """Call `register` with the check class of this entry point (group `vedette.checks`)."""


@hookspec
def register_sinks(register: Callable[[type[Sink]], None]) -> None:  # type: ignore[type-arg]
    """Call `register` with the sink class of this entry point (group `vedette.sinks`)."""


@hookspec
def register_discoveries(register: Callable[[type[Discovery]], None]) -> None:  # type: ignore[type-arg]
    """Call `register` with the discovery class of this entry point (group `vedette.discoveries`)."""


@hookspec
def register_engines(register: Callable[[type[Engine]], None]) -> None:  # type: ignore[type-arg]
    """Call `register` with the coordination engine's class of this entry point (group `vedette.engines`)."""


@hookspec
def register_notifiers(register: Callable[[type[Notifier]], None]) -> None:  # type: ignore[type-arg]
    """Call `register` with the notifier class of this entry point (group `vedette.notifiers`)."""


@hookspec
def register_secrets(register: Callable[[type[Resolver]], None]) -> None:  # type: ignore[type-arg]
    """Call `register` with the secret resolver class of this entry point (group `vedette.secrets`)."""
