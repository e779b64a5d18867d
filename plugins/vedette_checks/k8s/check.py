"""The check itself: watches that go on between the runs, and runs that report what they know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from vedette import Check, CheckError, Diagnosis, Emit, Estimate, Status
from vedette_checks.k8s import claims, jobs, nodes, pods, scaling, usage, workloads
from vedette_checks.k8s.access import Access
from vedette_checks.k8s.client import Client
from vedette_checks.k8s.config import K8sConfig
from vedette_checks.k8s.errors import ApiError
from vedette_checks.k8s.findings import (
    SILENT,
    Finding,
    cut_off,
    of_kubelet,
    of_node,
    of_server,
    of_unreadable,
    of_usage,
    of_watch,
    refused,
)
from vedette_checks.k8s.names import gauge
from vedette_checks.k8s.pace import Manners, Pace
from vedette_checks.k8s.pods import INIT_RESTARTED, RESTARTED, STRATEGY, PodTable
from vedette_checks.k8s.report import CUT, Budgets, Report
from vedette_checks.k8s.resources import RESOURCES, sources
from vedette_checks.k8s.usage import Kubelet, Usage, from_metrics_api
from vedette_checks.k8s.watch import Watch

CERTIFICATE = gauge("k8s.apiserver.certificate_days_left", "Days until the API server's certificate ends.", unit="day")
_DAY = 86_400.0
_FOR_USAGE = 0.4
_FOR_LISTS = 0.85
"""Shares of a run's time."""


class K8s(Check[K8sConfig]):
    """Watches a cluster, or the agent's own node of one."""

    name = "k8s"
    metrics = (
        *pods.METRICS,
        *nodes.METRICS,
        *usage.METRICS,
        *workloads.METRICS,
        *jobs.METRICS,
        *scaling.METRICS,
        *claims.METRICS,
        CERTIFICATE,
        CUT,
    )
    statuses = ("k8s.can_connect", "k8s.watch", "k8s.usage", "k8s.kubelet")
    pace: ClassVar[Pace] = Pace()
    """How patient the watches are."""

    @classmethod
    def lint(cls, config: K8sConfig) -> Iterable[str]:
        """Warns of what nobody checks."""
        kubelet = config.kubelet if config.scope == "node" else None
        if kubelet is not None and not kubelet.verify:
            yield "kubelet.verify is off: whoever answers at the node's address gets the agent's token"
        if kubelet is not None and kubelet.url.startswith("http://"):
            yield "kubelet.url is http: whoever listens on the way gets the agent's token"

    def __init__(self, config: K8sConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._access = Access(config.kubeconfig, config.context)
        self._client = Client(self._access, compression=config.compression)
        self._kubelet = Kubelet(config.kubelet, self._access) if config.own_node and config.kubelet else None
        self._budgets = Budgets(config.limit)
        self._watches: list[Watch] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._told: dict[str, str] = {}

    def _now(self) -> float:
        """Unix seconds; decides ages."""
        return time.time()

    async def open(self) -> None:
        """Log in and begin to watch.

        Raises:
            CheckError: the configuration of the cluster cannot be used.
        """
        await self._access.open()
        manners = Manners(self.pace)
        self._watches = [
            Watch(self._client, source, RESOURCES[source.resource].table(), manners) for source in sources(self.config)
        ]
        self._tasks = [asyncio.create_task(watch.run(), name=watch.source.path) for watch in self._watches]

    async def close(self) -> None:
        """End the watches and drop the connections."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._kubelet is not None:
            await self._kubelet.close()
        await self._access.close()

    async def run(self, emit: Emit) -> None:
        """Report what the watches know, and how much of it is in use.

        Raises:
            CheckError: nothing is known: there is no talking to the server, or it lets the agent see nothing.
        """
        await self._settle(self.config.deadline * _FOR_LISTS)
        findings: dict[str, Finding] = {}
        self._budgets.begin()
        where = (f"node:{self.config.own_node}",) if self.config.own_node else ()
        report = Report(emit, self._budgets, where, self._now())
        fresh = [watch for watch in self._watches if watch.fresh(self.config.stale_after)]
        self._say_watches(emit, fresh, findings)
        found = self._say_server(emit, fresh, findings)
        if self.config.own_node and self._is_nowhere():
            fresh = []
        if fresh:
            await self._report(report, fresh, findings)
        self._log(findings, emit)
        if not fresh:
            raise (found or next(iter(findings.values()))).error()

    async def _settle(self, patience: float) -> None:
        """Wait until each watch has its list, or is known not to get it; a bug in one comes to light here."""
        settled = asyncio.create_task(self._all_settled())
        try:
            await asyncio.wait([settled, *self._tasks], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()
        for task in self._tasks:
            if task.done():
                task.result()

    async def _all_settled(self) -> None:
        for watch in self._watches:
            await watch.settled.wait()

    # What there is to say

    async def _report(self, report: Report, fresh: list[Watch], findings: dict[str, Finding]) -> None:
        for name in self.config.watched:
            tables: list[Any] = [watch.store for watch in fresh if watch.source.resource == name]
            report.whole = not any(table.unreadable for table in tables)
            whole = report.whole and len(tables) == sum(watch.source.resource == name for watch in self._watches)
            if tables and name == "pods":
                self._report_pods(report, tables, whole=whole)
            elif tables and (how := RESOURCES[name].report) is not None:
                how(report, (row for table in tables for row in table.rows.values()))
        known = list(self._rows(fresh, "nodes"))
        if known:
            await self._report_usage(report, fresh, known, findings)
        if (until := self._client.certificate_expires) is not None:
            report.gauge(CERTIFICATE.name, (until - report.now) / _DAY)
        report.gauge(CUT.name, self._budgets.cut)

    def _report_pods(self, report: Report, tables: list[Any], *, whole: bool) -> None:
        those: list[PodTable] = tables
        if whole:  # else a part would pass for all
            for phase, name in STRATEGY.items():
                report.gauge(name, sum(table.phases[phase] for table in those))
        ledgers = [table.workloads for table in those]
        report.sums(ledgers)
        if whole and not self.config.namespaces:
            report.of_nodes(table.nodes for table in those)
        report.counts(RESTARTED, (table.restarted for table in those), ledgers)
        report.counts(INIT_RESTARTED, (table.init_restarted for table in those), ledgers)

    async def _report_usage(
        self, report: Report, fresh: list[Watch], known: list[nodes.Node], findings: dict[str, Finding]
    ) -> None:
        patience, own = self.config.deadline * _FOR_USAGE, self.config.own_node
        found = Usage()
        if self._kubelet is not None:
            try:
                found = await self._kubelet.usage(known[0], patience / 2)
                report.emit.status("k8s.kubelet", Status.OK)
            except (ApiError, CheckError) as error:
                self._note(report.emit, "k8s.kubelet", of_kubelet(error), findings)
        if self.config.usage and not found.nodes:
            try:
                found = await from_metrics_api(self._client, own, patience / 2)
                report.emit.status("k8s.usage", Status.OK)
            except (ApiError, CheckError) as error:
                self._note(report.emit, "k8s.usage", of_usage(error), findings)
        usage.report_usage(report, found, known)
        if own:
            groups = {uid: row.group for table in self._tables(fresh, "pods") for uid, row in table.rows.items()}
            usage.report_pods(report, found, groups, own)

    def _tables(self, watches: list[Watch], resource: str) -> Iterator[Any]:
        return (watch.store for watch in watches if watch.source.resource == resource)

    def _rows(self, watches: list[Watch], resource: str) -> Iterator[Any]:
        return (row for table in self._tables(watches, resource) for row in table.rows.values())

    # What is wrong

    def _say_watches(self, emit: Emit, fresh: list[Watch], findings: dict[str, Finding]) -> None:
        for watch in self._watches:
            source = watch.source
            tags = (
                f"resource:{source.resource}",
                *((f"kube_namespace:{source.namespace}",) if source.namespace else ()),
            )
            found = of_watch(watch, fresh=watch in fresh)
            unreadable = self._unreadable(watch)
            if found is None and unreadable:
                found = of_unreadable(watch, unreadable)
            if found is None and source.resource == "nodes" and self.config.own_node and self._is_nowhere():
                found = of_node(self.config.own_node)
            if found is None:
                emit.status("k8s.watch", Status.OK, tags=tags)
                continue
            findings[source.path] = found
            emit.status("k8s.watch", found.status, str(found), tags)

    def _is_nowhere(self) -> bool:
        """Whether the node that is meant to be the own one is known not to be there."""
        nodes = [watch for watch in self._watches if watch.source.resource == "nodes" and watch.synced]
        return bool(nodes) and not any(self._rows(nodes, "nodes")) and not any(map(self._unreadable, nodes))

    @staticmethod
    def _unreadable(watch: Watch) -> int:
        table: Any = watch.store
        return len(table.unreadable)

    def _say_server(self, emit: Emit, fresh: list[Watch], findings: dict[str, Finding]) -> Finding | None:
        asked = [watch for watch in self._watches if not refused(watch.fault)]
        answered = any(watch.answered for watch in self._watches)
        lost = [
            watch
            for watch in asked
            if cut_off(watch.fault) or (watch.fault is None and not (watch in fresh or (answered and not watch.synced)))
        ]
        if not lost or len(lost) < len(asked):
            emit.status("k8s.can_connect", Status.OK)
            return None
        faults = [watch.fault for watch in lost if watch.fault is not None]
        found = of_server(faults[0]) if faults else SILENT
        for watch in lost:
            findings.pop(watch.source.path, None)  # one sentence is enough
        findings["k8s.can_connect"] = found
        emit.status("k8s.can_connect", found.status, str(found))
        return found

    @staticmethod
    def _note(emit: Emit, status: str, found: Finding, findings: dict[str, Finding]) -> None:
        findings[status] = found
        emit.status(status, found.status, str(found))

    def _log(self, findings: dict[str, Finding], emit: Emit) -> None:
        """Log what is new, each once, but for the worst, which the agent itself logs."""
        worst = emit.worst()
        for place, found in findings.items():
            if self._told.get(place) != found.message and (worst is None or worst.message != str(found)):
                self.log.warning("%s", found)
        for place in self._told.keys() - findings.keys():
            self.log.info("%s: well again", place)
        self._told = {place: found.message for place, found in findings.items()}

    # What it costs, and what it needs

    async def estimate(self) -> Iterable[Estimate]:
        """Objects, watches and requests."""
        from vedette_checks.k8s.costs import estimate

        objects = sum(1 for name in self.config.watched for _ in self._rows(self._watches, name))
        return estimate(
            self.config, self.pace, watches=len(self._watches), objects=objects, requests=self._client.requests
        )

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to the API server, the login, and each right that the runs need."""
        from vedette_checks.k8s.doctor import diagnose

        await diagnose(self.config, diagnosis)
