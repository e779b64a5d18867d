"""Pods: what each adds to the sums of its workload and of its node, and how often its containers restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from vedette import Kind, Metric
from vedette_checks.k8s.ledger import Group, Key, Ledger, Parts
from vedette_checks.k8s.names import OTHER, STATE, gauge, reason, truth, workload_of
from vedette_checks.k8s.podmodel import ContainerStatus, Pod, State, reserved, total
from vedette_checks.k8s.table import Table


class Row(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a pod: shared tuples, since pods of one workload are mostly alike.

    Attributes:
        group: its workload.
        phase: its phase.
        parts: what it adds to the workload's sums.
        node: the group of its node; empty names before it is scheduled.
        on_node: what it adds to the node's sums.
        restarts: of its containers so far.
        init_restarts: of its init containers so far.
    """

    group: Group
    phase: str
    parts: Parts
    node: Group
    on_node: Parts
    restarts: int
    init_restarts: int


PHASES = ("Running", "Pending", "Failed")
"""What the strategy counts, and every workload reports even when there are none."""

_TAGS = ("kube_namespace", "workload")
_COUNT = Key(f"{STATE}pod.count")
_PHASE = {phase: Key(f"{STATE}pod.status_phase", (f"pod_phase:{phase.lower()}",)) for phase in
          (*PHASES, "Succeeded", "Unknown")}  # fmt: skip
_READY, _SCHEDULED = ({value: Key(f"{STATE}pod.{what}", (f"condition:{value}",)) for value in
                       ("true", "false", "unknown")} for what in ("ready", "scheduled"))  # fmt: skip
_UNSCHEDULABLE = Key(f"{STATE}pod.unschedulable")
_TERMINATING = Key("k8s.pods.terminating")
_OF_STATE = {what: Key(f"{STATE}container.{what}") for what in ("ready", "running", "waiting", "terminated")}
_RESTARTS, _INIT_RESTARTS = Key(f"{STATE}container.restarts"), Key(f"{STATE}initcontainer.restarts")
_INIT_WAITING = Key(f"{STATE}initcontainer.waiting")
_ASKED = [
    (side, part, Key(f"{STATE}container.{part}_{'requested' if side == 'requests' else 'limit'}.total", nano=True))
    for part in ("cpu", "memory")
    for side in ("requests", "limits")
]
_NODE_PODS = Key("k8s.node.pods")
_NODE_CPU, _NODE_MEMORY = Key("k8s.node.cpu_requested", nano=True), Key("k8s.node.memory_requested", nano=True)
_DONE = ("Succeeded", "Failed")

BASE: Parts = tuple((key, 0) for key in (*(_PHASE[phase] for phase in PHASES), _READY["true"], _READY["false"]))
"""What a workload reports even where it is 0."""

STRATEGY = {"Running": "k8s.pods.running", "Pending": "k8s.pods.pending", "Failed": "k8s.pods.failed"}

RESTARTED, INIT_RESTARTED = "k8s.containers.restarted", "k8s.initcontainers.restarted"

METRICS: tuple[Metric, ...] = (
    gauge("k8s.pods.running", "Pods in phase Running; a crash-looping pod is among them.", unit="pod"),
    gauge("k8s.pods.pending", "Pods in phase Pending.", unit="pod"),
    gauge("k8s.pods.failed", "Pods in phase Failed, evicted ones among them.", unit="pod"),
    gauge(_COUNT.metric, "Pods of the workload.", *_TAGS, unit="pod"),
    gauge(f"{STATE}pod.status_phase", "Pods by phase.", *_TAGS, "pod_phase", unit="pod"),
    gauge(f"{STATE}pod.ready", "Pods by their condition Ready.", *_TAGS, "condition", unit="pod"),
    gauge(f"{STATE}pod.scheduled", "Pods by their condition PodScheduled.", *_TAGS, "condition", unit="pod"),
    gauge(_UNSCHEDULABLE.metric, "Pods that no node takes.", *_TAGS, unit="pod"),
    gauge(_TERMINATING.metric, "Pods that are being deleted; their phase stays.", *_TAGS, unit="pod"),
    gauge("k8s.pods.reason", "Pods by the reason of their status, such as evicted.", *_TAGS, "reason", unit="pod"),
    gauge(_OF_STATE["ready"].metric, "Containers that are ready.", *_TAGS, unit="container"),
    gauge(_OF_STATE["running"].metric, "Containers that run.", *_TAGS, unit="container"),
    gauge(_OF_STATE["waiting"].metric, "Containers that wait.", *_TAGS, unit="container"),
    gauge(_OF_STATE["terminated"].metric, "Containers that have ended.", *_TAGS, unit="container"),
    gauge(f"{STATE}container.status_report.count.waiting", "Containers that wait, by reason.", *_TAGS, "reason",
          unit="container"),
    gauge(f"{STATE}container.status_report.count.terminated", "Containers that have ended, by reason.", *_TAGS,
          "reason", unit="container"),
    gauge("k8s.containers.last_terminated", "Containers by why they ended the last time, before they were restarted.",
          *_TAGS, "reason", unit="container"),
    gauge(_RESTARTS.metric, "Restarts so far of the containers that there are.", *_TAGS),
    gauge(_INIT_RESTARTS.metric, "Restarts so far of the init containers that there are.", *_TAGS),
    gauge(_INIT_WAITING.metric, "Init containers that wait.", *_TAGS, unit="container"),
    Metric(RESTARTED, Kind.COUNT, "", "Restarts of containers since the last run, by pod UID.", _TAGS),
    Metric(INIT_RESTARTED, Kind.COUNT, "", "Restarts of init containers since the last run.", _TAGS),
    *(gauge(key.metric, f"What containers have as {side}, {part}; of pods that have not ended.", *_TAGS,
            unit="core" if part == "cpu" else "byte") for side, part, key in _ASKED),
    gauge(_NODE_PODS.metric, "Pods on the node that have not ended.", "node", unit="pod"),
    gauge(_NODE_CPU.metric, "CPU that they request, as the scheduler counts it.", "node", unit="core"),
    gauge(_NODE_MEMORY.metric, "Memory that they request, as the scheduler counts it.", "node", unit="byte"),
)  # fmt: skip

_MOST_SHARED = 10_000
_MOST_COUNTED = 10_000
_MOST_ALIKE = 2_000
_MOST_REASONS = 100


class PodTable(Table[Pod, Row]):
    """The pods of one watch, and their sums."""

    def __init__(self) -> None:
        super().__init__(Pod)
        self.workloads = Ledger()
        self.nodes = Ledger()
        self.phases: Counter[str] = Counter()
        self.restarted: Counter[Group] = Counter()
        self.init_restarted: Counter[Group] = Counter()
        self._first = True
        self._counted: dict[str, tuple[int, int]] = {}
        """Restarts by UID of pods that went, or that a list showed as they once were: none of them counts again."""
        self._shared: dict[object, object] = {}
        self._alike: dict[object, tuple[str, Parts, Parts, int, int]] = {}
        self._reasons: dict[tuple[str, str], Key] = {}

    def replaced(self, old: dict[str, Row]) -> None:
        """Follow a full list; the first one says what there was before, which is no restart of today."""
        if not self._first or old:
            for uid, row in self.rows.items():
                if (was := old.get(uid)) is not None:
                    self._remember(uid, was, row)
            super().replaced(old)
        else:
            self._add_all()
        self._first = False

    def _add_all(self) -> None:
        """Add up all rows, those that are alike at once."""
        alike: Counter[tuple[Group, int]] = Counter((row.group, id(row.parts)) for row in self.rows.values())
        beside: Counter[tuple[Group, int]] = Counter((row.node, id(row.on_node)) for row in self.rows.values())
        parts = {id(each): each for row in self.rows.values() for each in (row.parts, row.on_node)}
        for (group, which), number in alike.items():
            self.workloads.add(group, parts[which], number)
        for (node, which), number in beside.items():
            if parts[which]:
                self.nodes.add(node, parts[which], number)
        self.phases.update(row.phase for row in self.rows.values())

    def changed(self, uid: str, old: Row | None, new: Row | None) -> None:
        """Keep the sums up to date."""
        if new is not None:
            self._count_restarts(uid, old, new)
        if old is not None and new is not None and _alike(old, new):
            return
        if new is not None:  # first, so that a group does not go and come
            self.workloads.add(new.group, new.parts)
            self.phases[new.phase] += 1
            if new.on_node:
                self.nodes.add(new.node, new.on_node)
        if old is not None:
            if new is None:
                self._remember(uid, old, None)
            self.workloads.take(old.group, old.parts)
            self.phases[old.phase] -= 1
            if old.on_node:
                self.nodes.take(old.node, old.on_node)

    def _count_restarts(self, uid: str, old: Row | None, new: Row) -> None:
        if old is None and self._first:
            return
        was, was_init = self._counted.get(uid, (0, 0))
        if old is not None:
            was, was_init = max(was, old.restarts), max(was_init, old.init_restarts)
        if new.restarts > was:
            self.restarted[new.group] += new.restarts - was
        if new.init_restarts > was_init:
            self.init_restarted[new.group] += new.init_restarts - was_init

    def _remember(self, uid: str, was: Row, now: Row | None) -> None:
        """Keep what was counted of a pod that goes, or seems to go back in time."""
        left, left_init = (0, 0) if now is None else (now.restarts, now.init_restarts)
        if was.restarts <= left and was.init_restarts <= left_init:
            return
        before, before_init = self._counted.pop(uid, (0, 0))
        if len(self._counted) >= _MOST_COUNTED:  # a list is behind by minutes at most: the oldest are past that
            del self._counted[next(iter(self._counted))]
        self._counted[uid] = (max(before, was.restarts), max(before_init, was.init_restarts))

    def digest(self, found: Pod) -> Row:
        """The row of a pod."""
        status, spec, meta = found.status, found.spec, found.metadata
        looks = (status, spec.looks, meta.deletion_timestamp is None)
        made = self._alike.get(looks)
        if made is None:
            if len(self._alike) >= _MOST_ALIKE:
                self._alike.clear()
            made = self._alike[looks] = self._sums(found)
        phase, parts, on_node, restarts, init_restarts = made
        return Row(
            self._share(workload_of(meta)),
            phase,
            parts,
            self._share(("", "", spec.node_name)),
            on_node if spec.node_name else (),
            restarts,
            init_restarts,
        )

    def _sums(self, found: Pod) -> tuple[str, Parts, Parts, int, int]:
        """Phase, parts, parts of the node, and restarts, of all pods that look like this one."""
        status, spec = found.status, found.spec
        restarts = sum(one.restart_count for one in status.container_statuses or ())
        init_restarts = sum(one.restart_count for one in status.init_container_statuses or ())
        sums: dict[Key, int] = dict(BASE)
        for key in self._marks(found):
            sums[key] = sums.get(key, 0) + 1
        sums[_RESTARTS], sums[_INIT_RESTARTS] = restarts, init_restarts
        on_node: Parts = ()
        if status.phase not in _DONE:
            sums.update((key, amount) for side, part, key in _ASKED if (amount := total(spec, side, part)))
            cpu, memory = reserved(spec, "cpu"), reserved(spec, "memory")
            on_node = ((_NODE_PODS, 1), (_NODE_CPU, cpu), (_NODE_MEMORY, memory))
        phase = status.phase if status.phase in _PHASE else "Unknown"
        return phase, self._share(tuple(sums.items())), self._share(on_node), restarts, init_restarts

    def _marks(self, found: Pod) -> Iterator[Key]:
        """The series in which the pod, or one of its containers, counts as one."""
        status = found.status
        conditions = {one.type: one for one in status.conditions or ()}
        yield _COUNT
        yield _PHASE.get(status.phase) or _PHASE["Unknown"]
        ready, scheduled = conditions.get("Ready"), conditions.get("PodScheduled")
        yield _READY[truth(ready.status) if ready is not None else "false"]
        yield _SCHEDULED[truth(scheduled.status) if scheduled is not None else "false"]
        if scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable":
            yield _UNSCHEDULABLE
        if found.metadata.deletion_timestamp is not None:
            yield _TERMINATING
        if status.reason:
            yield self._reason("k8s.pods.reason", status.reason)
        for one in status.container_statuses or ():
            yield from self._container(one)
        for one in status.init_container_statuses or ():
            if one.state is not None and one.state.waiting is not None:
                yield _INIT_WAITING

    def _container(self, one: ContainerStatus) -> Iterator[Key]:
        if one.ready:
            yield _OF_STATE["ready"]
        state, last = one.state or State(), one.last_state or State()
        if state.running is not None:
            yield _OF_STATE["running"]
        if state.waiting is not None:
            yield _OF_STATE["waiting"]
            yield self._reason(f"{STATE}container.status_report.count.waiting", state.waiting.reason)
        if state.terminated is not None:
            yield _OF_STATE["terminated"]
            yield self._reason(f"{STATE}container.status_report.count.terminated", state.terminated.reason)
        if last.terminated is not None:
            yield self._reason("k8s.containers.last_terminated", last.terminated.reason)

    def _reason(self, metric: str, text: str | None) -> Key:
        value = reason(text)
        known = self._reasons.get((metric, value))
        if known is None:
            if len(self._reasons) >= _MOST_REASONS and value != OTHER:  # a runtime that writes sentences
                return self._reason(metric, OTHER)
            known = self._reasons[metric, value] = Key(metric, (f"reason:{value.lower()}",))
        return known

    def _share(self, made: Any) -> Any:
        """The same object for what is equal."""
        shared = self._shared
        if len(shared) > _MOST_SHARED:  # of what is long gone; those in use are kept by their rows
            shared.clear()
        return shared.setdefault(made, made)


def _alike(old: Row, new: Row) -> bool:
    """Whether they add the same to the same sums."""
    return (old.parts, old.on_node, old.group, old.node) == (new.parts, new.on_node, new.group, new.node)
