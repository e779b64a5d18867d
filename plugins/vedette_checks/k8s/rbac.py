"""The rules that an instance needs, no more and no less, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vedette_checks.k8s.config import K8sConfig
from vedette_checks.k8s.resources import RESOURCES, sources

WATCH = ("list", "watch")
LEASES = ("create", "delete", "get", "list", "update", "watch")
"""What the fleet does with its leases."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One right: verbs on a resource.

    Attributes:
        group: API group; empty for the core.
        resource: plural, with its subresource after a slash.
        verbs: what may be done.
        namespace: where; empty for the whole cluster.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    namespace: str = ""

    def __str__(self) -> str:
        """As one line of a Role's or ClusterRole's `rules:`."""
        group = self.group or '""'
        return f"- {{apiGroups: [{group}], resources: [{self.resource}], verbs: [{', '.join(self.verbs)}]}}"


def rules(config: K8sConfig) -> Iterator[Rule]:
    """What the requests of an instance's runs need."""
    for source in sources(config):
        yield Rule(source.group, source.resource, WATCH, source.namespace)
    if config.scope == "node" and config.kubelet is not None:
        yield Rule("", "nodes/stats", ("get",))
    if config.usage and "nodes" in config.watched:
        yield Rule("metrics.k8s.io", "nodes", ("get",) if config.scope == "node" else ("list",))


def fleet_rules(namespace: str) -> tuple[Rule, ...]:
    """What the fleet's engine needs, in the namespace of its leases."""
    return (Rule("coordination.k8s.io", "leases", LEASES, namespace),)


def snippet(missing: Iterable[Rule], user: str) -> str:
    """Rules to apply with kubectl: a ClusterRole, and a Role for each namespace, with what binds them.

    Args:
        missing: the rules.
        user: who is to have them, as the API server names it.
    """
    places: dict[str, list[Rule]] = {}
    for rule in missing:
        places.setdefault(rule.namespace, []).append(rule)
    return "\n---\n".join(_role(namespace, those, user) for namespace, those in places.items())


def _role(namespace: str, those: list[Rule], user: str) -> str:
    kind = "Role" if namespace else "ClusterRole"
    inside = f", namespace: {namespace}" if namespace else ""
    return "\n".join(
        [
            "apiVersion: rbac.authorization.k8s.io/v1",
            f"kind: {kind}",
            f"metadata: {{name: vedette-missing{inside}}}",
            "rules:",
            *(f"  {rule}" for rule in those),
            "---",
            "apiVersion: rbac.authorization.k8s.io/v1",
            f"kind: {kind}Binding",
            f"metadata: {{name: vedette-missing{inside}}}",
            f"roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: vedette-missing}}",
            f"subjects: [{_subject(user)}]",
        ]
    )


def _subject(user: str) -> str:
    parts = user.split(":")
    if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        return f"{{kind: ServiceAccount, namespace: {parts[2]}, name: {parts[3]}}}"
    return f"{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {json.dumps(user)}}}"


def path_of(rule: Rule) -> str:
    """Path of the list that a rule on a watched resource is about."""
    return RESOURCES[rule.resource].path(rule.namespace)
