"""Pods as targets of the autodiscovery: what of them is decoded, and which of them count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from vedette import Container, Target
from vedette_checks.k8s.decode import Labels, Meta, Owner
from vedette_checks.k8s.names import workload_of, workload_tags
from vedette_checks.k8s.table import Table

VARIABLES = ("kube_namespace", "kube_pod_name", "kube_pod_uid", "node")
"""`%%name%%` that pods have beside the common ones."""

_LONGEST = 4096  # characters of a variable that are kept
_HASH = "pod-template-hash"
_LABEL_TAGS = {
    "tags.datadoghq.com/env": "env",
    "tags.datadoghq.com/service": "service",
    "tags.datadoghq.com/version": "version",
    "app.kubernetes.io/name": "kube_app_name",
    "app.kubernetes.io/instance": "kube_app_instance",
    "app.kubernetes.io/version": "kube_app_version",
    "app.kubernetes.io/component": "kube_app_component",
    "app.kubernetes.io/part-of": "kube_app_part_of",
    "app.kubernetes.io/managed-by": "kube_app_managed_by",
}
"""Labels that are tags at Datadog, too: docs.datadoghq.com/containers/kubernetes/tag, "Out-of-the-box tags"."""


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[Owner, ...] | None = None


class _Port(msgspec.Struct, frozen=True, rename="camel"):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class _Elsewhere(msgspec.Struct, frozen=True):
    """Where a value comes from, which is nobody's business here."""


class _Variable(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    value: str | None = None
    value_from: _Elsewhere | None = None


class _Container(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    image: str = ""
    ports: tuple[_Port, ...] | None = None
    env: tuple[_Variable, ...] | None = None
    restart_policy: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    containers: tuple[_Container, ...] | None = None
    init_containers: tuple[_Container, ...] | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")


class Pod(msgspec.Struct, frozen=True):
    """What of a Pod the autodiscovery uses."""

    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


class Targets(Table[Pod, Target | None]):
    """The pods of a node; those that run are targets.

    Args:
        annotation: under which pods ask for checks.
        namespaces: patterns of the namespaces that count; empty for all.
        tell: called with all targets after a change.
    """

    def __init__(self, annotation: str, namespaces: Iterable[str], tell: Callable[[Iterable[Target]], None]) -> None:
        super().__init__(Pod)
        self._annotation = annotation
        self._namespaces = tuple(namespaces)
        self._tell = tell

    def finish(self) -> None:
        """See `Store`."""
        super().finish()
        self._tell_all()

    def put(self, raw: Any) -> str:
        """See `Store`."""
        version = super().put(raw)
        self._tell_all()
        return version

    def remove(self, raw: Any) -> str:
        """See `Store`."""
        version = super().remove(raw)
        self._tell_all()
        return version

    def _tell_all(self) -> None:
        self._tell(row for row in self.rows.values() if row is not None)

    def digest(self, found: Pod) -> Target | None:
        """The target that a pod is; None while it does not run, has no address, or is being deleted."""
        meta, status = found.metadata, found.status
        if status.phase != "Running" or not status.pod_ip or meta.deletion_timestamp is not None:
            return None
        if self._namespaces and not any(fnmatchcase(meta.namespace, one) for one in self._namespaces):
            return None
        variables = (meta.namespace, meta.name, meta.uid, found.spec.node_name)
        return Target(
            id=meta.uid,
            name=f"{meta.namespace}/{meta.name}",
            host=status.pod_ip,
            kind="pod",
            namespace=meta.namespace,
            containers=tuple(_container(one) for one in _running(found.spec)),
            labels=meta.labels or {},
            tags=tuple(_tags(meta)),
            variables=dict(zip(VARIABLES, variables, strict=True)),
            asks=(meta.annotations or {}).get(self._annotation, ""),
            source=self._annotation,
        )


def _running(spec: _Spec) -> Iterator[_Container]:
    """The containers, and the init containers that go on beside them (KEP-753)."""
    yield from spec.containers or ()
    yield from (one for one in spec.init_containers or () if one.restart_policy == "Always")


def _container(one: _Container) -> Container:
    return Container(
        name=one.name,
        image=one.image,
        ports={port.name or str(port.container_port): port.container_port for port in one.ports or ()},
        environ={each.name: each.value for each in one.env or () if each.value is not None and _literal(each)},
        tags=tuple(_image_tags(one)),
    )


def _literal(variable: _Variable) -> bool:
    """Whether the value is what it says: `$(NAME)` stands for another variable, which may be a secret."""
    value = variable.value or ""
    return variable.value_from is None and "$(" not in value and len(value) <= _LONGEST


def _tags(meta: _Meta) -> Iterator[str]:
    labels = meta.labels or {}
    yield f"pod_name:{meta.name}"
    named = Meta(namespace=meta.namespace, labels=Labels(labels.get(_HASH, "")), owner_references=meta.owner_references)
    yield from workload_tags(*workload_of(named))
    yield from (f"{tag}:{labels[label]}" for label, tag in _LABEL_TAGS.items() if labels.get(label))


def _image_tags(one: _Container) -> Iterator[str]:
    """The tags of a container, as Datadog has them."""
    yield f"kube_container_name:{one.name}"
    image = one.image.partition("@")[0]
    folder, slash, last = image.rpartition("/")
    short, _, tag = last.partition(":")
    if short:
        yield f"image_name:{folder}{slash}{short}"
        yield f"short_image:{short}"
        yield f"image_tag:{tag or 'latest'}"
