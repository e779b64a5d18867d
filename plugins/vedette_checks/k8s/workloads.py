"""Deployments, daemon sets and stateful sets: how many replicas there should be, and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from vedette import Metric
from vedette_checks.k8s.decode import Condition, Meta
from vedette_checks.k8s.names import STATE, gauge, truth, workload_tags
from vedette_checks.k8s.report import Report


class _Rolling(msgspec.Struct, frozen=True, rename="camel"):
    max_surge: int | str | None = None
    max_unavailable: int | str | None = None


class _Strategy(msgspec.Struct, frozen=True, rename="camel"):
    rolling_update: _Rolling | None = None


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    replicas: int | None = None
    paused: bool = False
    strategy: _Strategy | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    """Numbers that are 0 are left out by the server; a new object's status is `{}`."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] | None = None
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    updated_replicas: int = 0
    current_replicas: int = 0
    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    number_misscheduled: int = 0
    updated_number_scheduled: int = 0


class Workload(msgspec.Struct, frozen=True):
    """What of a Deployment, DaemonSet or StatefulSet is used."""

    metadata: Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


_NUMBERS = {
    "Deployment": {
        "replicas": "replicas",
        "replicas_ready": "ready_replicas",
        "replicas_available": "available_replicas",
        "replicas_unavailable": "unavailable_replicas",
        "replicas_updated": "updated_replicas",
    },
    "DaemonSet": {
        "desired": "desired_number_scheduled",
        "scheduled": "current_number_scheduled",
        "ready": "number_ready",
        "daemons_available": "number_available",
        "daemons_unavailable": "number_unavailable",
        "misscheduled": "number_misscheduled",
        "updated": "updated_number_scheduled",
    },
    "StatefulSet": {
        "replicas": "replicas",
        "replicas_ready": "ready_replicas",
        "replicas_current": "current_replicas",
        "replicas_updated": "updated_replicas",
    },
}
_TAG = {"Deployment": "kube_deployment", "DaemonSet": "kube_daemon_set", "StatefulSet": "kube_stateful_set"}
LAG = "k8s.workload.generation_lag"

METRICS: tuple[Metric, ...] = (
    *(gauge(f"{STATE}{kind.lower()}.{name}", f"`status.{_camel}` of the {kind}.", "kube_namespace", _TAG[kind],
            unit="replica" if kind != "DaemonSet" else "pod")
      for kind, numbers in _NUMBERS.items()
      for name, field in numbers.items()
      for _camel in (field.split("_")[0] + "".join(word.capitalize() for word in field.split("_")[1:]),)),
    *(gauge(f"{STATE}{kind.lower()}.count", f"{kind}s in the namespace.", "kube_namespace") for kind in _NUMBERS),
    gauge(f"{STATE}deployment.replicas_desired", "`spec.replicas` of the Deployment.", "kube_namespace",
          "kube_deployment", unit="replica"),
    gauge(f"{STATE}statefulset.replicas_desired", "`spec.replicas` of the StatefulSet.", "kube_namespace",
          "kube_stateful_set", unit="replica"),
    gauge(f"{STATE}deployment.paused", "Whether its rollout is paused: 1 or 0.", "kube_namespace", "kube_deployment"),
    gauge(f"{STATE}deployment.condition", "1 for each condition and the status that it has.", "kube_namespace",
          "kube_deployment", "condition", "status"),
    gauge(f"{STATE}deployment.rollingupdate.max_surge", "Replicas that a rollout may add.", "kube_namespace",
          "kube_deployment", unit="replica"),
    gauge(f"{STATE}deployment.rollingupdate.max_unavailable", "Replicas that a rollout may do without.",
          "kube_namespace", "kube_deployment", unit="replica"),
    gauge(LAG, "Changes of the object that its controller has not seen yet.", "kube_namespace",
          "kube_deployment, kube_daemon_set or kube_stateful_set"),
)  # fmt: skip


def report_workloads(report: Report, kind: str, found: Iterable[Workload]) -> None:
    """Report all objects of a kind: Deployment, DaemonSet or StatefulSet."""
    counts: Counter[str] = Counter()
    prefix, numbers = f"{STATE}{kind.lower()}.", _NUMBERS[kind]
    for one in found:
        meta, status = one.metadata, one.status
        counts[meta.namespace] += 1
        if not report.admit(kind, (meta.namespace, meta.name)):
            continue
        tags = workload_tags(meta.namespace, kind, meta.name)
        for name, field in numbers.items():
            report.gauge(prefix + name, getattr(status, field), tags)
        report.gauge(LAG, max(meta.generation - status.observed_generation, 0), tags)
        if kind != "DaemonSet":
            report.gauge(f"{prefix}replicas_desired", 1 if one.spec.replicas is None else one.spec.replicas, tags)
        if kind == "Deployment":
            _report_rollout(report, one, tags)
    report_counts(report, f"{prefix}count", counts)


def report_counts(report: Report, name: str, counts: Counter[str]) -> None:
    """How many objects of a kind each namespace has."""
    for namespace, number in counts.items():
        if report.admit("namespaces", namespace):
            report.total(name, number, (f"kube_namespace:{namespace}",))


def _report_rollout(report: Report, one: Workload, tags: tuple[str, ...]) -> None:
    spec = one.spec
    report.gauge(f"{STATE}deployment.paused", int(spec.paused), tags)
    for condition in one.status.conditions or ():
        more = (f"condition:{condition.type}", f"status:{truth(condition.status)}")
        report.gauge(f"{STATE}deployment.condition", 1, (*tags, *more))
    rolling = spec.strategy.rolling_update if spec.strategy is not None else None
    if rolling is None:
        return
    replicas = 1 if spec.replicas is None else spec.replicas
    for name, value, up in (
        ("max_surge", rolling.max_surge, True),
        ("max_unavailable", rolling.max_unavailable, False),
    ):
        if (number := share(value, replicas, up=up)) is not None:
            report.gauge(f"{STATE}deployment.rollingupdate.{name}", number, tags)


def share(value: int | str | None, whole: int, *, up: bool) -> int | None:
    """An IntOrString: a number, or a percentage of `whole`, rounded up or down."""
    if value is None or isinstance(value, int):
        return value
    text = value.removesuffix("%")
    if not value.endswith("%") or not text.isdecimal():
        return None
    hundredths = int(text) * whole
    return -(-hundredths // 100) if up else hundredths // 100
