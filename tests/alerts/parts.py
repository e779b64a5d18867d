"""Rules on a stage: a clock that is set by hand, batches made of a few words, a memory that outlasts the engine."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from vedette.alerts import AlertEngine
from vedette.alerts.memory import Keeper
from vedette.config.checkfile import Document
from vedette.config.files import Found
from vedette.config.problems import Report
from vedette.config.source import parse as parse_yaml
from vedette.metrics import Batch, Kind, Metric, Sample, ServiceCheck, Status
from vedette.rules.catalogue import Catalogue
from vedette.rules.reading import read_rules
from vedette.secrets import Masker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vedette.lease import Lease
    from vedette.notifier import Alert
    from vedette.rules import Rulebook

FLOW, DB, ORDERS, QUEUES = "synthetic/payment-flow", "postgres/payments-primary", "business_sql/orders", "sqs/queues"
APP = "statsd/app"


class Emits:
    """A check's class, as far as the catalogue asks."""

    open_names = False

    def __init__(self, metrics: Iterable[Metric], statuses: Iterable[str] = ()) -> None:
        self._metrics, self.statuses = tuple(metrics), tuple(statuses)

    def declare(self, _: Any) -> tuple[Metric, ...]:
        return self._metrics


METRICS = (
    Metric("business.hourly.success_rate", Kind.GAUGE, "percent", tags=("currency",)),
    Metric("payments.failed", Kind.COUNT, "payment"),
    Metric("payments.all", Kind.COUNT, "payment"),
    Metric("bytes.sent", Kind.COUNTER, "byte"),
    Metric("requests", Kind.RATE, "request", per="second"),
)


def catalogue(*owned: str) -> Catalogue:
    """What the stage's instances emit; `owned` ones run on one agent of the fleet."""
    emits = {
        FLOW: Emits([Metric("synthetic.pay.response_time", Kind.HISTOGRAM, "millisecond")], ["synthetic.flow"]),
        DB: Emits([Metric("postgresql.connections", Kind.GAUGE)], ["postgres.can_connect"]),
        ORDERS: Emits(METRICS),
        QUEUES: Emits([Metric("sqs.age", Kind.GAUGE, "second", tags=("queue",))]),
    }
    keep_all = SimpleNamespace(compile=lambda: lambda name: name)
    instances = [
        SimpleNamespace(id=name, plugin=plugin, owned=name in owned, config=SimpleNamespace(tags=(), metrics=keep_all))
        for name, plugin in emits.items()
    ]
    return Catalogue(instances, ("team:pay",), complete=True)  # type: ignore[arg-type]


def open_catalogue() -> Catalogue:
    """One instance that takes any name."""
    plugin = Emits(())
    plugin.open_names = True
    keep_all = SimpleNamespace(compile=lambda: lambda name: name)
    config = SimpleNamespace(tags=(), metrics=keep_all)
    return Catalogue([SimpleNamespace(id=APP, plugin=plugin, owned=False, config=config)], (), complete=True)  # type: ignore[list-item]


def read(text: str, *owned: str, check: str = "", among: Catalogue | None = None) -> tuple[Rulebook, list[str]]:
    """The rules of an alerts.yaml, and what is wrong in it."""
    report = Report("alerts.yaml")
    root = parse_yaml(textwrap.dedent(text).encode(), report)
    assert root is not None
    document = Document(Found(Path("alerts.yaml"), "alerts.yaml", "alerts"), root, report)
    book = read_rules([(document, check)], among or catalogue(*owned), Masker())
    return book, [str(problem) for problem in report.problems]


class Stage:
    """An engine with a clock that is set by hand.

    Args:
        text: alerts.yaml.
        owned: instances that run on one agent of the fleet.
        memory: what an engine before it kept.
        now: seconds since the beginning.
        whole: whether no file has an error that keeps rules out.
    """

    def __init__(
        self,
        text: str,
        *owned: str,
        memory: dict[str, dict[str, Any]] | None = None,
        now: float = 0.0,
        whole: bool = True,
    ) -> None:
        self.now = 1_764_000_000.0 + now
        self.start = 1_764_000_000.0
        self.skew = 0.0
        """What the clock was set forward by."""
        self.memory = {} if memory is None else memory
        self.alerts: list[Alert] = []
        self.sent: list[tuple[str, ...]] = []
        self.muted: dict[str, float] = {}
        self.interval = 10.0
        self.rulebook, problems = read(text, *owned)
        self.rulebook = replace(self.rulebook, whole=whole)
        assert [one for one in problems if "warning" not in one] == []
        self.engine = AlertEngine(
            Keeper(self._view, self._keep, self._keep),
            self._tell,
            self._about,
            lambda: self.now + self.skew,
            self.alerts.append,
            even=lambda: self.now,
        )
        self.engine.configure(self.rulebook)

    def _view(self, instance: str) -> dict[str, Any]:
        return self.memory.setdefault(instance, {})

    def _keep(self, instance: str, key: str, value: Any) -> None:
        rows = self._view(instance)
        rows[key] = json.loads(json.dumps(value))
        if value is None:
            del rows[key]

    def _tell(self, alert: Alert, names: Any) -> None:
        self.sent.append((alert.state, alert.key, *names))

    def _about(self, instance: str) -> Any:
        if instance not in self.muted:
            return None
        return SimpleNamespace(state="ok", message="", muted_until=self.muted[instance])

    def restart(self, text: str, *owned: str, kill: bool = False) -> Stage:
        """The next engine on the same memory."""
        if not kill:
            self.engine.close()
        after = Stage(text, *owned, memory=self.memory, now=self.now - self.start)
        after.muted = self.muted
        return after

    def at(self, seconds: float) -> Stage:
        """Let time pass until so long after the beginning, second by second."""
        while self.now < self.start + seconds:
            self.now = min(self.now + 1.0, self.start + seconds)
            self.engine.tick()
            self._check()
        return self

    def _check(self) -> None:
        """What is kept up beside an incident, because it is asked all the time, agrees with it."""
        assert [one.key for one in self.engine.cases if one.calm is not (one.incident.stage == "ok")] == []

    def status(self, instance: str, status: str, message: str = "", lease: Lease | None = None) -> None:
        """A run of an instance that ends so."""
        check = ServiceCheck("it.works", Status[status.upper()], message, (f"instance:{instance.partition('/')[2]}",))
        self._run(instance, (), (check,), lease)

    def values(self, instance: str, *samples: tuple[Any, ...], lease: Lease | None = None) -> None:
        """A run that emits (name, kind, value, tags…)."""
        tag = f"instance:{instance.partition('/')[2]}"
        made = [Sample(name, kind, value, tuple(sorted((*tags, tag)))) for name, kind, value, *tags in samples]
        self._run(instance, tuple(made), (), lease)

    def failed(self, instance: str) -> None:
        """A run that cannot look."""
        self._run(instance, (), (), None, healthy=0)

    def _run(self, instance: str, samples: Any, statuses: Any, lease: Lease | None, *, healthy: int = 1) -> None:
        health = Sample("health_check.status", Kind.GAUGE, healthy, ())
        self.engine.consume(
            Batch(
                instance,
                instance.partition("/")[0],
                self.now + self.skew,
                self.interval,
                "node-7",
                (*samples, health),
                statuses,
                lease=lease,
            )
        )
        self._check()

    def closed(self, instance: str) -> None:
        """An instance ends."""
        self.engine.consume(Batch(instance, instance.partition("/")[0], self.now + self.skew, closed=True))

    def reload(self, text: str) -> list[str]:
        """Other rules from now on; returns what is wrong with them."""
        self.rulebook, problems = read(text)
        self.engine.configure(self.rulebook)
        return problems

    @property
    def kept(self) -> set[str]:
        """The keys of the incidents that are kept."""
        rows = self.memory.get("vedette/alerts", {})
        return {key.removeprefix("vedette:alert:") for key in rows if key.startswith("vedette:alert:")}

    @property
    def told(self) -> list[str]:
        """`25 firing name` for each that was told: seconds since the beginning, state, key."""
        words = [(one, "reminder" if one.reminder else one.state) for one in self.alerts]
        return [f"{one.at - self.skew - self.start:g} {word} {one.key}" for one, word in words]

    @property
    def states(self) -> dict[str, str]:
        """Where each rule stands in each group."""
        return {case.key: self.engine.describe(case, self.engine.now()).state for case in self.engine.cases}
