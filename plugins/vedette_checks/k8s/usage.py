"""How much CPU and memory is in use: metrics.k8s.io for all nodes, the kubelet for one's own node and its pods."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import aiohttp
import msgspec

from vedette import Metric
from vedette.kit import ssl_context
from vedette_checks.k8s.access import Access
from vedette_checks.k8s.client import FAILURES, Client, with_new_login
from vedette_checks.k8s.config import KubeletConfig
from vedette_checks.k8s.decode import Meta
from vedette_checks.k8s.errors import ApiError, Fault, broken, refusal
from vedette_checks.k8s.ledger import Group
from vedette_checks.k8s.names import gauge
from vedette_checks.k8s.nodes import Node
from vedette_checks.k8s.quantities import NANO, billionths
from vedette_checks.k8s.report import Report

METRICS_PATH = "/apis/metrics.k8s.io/v1beta1/nodes"
SUMMARY_PATH = "/stats/summary"
_PORT = 10250
_MOST = 16 << 20

METRICS: tuple[Metric, ...] = (
    gauge("k8s.cpu.utilization", "CPU in use on Ready nodes, of what pods may have there.", unit="percent"),
    gauge("k8s.memory.utilization", "Memory in use on Ready nodes, of what pods may have there.", unit="percent"),
    gauge("k8s.node.cpu_usage", "CPU in use on the node.", "node", unit="core"),
    gauge("k8s.node.memory_usage", "Memory in use on the node (working set).", "node", unit="byte"),
    gauge("k8s.node.filesystem_used", "Used on the kubelet's filesystem (`scope: node`).", "node", unit="byte"),
    gauge("k8s.node.filesystem_capacity", "Size of that filesystem.", "node", unit="byte"),
    gauge("k8s.pod.cpu_usage", "CPU in use by the workload's pods on the node (`scope: node`).", "kube_namespace",
          "workload", unit="core"),
    gauge("k8s.pod.memory_usage", "Memory in use by them (working set).", "kube_namespace", "workload", unit="byte"),
)  # fmt: skip


@dataclass(slots=True)
class Usage:
    """What is in use.

    Attributes:
        nodes: CPU and memory in billionths of cores and bytes, by node.
        pods: the same by UID of a pod; from a kubelet only.
        filesystem: used and size in bytes; from a kubelet only.
    """

    nodes: dict[str, tuple[int, int]] = field(default_factory=dict)
    pods: dict[str, tuple[int, int]] = field(default_factory=dict)
    filesystem: tuple[int, int] | None = None


class _Amounts(msgspec.Struct):
    cpu: str = ""
    memory: str = ""


class _NodeMetrics(msgspec.Struct):
    metadata: Meta
    usage: _Amounts = msgspec.field(default_factory=_Amounts)


class _NodeMetricsList(msgspec.Struct):
    items: list[_NodeMetrics] | None = None


_LIST = msgspec.json.Decoder(_NodeMetricsList)
_ONE = msgspec.json.Decoder(_NodeMetrics)


async def from_metrics_api(client: Client, node: str, patience: float) -> Usage:
    """Ask metrics.k8s.io (k8s.io/metrics, v1beta1 `NodeMetrics`) about all nodes, or one.

    Raises:
        ApiError: it is not there, refuses or does not answer. CheckError: the configuration cannot be used.
    """
    body = await client.get(f"{METRICS_PATH}/{node}" if node else METRICS_PATH, patience=patience)
    try:
        found = [_ONE.decode(body)] if node else _LIST.decode(body).items or []
    except msgspec.MsgspecError:
        raise ApiError(Fault.INVALID, "metrics.k8s.io answers what is no NodeMetrics") from None
    made = Usage()
    for one in found:
        cpu, memory = billionths(one.usage.cpu), billionths(one.usage.memory)
        if cpu is not None and memory is not None:
            made.nodes[one.metadata.name] = (cpu, memory)
    return made


class _Cpu(msgspec.Struct, rename="camel"):
    usage_nano_cores: int | None = None


class _Memory(msgspec.Struct, rename="camel"):
    working_set_bytes: int | None = None


class _Filesystem(msgspec.Struct, rename="camel"):
    used_bytes: int | None = None
    capacity_bytes: int | None = None


class _NodeStats(msgspec.Struct, rename="camel"):
    node_name: str = ""
    cpu: _Cpu | None = None
    memory: _Memory | None = None
    fs: _Filesystem | None = None


class _PodRef(msgspec.Struct):
    uid: str = ""


class _PodStats(msgspec.Struct, rename="camel"):
    pod_ref: _PodRef
    cpu: _Cpu | None = None
    memory: _Memory | None = None


class _Summary(msgspec.Struct):
    node: _NodeStats
    pods: list[_PodStats] | None = None


_SUMMARY = msgspec.json.Decoder(_Summary)


class Kubelet:
    """The kubelet of one node, asked directly: its right `nodes/stats` is less than a proxy through the API server.

    Args:
        config: how to reach it.
        access: who the agent is.
    """

    def __init__(self, config: KubeletConfig, access: Access) -> None:
        self._config = config
        self._access = access
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None

    async def usage(self, node: Node, patience: float) -> Usage:
        """What `/stats/summary` says (k8s.io/kubelet, stats/v1alpha1 `Summary`).

        Raises:
            ApiError: no answer, or a refusal. CheckError: the configuration of the cluster cannot be used any more.
        """
        url = (self._config.url or f"https://{_in_url(node.address)}:{_PORT}") + SUMMARY_PATH

        async def once(patience: float) -> bytes:
            return await self._ask(url, patience)

        body = await with_new_login(self._access, once, patience)
        try:
            return _of_summary(_SUMMARY.decode(body), node.metadata.name)
        except msgspec.MsgspecError:
            raise ApiError(Fault.INVALID, "the kubelet answers what is no Summary") from None

    async def _ask(self, url: str, patience: float) -> bytes:
        try:
            head = await self._access.authorization()
            session = await self._connected()
            async with session.get(url, headers=head, timeout=aiohttp.ClientTimeout(total=patience)) as answer:
                body = bytearray()
                async for part in answer.content.iter_any():
                    body += part
                    if len(body) > _MOST:
                        raise ApiError(Fault.INVALID, f"the kubelet answers more than {_MOST >> 20} MB")
                if answer.status >= 400:
                    raise refusal(answer.status, bytes(body), answer.headers)
                return bytes(body)
        except FAILURES as error:
            raise broken(error) from None

    async def _connected(self) -> aiohttp.ClientSession:
        """The session, a new one where the authorities that it trusts were changed."""
        config = self._config
        context = ssl_context(
            ca_file=config.ca_file or self._access.authority, verify=config.verify, check_hostname=config.verify
        )
        if self._session is None or context is not self._context:
            await self.close()
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1, ssl=context))
            self._context = context
        return self._session

    async def close(self) -> None:
        """Drop the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _of_summary(summary: _Summary, name: str) -> Usage:
    made = Usage()
    if (use := _use(summary.node.cpu, summary.node.memory)) is not None:
        made.nodes[name] = use
    for pod in summary.pods or ():
        if (use := _use(pod.cpu, pod.memory)) is not None:
            made.pods[pod.pod_ref.uid] = use
    disk = summary.node.fs
    if disk is not None and disk.used_bytes is not None and disk.capacity_bytes is not None:
        made.filesystem = (disk.used_bytes, disk.capacity_bytes)
    return made


def _use(cpu: _Cpu | None, memory: _Memory | None) -> tuple[int, int] | None:
    if cpu is None or memory is None or cpu.usage_nano_cores is None or memory.working_set_bytes is None:
        return None
    return cpu.usage_nano_cores, memory.working_set_bytes * NANO


def report_usage(report: Report, usage: Usage, nodes: Iterable[Node]) -> None:
    """Report what nodes use, and the share of it: use of Ready nodes of what is allocatable on those, in percent.

    A Ready node of which nothing is known yet, since it has just come, counts on neither side.
    """
    used, there = [0, 0], [0, 0]
    for node in nodes:
        use = usage.nodes.get(node.metadata.name)
        if use is None:
            continue
        if report.admit("nodes", node.metadata.name):
            tags = (f"node:{node.metadata.name}",)
            report.amount("k8s.node.cpu_usage", use[0], tags)
            report.amount("k8s.node.memory_usage", use[1], tags)
        if node.ready:
            for place, resource in enumerate(("cpu", "memory")):
                used[place] += use[place]
                there[place] += node.allocatable(resource) or 0
    for place, resource in enumerate(("cpu", "memory")):
        if there[place]:
            report.gauge(f"k8s.{resource}.utilization", used[place] * 100 / there[place])


def report_pods(report: Report, usage: Usage, groups: dict[str, Group], node: str) -> None:
    """Report what pods use, added up by workload, and the kubelet's filesystem.

    Args:
        report: where to.
        usage: from a kubelet.
        groups: the workload of each pod, by UID.
        node: the node's name.
    """
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for uid, (cpu, memory) in usage.pods.items():
        if (group := groups.get(uid)) is not None:
            sums.setdefault(report.workload(group), Counter()).update(cpu=cpu, memory=memory)
    for tags, sum_ in sums.items():
        report.amount("k8s.pod.cpu_usage", sum_["cpu"], tags)
        report.amount("k8s.pod.memory_usage", sum_["memory"], tags)
    if usage.filesystem is not None:
        tags = (f"node:{node}",)
        report.gauge("k8s.node.filesystem_used", usage.filesystem[0], tags)
        report.gauge("k8s.node.filesystem_capacity", usage.filesystem[1], tags)
