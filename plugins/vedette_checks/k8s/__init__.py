"""The k8s check: pods, nodes, workloads and their use of CPU and memory, kept up to date by watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vedette import Check, Listener, hookimpl
from vedette_checks.k8s.check import K8s
from vedette_checks.k8s.config import K8sConfig

__all__ = ["K8s", "K8sConfig", "register_checks"]


@hookimpl
def register_checks(register: Callable[[type[Check[Any]] | type[Listener[Any]]], None]) -> None:
    """Offer the check to the agent."""
    register(K8s)
