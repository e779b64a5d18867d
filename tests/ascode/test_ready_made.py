"""What is ready-made: every name and tag exists, every body is one that Datadog takes, every JSON one for Grafana."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from ascode.server import check_dashboard, check_monitor, definitions
from cli.test_commands import CHECKS
from vedette.datadog.grafana import grafana_dashboard
from vedette.datadog.model import Dashboard, Head, Monitor, Notify
from vedette.datadog.queries import label
from vedette.datadog.reading import library, ready_made
from vedette.metrics import Batch, Kind, Metric, Sample, ServiceCheck, Status
from vedette.plugins import Registry
from vedette.render import example_config
from vedette.report import AGENT_METRICS
from vedette.sinks.prometheus.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vedette.datadog.reading import Definition
    from vedette.datadog.series import Series, Shown

DATA = Path(__file__).parents[1] / "data"
NOTIFY = Notify(critical=("@pagerduty-payments", "@sns-alerts"), warning=("@slack-payments",))
ALWAYS = {"instance", "host"}
SERVICE = {"environment", "service", "version"}
STATUS_TAGS = {
    "disk.read_write": {"device"},
    "dns.can_resolve": {"nameserver", "resolved_hostname", "record_type"},
    "process.up": {"process", "process_name"},
    "rabbitmq.aliveness": {"vhost"},
    "rabbitmq.queue": {"rabbitmq_queue", "rabbitmq_vhost"},
    "rabbitmq.queue_found": {"rabbitmq_queue", "rabbitmq_vhost"},
    "redis.replication.master_link_status": {"redis_host"},
    "sqs.queue": {"queue"},
    "synthetic.flow": {"flow"},
}
"""What each of these statuses is tagged with beside the instance; the tests of the checks see to it."""


class Catalog:
    """Everything that a built-in check, the agent or vedette.instrument declares."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self.extra: dict[str, set[str]] = {}
        self.statuses: set[str] = set()
        registry = Registry()
        for name in CHECKS:
            plugin: Any = registry.load("checks", name)
            self.statuses |= set(plugin.statuses)
            for metric in (*plugin.metrics, *plugin.declare(example_config(plugin))):
                self.metrics[metric.name] = metric
        for metric in AGENT_METRICS:
            self.metrics[metric.name] = metric
        with (DATA / "strategy-metrics.csv").open() as file:
            for row in csv.DictReader(file):
                if row["emitted_by"] == "instrument":
                    tags = tuple(filter(None, row["tags"].split(";")))
                    self.metrics[row["metric"]] = Metric(row["metric"], Kind(row["kind"]), tags=tags)
                    self.extra[row["metric"]] = SERVICE

    def tags(self, name: str) -> set[str]:
        return {*self.metrics[name].tags, *ALWAYS, *self.extra.get(name, ())}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture(scope="module")
def everything() -> list[Definition]:
    return list(library(ready_made(), Head(notify=NOTIFY)))


def shown(one: Definition) -> Iterator[tuple[str, Shown]]:
    if isinstance(one.model, Monitor):
        yield one.key, one.model
    else:
        for group in one.model.groups:
            for widget in group.widgets:
                yield f"{one.key}: {widget.title}", widget


def series_of(one: Definition) -> Iterator[tuple[str, Series]]:
    for place, what in shown(one):
        for series in what.series.values():
            yield place, series


def dashboards(everything: list[Definition]) -> list[Dashboard]:
    return [one.model for one in everything if isinstance(one.model, Dashboard)]


def test_there_is_something_for_every_check_and_every_part_of_the_strategy() -> None:
    assert set(ready_made()) == {*CHECKS, "agent", "realtime", "business", "technical", "infrastructure"}


def test_every_metric_is_declared_with_this_kind_and_these_tags(everything: list[Definition], catalog: Catalog) -> None:
    wrong = []
    checked = 0
    for one in everything:
        for place, series in series_of(one):
            checked += 1
            metric = catalog.metrics.get(series.metric)
            if metric is None:
                wrong.append(f"{place}: nothing declares {series.metric}")
                continue
            if metric.kind is not series.kind:
                wrong.append(f"{place}: {series.metric} is a {metric.kind}, not a {series.kind}")
            variables = one.model.variables if isinstance(one.model, Dashboard) else ()
            strange = {*series.by, *series.where, *variables} - catalog.tags(series.metric)
            wrong += [f"{place}: {series.metric} has no tag {tag}" for tag in strange]
    assert checked > 200
    assert wrong == []


def test_every_status_is_declared_with_these_tags(everything: list[Definition], catalog: Catalog) -> None:
    wrong = []
    found = set()
    for one in everything:
        for place, what in shown(one):
            status = getattr(what, "status", "")
            if not status:
                continue
            found.add(status)
            if status not in catalog.statuses:
                wrong.append(f"{place}: nothing declares {status}")
            variables = one.model.variables if isinstance(one.model, Dashboard) else ()
            strange = {*what.by, *variables} - ALWAYS - STATUS_TAGS.get(status, set())
            wrong += [f"{place}: {status} has no tag {tag}" for tag in strange]
    assert {"postgres.can_connect", "redis.can_connect", "synthetic.flow"} <= found
    assert wrong == []


def test_names_of_monitors_use_only_tags_they_are_grouped_by(everything: list[Definition]) -> None:
    for one in everything:
        if isinstance(one.model, Monitor):
            by = {tag for _, series in series_of(one) for tag in series.by} | set(one.model.by)
            assert set(re.findall(r"\{\{(\w+)\.name\}\}", one.model.name)) <= by, one.key


def test_datadogs_own_models_know_all_of_it() -> None:
    """With everything that a file can say about it; test_sync sends all of it as it is."""
    head = Head(notify=NOTIFY, histogram_as="distribution", teams=("payments",), tags=("team:payments",))
    for one in library(["technical"], head):  # where most histograms are
        (check_monitor if one.kind == "monitor" else check_dashboard)(json.loads(json.dumps(one.body)))


def test_the_checker_can_say_no(everything: list[Definition]) -> None:
    body = next(one.body for one in everything if one.key == "default/postgres")
    bad = json.loads(json.dumps(body))
    next(definitions(bad["widgets"]))["type"] = "no_such_widget"
    with pytest.raises(Exception, match="not known to the model"):
        check_dashboard(bad)
    odd = json.loads(json.dumps(body))
    next(definitions(odd["widgets"]))["colour"] = "red"
    with pytest.raises(Exception, match="colour"):
        check_dashboard(odd)


def test_monitors_tell_whom_the_strategy_draws(everything: list[Definition]) -> None:
    for one in everything:
        if not isinstance(one.model, Monitor):
            continue
        message = one.body["message"]
        alert = "@pagerduty-payments @sns-alerts" if one.model.severity == "critical" else "@slack-payments"
        assert f"{{{{#is_alert}}}}{alert}{{{{/is_alert}}}}" in message, one.key
        assert f"{{{{#is_alert_recovery}}}}{alert}{{{{/is_alert_recovery}}}}" in message, one.key
        silent = one.body["options"]["notify_no_data"]
        assert ("{{#is_no_data}}" in message) == silent, one.key


def test_silence_is_told_where_it_means_something(everything: list[Definition]) -> None:
    told = {one.model.id for one in everything if isinstance(one.model, Monitor) and one.model.silence is not None}
    assert {"agent.down", "postgres.down", "redis.down", "synthetic.flow", "realtime.no_transactions"} <= told
    for one in everything:
        if isinstance(one.model, Monitor) and any(series.counted and not series.grows for _, series in series_of(one)):
            assert one.model.silence is None, f"{one.key}: nothing counted is 0, not silence"


def test_the_way_to_people_is_watched_by_another_way(everything: list[Definition]) -> None:
    """Every figure of notifiers and alerts is on the page, and what says that nobody hears has a monitor."""
    monitors = {one.model.id: one.body["query"] for one in everything if isinstance(one.model, Monitor)}
    assert monitors["agent.alerts_wait"] == "max(last_5m):max:vedette.notifier.oldest{*} by {host,notifier} > 300"
    watched = {series.metric for one in everything if isinstance(one.model, Monitor) for _, series in series_of(one)}
    shown = {series.metric for one in everything if isinstance(one.model, Dashboard) for _, series in series_of(one)}
    ours = {one.name for one in AGENT_METRICS if one.name.startswith(("vedette.notifier.", "vedette.alerts."))}
    assert ours <= shown
    assert {"vedette.notifier.failed", "vedette.notifier.errors", "vedette.alerts.heartbeat"} <= watched
    assert monitors["realtime.no_transactions"] == (
        "sum(last_10m):monotonic_diff(max:dashboard.transactions.hourly{*}) < 1"
    )
    assert "success:false" in monitors["business.success_rate"]  # there is no point of the others when all fail


# Grafana


SCHEMA = json.loads((DATA / "grafana-dashboard.schema.json").read_text())


@pytest.mark.parametrize("honor", [False, True])
def test_grafana_takes_every_dashboard(everything: list[Definition], honor: bool) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    uids = set()
    for model in dashboards(everything):
        made = json.loads(json.dumps(grafana_dashboard(model, honor_labels=honor)))
        assert [error.message for error in validator.iter_errors(made)] == [], model.id
        uids.add(made["uid"])
        ids = [panel["id"] for panel in made["panels"]]
        assert len(set(ids)) == len(ids)
        places = [panel["gridPos"] for panel in made["panels"]]
        for number, one in enumerate(places):
            assert one["x"] + one["w"] <= 24
            assert not any(overlap(one, other) for other in places[number + 1 :]), model.id
    assert len(uids) == len(dashboards(everything)) == len(ready_made())


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


def test_the_grafana_schema_can_say_no(everything: list[Definition]) -> None:
    made = grafana_dashboard(dashboards(everything)[0])
    made["panels"][1]["gridPos"]["w"] = 30
    made["graphTooltip"] = 7
    errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(made))
    assert len(errors) >= 2


def exposed(catalog: Catalog) -> set[str]:
    """The names that the `prometheus` sink writes for everything in the catalog."""
    said: list[str] = []
    store = Store([1.0], 60.0, {}, said.append)
    samples = [Sample(one.name, one.kind, "u" if one.kind is Kind.SET else 1) for one in catalog.metrics.values()]
    statuses = tuple(ServiceCheck(name, Status.OK) for name in sorted(catalog.statuses))
    batch = Batch("x/x", "x", 0.0, 15.0, "", samples=tuple(samples), statuses=statuses)
    assert store.add(batch) == 0, said
    return {sample.name for family in store.collect() for sample in family.samples}


def test_names_in_promql_are_those_of_our_prometheus_sink(everything: list[Definition], catalog: Catalog) -> None:
    known = exposed(catalog)
    keys = {label(tag) for metric in catalog.metrics for tag in catalog.tags(metric)} | {"le"}
    checked = 0
    for model in dashboards(everything):
        for panel in grafana_dashboard(model)["panels"]:
            for target in panel.get("targets", ()):
                names, labels = parts_of(target["expr"])
                assert names <= known, (model.id, target["expr"], names - known)
                assert labels <= keys, (model.id, target["expr"], labels - keys)
                checked += len(names)
    assert checked > 150


WORDS = {"sum", "avg", "min", "max", "rate", "increase", "by", "topk", "histogram_quantile"}


def parts_of(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels of a PromQL expression."""
    labels: set[str] = set()
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    for found in re.findall(r"\{([^}]*)\}", bare):
        labels |= set(re.findall(r"(\w+)=~?", found))
    for found in re.findall(r"by \(([^)]*)\)", bare):
        labels |= set(re.findall(r"\w+", found))
    bare = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", bare)
    return set(re.findall(r"[a-zA-Z_]\w*", bare)) - WORDS, labels


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_every_expression(everything: list[Definition], tmp_path: Path) -> None:
    rules = []
    for model in dashboards(everything):
        for panel in grafana_dashboard(model)["panels"]:
            for target in panel.get("targets", ()):
                expression = re.sub(r"\$__\w+", "5m", target["expr"])
                rules.append({"record": f"x{len(rules)}", "expr": expression})
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout
    assert len(rules) > 150
