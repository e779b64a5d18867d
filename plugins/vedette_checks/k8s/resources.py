"""The resources that can be watched: where the API has them, what is kept of them, and how they are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from vedette_checks.k8s.claims import Claim, Quota, report_claims, report_quotas
from vedette_checks.k8s.config import K8sConfig
from vedette_checks.k8s.jobs import CronJob, Job, report_cronjobs, report_jobs
from vedette_checks.k8s.nodes import Node, report_nodes
from vedette_checks.k8s.pace import Source
from vedette_checks.k8s.pods import PodTable
from vedette_checks.k8s.report import Report
from vedette_checks.k8s.scaling import Autoscaler, DisruptionBudget, report_autoscalers, report_budgets
from vedette_checks.k8s.table import Plain, Table
from vedette_checks.k8s.workloads import Workload, report_workloads


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API.

    Attributes:
        name: its plural, as in paths and rules.
        group: API group; empty for the core.
        version: of the group.
        table: makes what keeps its objects.
        report: reports the objects of all tables; None for pods, which are sums.
        namespaced: whether its objects are in namespaces.
    """

    name: str
    group: str
    version: str
    table: Callable[[], Table[Any, Any]]
    report: Callable[[Report, Iterable[Any]], None] | None
    namespaced: bool = True

    def path(self, namespace: str = "") -> str:
        """Path of its list."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.name}" if namespace else f"{root}/{self.name}"


def _workloads(kind: str) -> Callable[[Report, Iterable[Any]], None]:
    return lambda report, found: report_workloads(report, kind, found)


def _plain(model: type[Any]) -> Callable[[], Table[Any, Any]]:
    return partial(Plain, model)


RESOURCES: dict[str, Resource] = {
    one.name: one
    for one in (
        Resource("pods", "", "v1", PodTable, None),
        Resource("nodes", "", "v1", _plain(Node), report_nodes, namespaced=False),
        Resource("deployments", "apps", "v1", _plain(Workload), _workloads("Deployment")),
        Resource("daemonsets", "apps", "v1", _plain(Workload), _workloads("DaemonSet")),
        Resource("statefulsets", "apps", "v1", _plain(Workload), _workloads("StatefulSet")),
        Resource("jobs", "batch", "v1", _plain(Job), report_jobs),
        Resource("cronjobs", "batch", "v1", _plain(CronJob), report_cronjobs),
        Resource("horizontalpodautoscalers", "autoscaling", "v2", _plain(Autoscaler), report_autoscalers),
        Resource("persistentvolumeclaims", "", "v1", _plain(Claim), report_claims),
        Resource("resourcequotas", "", "v1", _plain(Quota), report_quotas),
        Resource("poddisruptionbudgets", "policy", "v1", _plain(DisruptionBudget), report_budgets),
    )
}


def sources(config: K8sConfig) -> Iterator[Source]:
    """What an instance watches: one source for each resource, or for each resource and namespace."""
    node = config.own_node
    for name in config.watched:
        resource = RESOURCES[name]
        query: dict[str, str] = {}
        if node:
            query["fieldSelector"] = f"spec.nodeName={node}" if name == "pods" else f"metadata.name={node}"
        for namespace in (config.namespaces or ("",)) if resource.namespaced else ("",):
            yield Source(name, resource.group, resource.path(namespace), query, namespace)
