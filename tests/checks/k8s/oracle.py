"""The figures of a cluster by other means: plain json over the recorded bodies, decimals, and nothing of the check."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

Series = tuple[str, frozenset[str]]
Object = dict[str, Any]

UNITS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
KINDS = {
    "Deployment": "kube_deployment", "ReplicaSet": "kube_replica_set", "StatefulSet": "kube_stateful_set",
    "DaemonSet": "kube_daemon_set", "Job": "kube_job", "CronJob": "kube_cronjob",
}  # fmt: skip
K = "kubernetes_state."


def amount(text: str) -> Decimal:
    number, unit = re.fullmatch(r"([0-9.]+(?:[eE][0-9]+)?)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]
    return Decimal(number) * UNITS.get(unit, 1)


def seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()


def owner(one: Object) -> tuple[str, ...]:
    """The tags of the workload of a pod."""
    meta = one["metadata"]
    space = f"kube_namespace:{meta['namespace']}"
    for ref in meta.get("ownerReferences", []):
        kind, name = ref["kind"], ref["name"]
        if kind == "ReplicaSet":
            kind, name = "Deployment", name.rsplit("-", 1)[0]
        elif kind == "Job" and re.search(r"-\d{8}$", name):
            kind, name = "CronJob", name[:-9]
        if kind in KINDS:
            return space, f"{KINDS[kind]}:{name}"
        return space, f"kube_ownerref_kind:{kind.lower()}", f"kube_ownerref_name:{name}"
    return (space,)


class Sums:
    """Adds up series."""

    def __init__(self) -> None:
        self.series: dict[Series, Decimal] = defaultdict(Decimal)

    def add(self, name: str, value: Any, *tags: str) -> None:
        self.series[name, frozenset(tags)] += Decimal(value)


def of_pods(pods: list[Object]) -> dict[Series, Decimal]:
    made = Sums()
    for phase in ("Running", "Pending", "Failed"):
        made.add(f"k8s.pods.{phase.lower()}", sum(pod["status"]["phase"] == phase for pod in pods))
    for pod in pods:
        tags, status = owner(pod), pod["status"]
        for zero in ("running", "pending", "failed"):
            made.add(f"{K}pod.status_phase", 0, *tags, f"pod_phase:{zero}")
        for zero in ("true", "false"):
            made.add(f"{K}pod.ready", 0, *tags, f"condition:{zero}")
        made.add(f"{K}pod.count", 1, *tags)
        made.add(f"{K}pod.status_phase", 1, *tags, f"pod_phase:{status['phase'].lower()}")
        by_type = {one["type"]: one for one in status.get("conditions", [])}
        for type_, name in (("Ready", "ready"), ("PodScheduled", "scheduled")):
            made.add(f"{K}pod.{name}", 1, *tags, f"condition:{by_type.get(type_, {}).get('status', 'False').lower()}")
        if by_type.get("PodScheduled", {}).get("reason") == "Unschedulable":
            made.add(f"{K}pod.unschedulable", 1, *tags)
        if "deletionTimestamp" in pod["metadata"]:
            made.add("k8s.pods.terminating", 1, *tags)
        if status.get("reason"):
            made.add("k8s.pods.reason", 1, *tags, f"reason:{status['reason'].lower()}")
        _containers(made, pod, tags)
        _requests(made, pod, tags)
    return made.series


def _containers(made: Sums, pod: Object, tags: tuple[str, ...]) -> None:
    for kind, containers in (
        ("container", pod["status"].get("containerStatuses", [])),
        ("initcontainer", pod["status"].get("initContainerStatuses", [])),
    ):
        made.add(f"k8s.{kind}s.restarted", 0, *tags)
        made.add(f"{K}{kind}.restarts", sum(one["restartCount"] for one in containers), *tags)
        for one in containers:
            states = {name: told or {} for name, told in one["state"].items()}
            if kind == "initcontainer":
                if "waiting" in states:
                    made.add(f"{K}initcontainer.waiting", 1, *tags)
                continue
            for name in states:
                made.add(f"{K}container.{name}", 1, *tags)
            if one["ready"]:
                made.add(f"{K}container.ready", 1, *tags)
            for name in ("waiting", "terminated"):
                if name in states:
                    why = f"reason:{states[name]['reason'].lower()}"
                    made.add(f"{K}container.status_report.count.{name}", 1, *tags, why)
            if "terminated" in one.get("lastState", {}):
                why = f"reason:{one['lastState']['terminated']['reason'].lower()}"
                made.add("k8s.containers.last_terminated", 1, *tags, why)


def _requests(made: Sums, pod: Object, tags: tuple[str, ...]) -> None:
    if pod["status"]["phase"] in ("Succeeded", "Failed"):
        return
    asked: Counter[str] = Counter()
    for part in ("cpu", "memory"):
        for side, word in (("requests", "requested"), ("limits", "limit")):
            found = [
                c["resources"][side][part] for c in pod["spec"]["containers"] if part in c["resources"].get(side, {})
            ]
            if found:
                made.add(f"{K}container.{part}_{word}.total", sum(map(amount, found)), *tags)
                if side == "requests":
                    asked[part] = sum(map(amount, found))  # type: ignore[assignment]
        first = [
            amount(c["resources"]["requests"][part])
            for c in pod["spec"].get("initContainers", [])
            if c.get("restartPolicy") != "Always" and part in c["resources"].get("requests", {})
        ]
        beside = sum(
            amount(c["resources"]["requests"][part])
            for c in pod["spec"].get("initContainers", [])
            if c.get("restartPolicy") == "Always" and part in c["resources"].get("requests", {})
        )
        asked[part] = max([asked[part] + beside, *first])
        whole = pod["spec"].get("resources", {}).get("requests", {})
        if part in whole:  # said of the whole pod
            asked[part] = amount(whole[part])  # type: ignore[assignment]
    if node := pod["spec"].get("nodeName"):
        made.add("k8s.node.pods", 1, f"node:{node}")
        for part in ("cpu", "memory"):
            made.add(f"k8s.node.{part}_requested", asked[part], f"node:{node}")


def ready(node: Object) -> bool:
    return {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"


def of_nodes(nodes: list[Object], now: float) -> dict[Series, Any]:
    made = Sums()
    made.add("k8s.nodes.ready", sum(map(ready, nodes)))
    made.add("k8s.nodes.not_ready", len(nodes) - sum(map(ready, nodes)))
    for node in nodes:
        info, status, tag = node["status"]["nodeInfo"], node["status"], f"node:{node['metadata']['name']}"
        kind = {"kubelet_version": "kubeletVersion", "container_runtime_version": "containerRuntimeVersion",
                "kernel_version": "kernelVersion", "os_image": "osImage"}  # fmt: skip
        made.add(f"{K}node.count", 1, *(f"{key}:{info[field]}" for key, field in kind.items()))
        for one in status["conditions"]:
            made.add(f"{K}node.by_condition", 1, tag, f"condition:{one['type']}", f"status:{one['status'].lower()}")
        cordoned = node["spec"].get("unschedulable", False)
        made.add(f"{K}node.status", 1, tag, f"status:{'unschedulable' if cordoned else 'schedulable'}")
        made.add(f"{K}node.age", now - seconds(node["metadata"]["creationTimestamp"]), tag)
        for side in ("capacity", "allocatable"):
            for resource, name in (("cpu", "cpu"), ("memory", "memory"), ("pods", "pods"),
                                   ("ephemeral-storage", "ephemeral_storage"), ("nvidia.com/gpu", "gpu")):  # fmt: skip
                if resource in status[side]:
                    made.add(f"{K}node.{name}_{side}", amount(status[side][resource]), tag)
                    if name in ("cpu", "memory", "gpu"):
                        made.add(f"{K}node.{name}_{side}.total", amount(status[side][resource]))
    return made.series


def of_usage(nodes: list[Object], metrics: Object) -> dict[Series, Any]:
    used = {one["metadata"]["name"]: one["usage"] for one in metrics["items"]}
    made: dict[Series, Any] = {}
    for name, usage in used.items():
        for part in ("cpu", "memory"):
            made[f"k8s.node.{part}_usage", frozenset([f"node:{name}"])] = amount(usage[part])
    those = [node for node in nodes if ready(node) and node["metadata"]["name"] in used]
    for part in ("cpu", "memory"):
        use = sum(amount(used[node["metadata"]["name"]][part]) for node in those)
        there = sum(amount(node["status"]["allocatable"][part]) for node in those)
        made[f"k8s.{part}.utilization", frozenset()] = use * 100 / there
    return made


WORKLOADS = {
    "deployments": ("Deployment", "deployment", {"replicas": "replicas", "replicas_ready": "readyReplicas",
        "replicas_available": "availableReplicas", "replicas_unavailable": "unavailableReplicas",
        "replicas_updated": "updatedReplicas"}),
    "daemonsets": ("DaemonSet", "daemonset", {"desired": "desiredNumberScheduled",
        "scheduled": "currentNumberScheduled", "ready": "numberReady", "daemons_available": "numberAvailable",
        "daemons_unavailable": "numberUnavailable", "misscheduled": "numberMisscheduled",
        "updated": "updatedNumberScheduled"}),
    "statefulsets": ("StatefulSet", "statefulset", {"replicas": "replicas", "replicas_ready": "readyReplicas",
        "replicas_current": "currentReplicas", "replicas_updated": "updatedReplicas"}),
}  # fmt: skip


def of_workloads(resource: str, found: list[Object]) -> dict[Series, Any]:
    made = Sums()
    kind, word, numbers = WORKLOADS[resource]
    for one in found:
        meta, spec, status = one["metadata"], one["spec"], one["status"]
        tags = (f"kube_namespace:{meta['namespace']}", f"{KINDS[kind]}:{meta['name']}")
        made.add(f"{K}{word}.count", 1, tags[0])
        for name, field in numbers.items():
            made.add(f"{K}{word}.{name}", status.get(field, 0), *tags)
        made.add("k8s.workload.generation_lag", meta["generation"] - status.get("observedGeneration", 0), *tags)
        if "replicas" in spec:
            made.add(f"{K}{word}.replicas_desired", spec["replicas"], *tags)
        if kind != "Deployment":
            continue
        made.add(f"{K}deployment.paused", spec.get("paused", False), *tags)
        for condition in status.get("conditions", []):
            more = (f"condition:{condition['type']}", f"status:{condition['status'].lower()}")
            made.add(f"{K}deployment.condition", 1, *tags, *more)
        rolling = spec["strategy"].get("rollingUpdate", {})
        for field, name, up in (("maxSurge", "max_surge", True), ("maxUnavailable", "max_unavailable", False)):
            if (value := rolling.get(field)) is not None:
                if isinstance(value, str):
                    exact = Decimal(value.rstrip("%")) * spec["replicas"] / 100
                    value = exact.to_integral_value("ROUND_CEILING" if up else "ROUND_FLOOR")
                made.add(f"{K}deployment.rollingupdate.{name}", value, *tags)
    return made.series


def of_jobs(jobs: list[Object], now: float) -> dict[Series, Any]:
    made, newest = Sums(), dict[tuple[str, ...], tuple[float, float]]()
    for job in jobs:
        meta, status = job["metadata"], job["status"]
        space = f"kube_namespace:{meta['namespace']}"
        cron = [ref["name"] for ref in meta.get("ownerReferences", [])]
        tags = (space, f"kube_cronjob:{cron[0]}" if cron else f"kube_job:{meta['name']}")
        made.add(f"{K}job.count", 1, space)
        for name, field in (
            (f"{K}job.succeeded", "succeeded"),
            (f"{K}job.failed", "failed"),
            ("k8s.job.active", "active"),
        ):
            made.add(name, status.get(field, 0), *tags)
        holds = {one["type"] for one in status.get("conditions", []) if one["status"] == "True"}
        made.add(f"{K}job.completion.succeeded", "Complete" in holds, *tags)
        made.add(f"{K}job.completion.failed", "Failed" in holds, *tags)
        if "startTime" in status:
            begun = seconds(status["startTime"])
            ended = seconds(status["completionTime"]) if "completionTime" in status else now
            newest[tags] = max(newest.get(tags, (0.0, 0.0)), (begun, ended - begun))
    for tags, (_, lasted) in newest.items():
        made.add(f"{K}job.duration", lasted, *tags)
    return made.series


def of_cronjobs(found: list[Object], now: float) -> dict[Series, Any]:
    made = Sums()
    for one in found:
        meta, status = one["metadata"], one["status"]
        tags = (f"kube_namespace:{meta['namespace']}", f"kube_cronjob:{meta['name']}")
        made.add(f"{K}cronjob.count", 1, tags[0])
        made.add(f"{K}cronjob.spec_suspend", one["spec"]["suspend"], *tags)
        made.add("k8s.cronjob.active", len(status.get("active", [])), *tags)
        for name, field in ((f"{K}cronjob.duration_since_last_schedule", "lastScheduleTime"),
                            ("k8s.cronjob.duration_since_last_success", "lastSuccessfulTime")):  # fmt: skip
            if status.get(field):
                made.add(name, now - seconds(status[field]), *tags)
    return made.series


def of_autoscalers(found: list[Object]) -> dict[Series, Any]:
    made = Sums()
    for one in found:
        meta, spec, status = one["metadata"], one["spec"], one["status"]
        own = (f"deployment:{spec['scaleTargetRef']['name']}", f"hpa:{meta['name']}", f"namespace:{meta['namespace']}")
        tags = (f"kube_namespace:{meta['namespace']}", f"horizontalpodautoscaler:{meta['name']}")
        made.add(f"{K}hpa.count", 1, tags[0])
        for name in ("current", "desired"):
            made.add(f"k8s.hpa.{name}_replicas", status.get(f"{name}Replicas", 0), *own)
            made.add(f"{K}hpa.{name}_replicas", status.get(f"{name}Replicas", 0), *tags)
        made.add("k8s.hpa.at_max", status.get("desiredReplicas", 0) >= spec["maxReplicas"], *own)
        made.add(f"{K}hpa.min_replicas", spec["minReplicas"], *tags)
        made.add(f"{K}hpa.max_replicas", spec["maxReplicas"], *tags)
        for condition in status.get("conditions", []):
            more = (f"condition:{condition['type']}", f"status:{condition['status'].lower()}")
            made.add(f"{K}hpa.condition", 1, *tags, *more)
        for name, side, metrics in (
            ("spec", "target", spec["metrics"]),
            ("status", "current", status["currentMetrics"]),
        ):
            made.series.update(_levels(f"{K}hpa.{name}_target_metric", side, metrics or [], tags))
    return made.series


def _levels(name: str, side: str, metrics: Iterable[Object], tags: tuple[str, ...]) -> Iterator[tuple[Series, Decimal]]:
    for metric in metrics:
        source = next(value for key, value in metric.items() if key != "type")
        called = source["metric"]["name"] if "metric" in source else source["name"]
        for field, kind in (("averageUtilization", "utilization"), ("averageValue", "average"), ("value", "value")):
            if field in source[side]:
                level = amount(str(source[side][field]))
                yield (name, frozenset([*tags, f"metric_name:{called}", f"metric_target_type:{kind}"])), level


def of_claims(found: list[Object]) -> dict[Series, Any]:
    made = Sums()
    for one in found:
        meta, spec, status = one["metadata"], one["spec"], one["status"]
        tags = (f"kube_namespace:{meta['namespace']}", f"persistentvolumeclaim:{meta['name']}",
                f"storageclass:{spec.get('storageClassName', 'none')}")  # fmt: skip
        made.add(f"{K}persistentvolumeclaim.status", 1, *tags, f"phase:{status['phase'].lower()}")
        for mode in spec["accessModes"]:
            made.add(f"{K}persistentvolumeclaim.access_mode", 1, *tags, f"access_mode:{mode.lower()}")
        made.add(f"{K}persistentvolumeclaim.request_storage", amount(spec["resources"]["requests"]["storage"]), *tags)
        if "capacity" in status:
            made.add("k8s.persistentvolumeclaim.capacity", amount(status["capacity"]["storage"]), *tags)
    return made.series


def of_quotas(found: list[Object]) -> dict[Series, Any]:
    made = Sums()
    for one in found:
        meta = one["metadata"]
        tags = (f"kube_namespace:{meta['namespace']}", f"resourcequota:{meta['name']}")
        for side, word in (("hard", "limit"), ("used", "used")):
            for resource, text in one["status"][side].items():
                made.add(f"k8s.resourcequota.{word}", amount(text), *tags, f"resource:{resource}")
                if resource in ("pods", "requests.cpu"):
                    made.add(f"{K}resourcequota.{resource}.{word}", amount(text), *tags)
    return made.series


def of_budgets(found: list[Object]) -> dict[Series, Any]:
    made = Sums()
    for one in found:
        tags = (f"kube_namespace:{one['metadata']['namespace']}", f"poddisruptionbudget:{one['metadata']['name']}")
        for name, field in (("disruptions_allowed", "disruptionsAllowed"), ("pods_desired", "desiredHealthy"),
                            ("pods_healthy", "currentHealthy"), ("pods_total", "expectedPods")):  # fmt: skip
            made.add(f"{K}pdb.{name}", one["status"].get(field, 0), *tags)
    return made.series


def everything(objects: dict[str, list[Object]], metrics: Object, now: float) -> dict[Series, Any]:
    """All series of a cluster."""
    made: dict[Series, Any] = {("k8s.cut", frozenset()): 0}
    made |= of_pods(objects["pods"]) | of_nodes(objects["nodes"], now) | of_usage(objects["nodes"], metrics)
    for resource in WORKLOADS:
        made |= of_workloads(resource, objects[resource])
    made |= of_jobs(objects["jobs"], now) | of_cronjobs(objects["cronjobs"], now)
    made |= of_autoscalers(objects["horizontalpodautoscalers"]) | of_claims(objects["persistentvolumeclaims"])
    return made | of_quotas(objects["resourcequotas"]) | of_budgets(objects["poddisruptionbudgets"])
