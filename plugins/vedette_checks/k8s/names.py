"""How metrics are declared and which tags name a workload; the names beyond `k8s.*` are Datadog's."""

from __future__ import annotations

from vedette import Kind, Metric
from vedette.kit import cut_tag
from vedette_checks.k8s.decode import Meta

OTHER = "other"
"""Tag value of what is beyond a limit."""

STATE = "kubernetes_state."
"""What the names of Datadog's Kubernetes State Metrics Core begin with."""

_TAG = {
    "Deployment": "kube_deployment",
    "ReplicaSet": "kube_replica_set",
    "StatefulSet": "kube_stateful_set",
    "DaemonSet": "kube_daemon_set",
    "Job": "kube_job",
    "CronJob": "kube_cronjob",
}
_LONGEST = 100


def gauge(name: str, help_: str, *tags: str, unit: str = "") -> Metric:
    """A gauge's declaration."""
    return Metric(name, Kind.GAUGE, unit, help_, tags)


def workload_tags(namespace: str, kind: str, name: str) -> tuple[str, ...]:
    """The tags of a workload, as Datadog has them; kinds that it has no tag for are `kube_ownerref_*`."""
    space = f"kube_namespace:{namespace}"
    if not kind:
        return (space,)
    if kind in _TAG:
        return (space, f"{_TAG[kind]}:{name}")
    return (space, f"kube_ownerref_kind:{kind.lower()}", f"kube_ownerref_name:{name}")


def workload_of(meta: Meta) -> tuple[str, str, str]:
    """Namespace, kind and name of the workload that an object belongs to; no kind where nobody controls it.

    A ReplicaSet is named after its Deployment and the label `pod-template-hash`, a Job after its CronJob and the
    scheduled minute (kube-controller-manager, "getJobName"), so that neither has to be looked up.
    """
    for owner in meta.owner_references or ():
        if not owner.controller:
            continue
        kind, name = owner.kind, owner.name
        if kind == "ReplicaSet" and meta.labels is not None and meta.labels.hash:
            ending = f"-{meta.labels.hash}"
            if name.endswith(ending):
                return meta.namespace, "Deployment", name[: -len(ending)]
        elif kind == "Job":
            before, _, minute = name.rpartition("-")
            if before and minute.isdecimal() and len(minute) >= 8:
                return meta.namespace, "CronJob", before
        return meta.namespace, kind, name
    return meta.namespace, "", ""


def reason(text: str | None) -> str:
    """A reason as a tag's value: a CamelCase word by the API's conventions, cut if it is not."""
    return cut_tag(text or "unknown", _LONGEST)


def truth(status: str) -> str:
    """A condition's status as a tag's value."""
    return status.lower() if status in ("True", "False") else "unknown"
