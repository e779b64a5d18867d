"""Volume claims and resource quotas: what namespaces ask for, and what they may have."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from vedette import Metric
from vedette_checks.k8s.decode import Meta
from vedette_checks.k8s.names import STATE, gauge
from vedette_checks.k8s.quantities import billionths
from vedette_checks.k8s.report import Report


class _Requests(msgspec.Struct, frozen=True):
    requests: dict[str, str] | None = None


class _ClaimSpec(msgspec.Struct, frozen=True, rename="camel"):
    access_modes: tuple[str, ...] | None = None
    resources: _Requests | None = None
    storage_class_name: str | None = None


class _ClaimStatus(msgspec.Struct, frozen=True):
    phase: str = ""
    capacity: dict[str, str] | None = None


class Claim(msgspec.Struct, frozen=True):
    """What of a PersistentVolumeClaim is used."""

    metadata: Meta
    spec: _ClaimSpec = _ClaimSpec()
    status: _ClaimStatus = _ClaimStatus()


class _QuotaStatus(msgspec.Struct, frozen=True):
    hard: dict[str, str] | None = None
    used: dict[str, str] | None = None


class Quota(msgspec.Struct, frozen=True):
    """What of a ResourceQuota is used."""

    metadata: Meta
    status: _QuotaStatus = _QuotaStatus()


_PVC = ("kube_namespace", "persistentvolumeclaim", "storageclass")
_QUOTA = ("kube_namespace", "resourcequota")
_OWN_NAMES = {
    "pods": "pods",
    "requests.cpu": "requests.cpu",
    "cpu": "requests.cpu",
    "count/configmaps": "count_configmaps",
    "configmaps": "count_configmaps",
    "count/secrets": "count_secrets",
    "secrets": "count_secrets",
}
"""Resources of quotas that Datadog has metrics of their own for; `cpu` is another word for `requests.cpu`."""

METRICS: tuple[Metric, ...] = (
    gauge(f"{STATE}persistentvolumeclaim.status", "1 for each claim, by its phase.", *_PVC, "phase"),
    gauge(f"{STATE}persistentvolumeclaim.request_storage", "Storage that it asks for.", *_PVC, unit="byte"),
    gauge(f"{STATE}persistentvolumeclaim.access_mode", "1 for each of its access modes.", *_PVC, "access_mode"),
    gauge("k8s.persistentvolumeclaim.capacity", "Storage that it has.", *_PVC, unit="byte"),
    *(gauge(f"{STATE}resourcequota.{name}.{side}", f"{what} of the quota.", *_QUOTA)
      for name in dict.fromkeys(_OWN_NAMES.values()) for side, what in (("limit", "Limit"), ("used", "Use"))),
    gauge("k8s.resourcequota.limit", "Limit of any resource of a quota.", *_QUOTA, "resource"),
    gauge("k8s.resourcequota.used", "Use of any resource of a quota.", *_QUOTA, "resource"),
)  # fmt: skip


def report_claims(report: Report, found: Iterable[Claim]) -> None:
    """Report all volume claims."""
    for one in found:
        meta = one.metadata
        if not report.admit("PersistentVolumeClaim", (meta.namespace, meta.name)):
            continue
        tags = (
            f"kube_namespace:{meta.namespace}",
            f"persistentvolumeclaim:{meta.name}",
            f"storageclass:{one.spec.storage_class_name or 'none'}",
        )
        report.gauge(f"{STATE}persistentvolumeclaim.status", 1, (*tags, f"phase:{one.status.phase.lower()}"))
        for mode in one.spec.access_modes or ():
            report.gauge(f"{STATE}persistentvolumeclaim.access_mode", 1, (*tags, f"access_mode:{mode.lower()}"))
        asked = one.spec.resources.requests if one.spec.resources is not None else None
        report.amount(f"{STATE}persistentvolumeclaim.request_storage", _storage(asked), tags)
        report.amount("k8s.persistentvolumeclaim.capacity", _storage(one.status.capacity), tags)


def _storage(amounts: dict[str, str] | None) -> int | None:
    text = (amounts or {}).get("storage")
    return None if text is None else billionths(text)


def report_quotas(report: Report, found: Iterable[Quota]) -> None:
    """Report all quotas."""
    for one in found:
        meta = one.metadata
        if not report.admit("ResourceQuota", (meta.namespace, meta.name)):
            continue
        tags = (f"kube_namespace:{meta.namespace}", f"resourcequota:{meta.name}")
        for side, amounts in (("limit", one.status.hard), ("used", one.status.used)):
            for resource, text in (amounts or {}).items():
                amount = billionths(text)
                report.amount(f"k8s.resourcequota.{side}", amount, (*tags, f"resource:{resource}"))
                if name := _OWN_NAMES.get(resource):
                    report.amount(f"{STATE}resourcequota.{name}.{side}", amount, tags)
