"""Nodes: which are ready, what their conditions say, and how much they have to give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from vedette import Metric
from vedette_checks.k8s.decode import Condition, Meta
from vedette_checks.k8s.names import STATE, gauge, truth
from vedette_checks.k8s.quantities import billionths, plain
from vedette_checks.k8s.report import Report


class _Spec(msgspec.Struct, frozen=True):
    unschedulable: bool = False


class _Info(msgspec.Struct, frozen=True, rename="camel"):
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""


class _Address(msgspec.Struct, frozen=True):
    type: str = ""
    address: str = ""


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None
    conditions: tuple[Condition, ...] | None = None
    addresses: tuple[_Address, ...] | None = None
    node_info: _Info = _Info()


class Node(msgspec.Struct, frozen=True):
    """What of a Node is used."""

    metadata: Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def ready(self) -> bool:
        """Whether its condition Ready is True; Unknown, of a node that is silent, is not."""
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions or ())

    def allocatable(self, resource: str) -> int | None:
        """How much of a resource pods may have, in billionths."""
        return _of(self.status.allocatable, resource)

    @property
    def address(self) -> str:
        """Its InternalIP, where its kubelet listens; empty if it has none."""
        return next((one.address for one in self.status.addresses or () if one.type == "InternalIP"), "")


_RESOURCES = {"cpu": "cpu", "memory": "memory", "pods": "pods", "ephemeral-storage": "ephemeral_storage"}
_UNITS = {"cpu": "core", "memory": "byte", "pods": "pod", "ephemeral_storage": "byte", "gpu": "device"}
_TOTALS = ("cpu", "memory", "gpu")
_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe")

METRICS: tuple[Metric, ...] = (
    gauge("k8s.nodes.ready", "Nodes that are Ready, cordoned ones among them.", unit="node"),
    gauge("k8s.nodes.not_ready", "Nodes that are not Ready, or of which that is unknown.", unit="node"),
    gauge(f"{STATE}node.count", "Nodes by what runs on them.", "kubelet_version", "container_runtime_version",
          "kernel_version", "os_image", unit="node"),
    gauge(f"{STATE}node.by_condition", "1 for each condition of a node and the status that it has.", "node",
          "condition", "status"),
    gauge(f"{STATE}node.status", "1 for each node, by whether it takes pods.", "node", "status"),
    gauge(f"{STATE}node.age", "Time since the node joined.", "node", unit="second"),
    *(gauge(f"{STATE}node.{what}_{side}", f"The node's {side}.", "node", unit=unit)
      for side in ("capacity", "allocatable") for what, unit in _UNITS.items()),
    *(gauge(f"{STATE}node.{what}_{side}.total", f"The {side} of all nodes.", unit=_UNITS[what])
      for side in ("capacity", "allocatable") for what in _TOTALS),
)  # fmt: skip


def report_nodes(report: Report, nodes: Iterable[Node]) -> None:
    """Report all nodes."""
    nodes = list(nodes)
    ready = sum(1 for node in nodes if node.ready)
    report.total("k8s.nodes.ready", ready)
    report.total("k8s.nodes.not_ready", len(nodes) - ready)
    for kind, number in Counter(map(_kind, nodes)).items():
        report.total(f"{STATE}node.count", number, kind)
    totals: Counter[str] = Counter()
    for node in nodes:
        shown = report.admit("nodes", node.metadata.name)
        tags = (f"node:{node.metadata.name}",)
        for side, what, amount in _amounts(node):
            if what in _TOTALS:
                totals[f"{STATE}node.{what}_{side}.total"] += amount
            if shown:
                report.amount(f"{STATE}node.{what}_{side}", amount, tags)
        if shown:
            _report_one(report, node, tags)
    for name, amount in totals.items():
        report.total(name, plain(amount))


def _report_one(report: Report, node: Node, tags: tuple[str, ...]) -> None:
    for one in node.status.conditions or ():
        report.gauge(f"{STATE}node.by_condition", 1, (*tags, f"condition:{one.type}", f"status:{truth(one.status)}"))
    state = "unschedulable" if node.spec.unschedulable else "schedulable"
    report.gauge(f"{STATE}node.status", 1, (*tags, f"status:{state}"))
    if (age := seconds_since(node.metadata.creation_timestamp, report.now)) is not None:
        report.gauge(f"{STATE}node.age", age, tags)


def _amounts(node: Node) -> Iterator[tuple[str, str, int]]:
    """Side, resource as the metrics name it, and amount in billionths."""
    for side, amounts in (("capacity", node.status.capacity), ("allocatable", node.status.allocatable)):
        for resource, what in _RESOURCES.items():
            if (amount := _of(amounts, resource)) is not None:
                yield side, what, amount
        gpus = [amount for name in _GPUS if (amount := _of(amounts, name)) is not None]
        if gpus:
            yield side, "gpu", sum(gpus)


def _of(amounts: dict[str, str] | None, resource: str) -> int | None:
    text = (amounts or {}).get(resource)
    return None if text is None else billionths(text)


def _kind(node: Node) -> tuple[str, ...]:
    info = node.status.node_info
    return (
        f"kubelet_version:{info.kubelet_version}",
        f"container_runtime_version:{info.container_runtime_version}",
        f"kernel_version:{info.kernel_version}",
        f"os_image:{info.os_image}",
    )


def seconds_since(timestamp: str | None, now: float) -> float | None:
    """Seconds from a metav1.Time to now; None where there is none, or it is no time."""
    then = seconds_of(timestamp)
    return None if then is None else now - then


def seconds_of(timestamp: str | None) -> float | None:
    """A metav1.Time as Unix seconds; None for null, and for what is no time."""
    if not timestamp:
        return None
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return None
