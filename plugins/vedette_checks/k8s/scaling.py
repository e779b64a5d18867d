"""Horizontal pod autoscalers and disruption budgets: how far a workload may grow or shrink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from vedette import Metric
from vedette_checks.k8s.decode import Condition, Meta
from vedette_checks.k8s.names import STATE, gauge, truth
from vedette_checks.k8s.quantities import NANO, billionths
from vedette_checks.k8s.report import Report
from vedette_checks.k8s.workloads import report_counts


class _Name(msgspec.Struct, frozen=True):
    name: str = ""


class _Level(msgspec.Struct, frozen=True, rename="camel"):
    """A target or a current value; values are quantities, mostly in thousandths."""

    average_utilization: int | None = None
    average_value: str | None = None
    value: str | None = None

    def levels(self) -> Iterator[tuple[str, int]]:
        """Kind and amount in billionths of each that is set."""
        if self.average_utilization is not None:
            yield "utilization", self.average_utilization * NANO
        for kind, text in (("average", self.average_value), ("value", self.value)):
            if text is not None and (amount := billionths(text)) is not None:
                yield kind, amount


class _Source(msgspec.Struct, frozen=True):
    name: str = ""
    metric: _Name | None = None
    target: _Level | None = None
    current: _Level | None = None


class _ScaleMetric(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    resource: _Source | None = None
    container_resource: _Source | None = None
    pods: _Source | None = None
    object: _Source | None = None
    external: _Source | None = None

    @property
    def source(self) -> _Source | None:
        """The one that is set."""
        return self.resource or self.container_resource or self.pods or self.object or self.external


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    scale_target_ref: _Name = _Name()
    min_replicas: int | None = None
    max_replicas: int = 0
    metrics: tuple[_ScaleMetric, ...] | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    current_replicas: int = 0
    desired_replicas: int = 0
    current_metrics: tuple[_ScaleMetric, ...] | None = None
    conditions: tuple[Condition, ...] | None = None


class Autoscaler(msgspec.Struct, frozen=True):
    """What of a HorizontalPodAutoscaler is used."""

    metadata: Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _BudgetStatus(msgspec.Struct, frozen=True, rename="camel"):
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0


class DisruptionBudget(msgspec.Struct, frozen=True):
    """What of a PodDisruptionBudget is used."""

    metadata: Meta
    status: _BudgetStatus = _BudgetStatus()


_HPA = ("kube_namespace", "horizontalpodautoscaler")
_STRATEGY = ("deployment", "hpa", "namespace")
_PDB = ("kube_namespace", "poddisruptionbudget")
_OF_PDB = {"disruptions_allowed": "disruptions_allowed", "pods_desired": "desired_healthy",
           "pods_healthy": "current_healthy", "pods_total": "expected_pods"}  # fmt: skip

METRICS: tuple[Metric, ...] = (
    gauge("k8s.hpa.current_replicas", "Replicas as the autoscaler saw them last.", *_STRATEGY, unit="replica"),
    gauge("k8s.hpa.desired_replicas", "Replicas that it wants.", *_STRATEGY, unit="replica"),
    gauge("k8s.hpa.at_max", "Whether it wants as many as it may, or more: 1 or 0.", *_STRATEGY),
    gauge(f"{STATE}hpa.count", "Autoscalers in the namespace.", "kube_namespace"),
    gauge(f"{STATE}hpa.current_replicas", "Replicas as the autoscaler saw them last.", *_HPA, unit="replica"),
    gauge(f"{STATE}hpa.desired_replicas", "Replicas that it wants.", *_HPA, unit="replica"),
    gauge(f"{STATE}hpa.min_replicas", "Fewest replicas that it may want.", *_HPA, unit="replica"),
    gauge(f"{STATE}hpa.max_replicas", "Most replicas that it may want.", *_HPA, unit="replica"),
    gauge(f"{STATE}hpa.condition", "1 for each condition and the status that it has.", *_HPA, "condition", "status"),
    gauge(f"{STATE}hpa.spec_target_metric", "Targets of its metrics.", *_HPA, "metric_name", "metric_target_type"),
    gauge(f"{STATE}hpa.status_target_metric", "What its metrics are.", *_HPA, "metric_name", "metric_target_type"),
    gauge(f"{STATE}pdb.disruptions_allowed", "Pods that may be evicted now.", *_PDB, unit="pod"),
    gauge(f"{STATE}pdb.pods_desired", "Pods that must stay healthy.", *_PDB, unit="pod"),
    gauge(f"{STATE}pdb.pods_healthy", "Pods that are healthy.", *_PDB, unit="pod"),
    gauge(f"{STATE}pdb.pods_total", "Pods that it counts.", *_PDB, unit="pod"),
)


def report_autoscalers(report: Report, found: Iterable[Autoscaler]) -> None:
    """Report all autoscalers."""
    counts: Counter[str] = Counter()
    for one in found:
        meta, spec, status = one.metadata, one.spec, one.status
        counts[meta.namespace] += 1
        if not report.admit("HorizontalPodAutoscaler", (meta.namespace, meta.name)):
            continue
        tags = (f"deployment:{spec.scale_target_ref.name}", f"hpa:{meta.name}", f"namespace:{meta.namespace}")
        report.gauge("k8s.hpa.current_replicas", status.current_replicas, tags)
        report.gauge("k8s.hpa.desired_replicas", status.desired_replicas, tags)
        report.gauge("k8s.hpa.at_max", int(status.desired_replicas >= spec.max_replicas), tags)
        _report_as_datadog(report, one)
    report_counts(report, f"{STATE}hpa.count", counts)


def _report_as_datadog(report: Report, one: Autoscaler) -> None:
    meta, spec, status = one.metadata, one.spec, one.status
    tags = (f"kube_namespace:{meta.namespace}", f"horizontalpodautoscaler:{meta.name}")
    report.gauge(f"{STATE}hpa.current_replicas", status.current_replicas, tags)
    report.gauge(f"{STATE}hpa.desired_replicas", status.desired_replicas, tags)
    report.gauge(f"{STATE}hpa.min_replicas", 1 if spec.min_replicas is None else spec.min_replicas, tags)
    report.gauge(f"{STATE}hpa.max_replicas", spec.max_replicas, tags)
    for condition in status.conditions or ():
        more = (f"condition:{condition.type}", f"status:{truth(condition.status)}")
        report.gauge(f"{STATE}hpa.condition", 1, (*tags, *more))
    for name, metrics, side in (
        ("spec_target_metric", spec.metrics, "target"),
        ("status_target_metric", status.current_metrics, "current"),
    ):
        levels: dict[tuple[str, ...], int] = {}
        for source in filter(None, (metric.source for metric in metrics or ())):
            called = source.metric.name if source.metric is not None else source.name
            for kind, amount in (getattr(source, side) or _Level()).levels():
                levels[f"metric_name:{called}", f"metric_target_type:{kind}"] = amount
        for series, amount in levels.items():
            report.amount(f"{STATE}hpa.{name}", amount, (*tags, *series))


def report_budgets(report: Report, found: Iterable[DisruptionBudget]) -> None:
    """Report all disruption budgets."""
    for one in found:
        meta = one.metadata
        if report.admit("PodDisruptionBudget", (meta.namespace, meta.name)):
            tags = (f"kube_namespace:{meta.namespace}", f"poddisruptionbudget:{meta.name}")
            for name, field in _OF_PDB.items():
                report.gauge(f"{STATE}pdb.{name}", getattr(one.status, field), tags)
