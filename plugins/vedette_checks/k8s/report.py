"""One run's samples: tags of the scope, and a budget for what may have series of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vedette import Emit
from vedette.kit import Budget
from vedette_checks.k8s.ledger import Group, Key, Ledger
from vedette_checks.k8s.names import OTHER, gauge, workload_tags
from vedette_checks.k8s.quantities import plain

CUT = gauge("k8s.cut", "Workloads, nodes, autoscalers, … beyond `limit`, in all.", unit="item")


class Budgets:
    """A budget for each kind of thing that is reported one by one.

    Args:
        limit: most of each kind.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kinds: dict[str, Budget] = {}

    def begin(self) -> None:
        """Begin a run."""
        for budget in self._kinds.values():
            budget.begin()

    def admit(self, kind: str, key: object) -> bool:
        """Whether this one may have series of its own."""
        budget = self._kinds.get(kind)
        if budget is None:
            budget = self._kinds[kind] = Budget(self._limit)
        return budget.admit(key)

    @property
    def cut(self) -> int:
        """How many may not, in all."""
        return sum(budget.cut for budget in self._kinds.values())


class Report:
    """Where the parts of a run put what they have to say.

    Args:
        emit: where to.
        budgets: of the instance.
        tags: tags of every sample.
        now: Unix seconds.
    """

    def __init__(self, emit: Emit, budgets: Budgets, tags: tuple[str, ...], now: float) -> None:
        self.emit = emit
        self.now = now
        self.whole = True
        """Whether all objects of the resource that is being reported are known."""
        self._budgets = budgets
        self._tags = tags

    def gauge(self, name: str, value: float, tags: tuple[str, ...] = ()) -> None:
        """A gauge."""
        self.emit.gauge(name, value, (*tags, *self._tags))

    def total(self, name: str, value: float, tags: tuple[str, ...] = ()) -> None:
        """A gauge that says how many there are in all; nothing where a part would pass for it."""
        if self.whole:
            self.gauge(name, value, tags)

    def amount(self, name: str, amount: int | None, tags: tuple[str, ...] = ()) -> None:
        """A gauge given in billionths; None says nothing."""
        if amount is not None:
            self.gauge(name, plain(amount), tags)

    def admit(self, kind: str, key: object) -> bool:
        """Whether this one of its kind may have series of its own."""
        return self._budgets.admit(kind, key)

    def workload(self, group: Group) -> tuple[str, ...]:
        """The tags of a workload, those of the rest of its namespace, or those of all the rest."""
        namespace = group[0]
        if self.admit("workloads", group):
            return workload_tags(*group)
        if self.admit("namespaces", namespace):
            return (f"kube_namespace:{namespace}", f"workload:{OTHER}")
        return (f"kube_namespace:{OTHER}", f"workload:{OTHER}")

    def sums(self, ledgers: Iterable[Ledger]) -> None:
        """The sums of workloads."""
        rest: Counter[tuple[Key, tuple[str, ...]]] = Counter()
        for ledger in ledgers:
            for group, sums in ledger.groups.items():
                tags = self.workload(group)
                if tags[-1] == f"workload:{OTHER}":
                    rest.update({(key, tags): amount for key, amount in sums.items()})
                    continue
                for key, amount in sums.items():
                    self._sum(key, amount, tags)
        for (key, tags), amount in rest.items():
            self._sum(key, amount, tags)

    def of_nodes(self, ledgers: Iterable[Ledger]) -> None:
        """The sums of nodes; those of several namespaces are one node's."""
        whole: Counter[tuple[str, Key]] = Counter()
        for ledger in ledgers:
            for (_, _, node), sums in ledger.groups.items():
                whole.update({(node, key): amount for key, amount in sums.items()})
        for (node, key), amount in whole.items():
            if self.admit("nodes", node):
                self._sum(key, amount, (f"node:{node}",))

    def counts(self, name: str, counted: Iterable[Counter[Group]], ledgers: Iterable[Ledger]) -> None:
        """What was counted since the last run, 0 for each workload of which nothing was; begins to count anew."""
        total: Counter[tuple[str, ...]] = Counter()
        for ledger in ledgers:
            total.update(dict.fromkeys(map(self.workload, ledger.groups), 0))
        for counter in counted:
            for group, number in counter.items():
                total[self.workload(group)] += number
            counter.clear()
        for tags, number in total.items():
            self.emit.count(name, number, (*tags, *self._tags))

    def _sum(self, key: Key, amount: int, tags: tuple[str, ...]) -> None:
        self.gauge(key.metric, plain(amount) if key.nano else amount, (*tags, *key.tags))
