"""Every metric of a recorded cluster, against figures that plain json gives."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from checks.k8s import oracle
from checks.k8s.driver import NOW, ROOT, Drive, node_metrics
from cli.process import vedette
from test_acceptance import rows_of
from vedette_checks.k8s import K8s

pytestmark = pytest.mark.anyio

AGES = {"kubernetes_state.node.age", "kubernetes_state.job.duration",
        "kubernetes_state.cronjob.duration_since_last_schedule", "k8s.cronjob.duration_since_last_success"}  # fmt: skip
"""What depends on when the command ran."""


def exact(expected: dict[oracle.Series, Any]) -> dict[oracle.Series, float]:
    return {series: float(value) for series, value in expected.items()}


async def test_every_series_of_the_recorded_cluster_has_the_value_that_plain_json_gives(drive: Drive) -> None:
    server = await drive.server()
    objects = {name: server.cluster.objects(name) for name in server.cluster.collections}
    server.node_metrics = node_metrics(objects["nodes"])
    outcome = await drive.watching(server).run()
    assert outcome.error is None
    expected = exact(oracle.everything(objects, server.node_metrics, NOW))
    found = outcome.series
    assert found.keys() == expected.keys()
    for series, value in expected.items():
        assert found[series] == pytest.approx(value, rel=1e-15, abs=0), series
    assert {status.status.name for status in outcome.batch.statuses} == {"OK"}


async def test_the_command_emits_every_metric_of_the_strategy(drive: Drive, tmp_path: Path) -> None:
    server = await drive.server()
    objects = {name: server.cluster.objects(name) for name in server.cluster.collections}
    server.node_metrics = node_metrics(objects["nodes"])
    (tmp_path / "conf.d").mkdir()
    options = {"kubeconfig": str(server.kubeconfig(tmp_path)), "tags": ["team:payments"], "name": "prod"}
    (tmp_path / "conf.d" / "k8s.yaml").write_text(json.dumps({"instances": [options]}))
    done = await asyncio.to_thread(lambda: vedette("check", "k8s", "--json", cwd=tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout) if row["kind"] != "status" and row["check"] == "k8s"]
    assert all("host" not in row for row in rows)  # a cluster's series do not belong to whichever agent asks
    own = {"instance:prod", "team:payments"}
    rows = [row for row in rows if not row["name"].startswith(("health_check.", "vedette."))]
    found = {(row["name"], frozenset(row["tags"]) - own): row["value"] for row in rows}
    expected = exact(oracle.everything(objects, server.node_metrics, NOW))
    assert found.keys() == expected.keys()
    off = {series: (found[series], value) for series, value in expected.items()
           if series[0] not in AGES and found[series] != pytest.approx(value, rel=1e-15, abs=0)}  # fmt: skip
    assert off == {}
    wanted = [row for row in rows_of("strategy-metrics.csv") if row["emitted_by"] == "k8s"]
    assert len(wanted) == 9
    for row in wanted:
        those = [one for one in rows if one["name"] == row["metric"]]
        assert those, row["metric"]
        assert {one["kind"] for one in those} == {row["kind"]}
        for one in those:
            assert set(filter(None, row["tags"].split(";"))) <= {tag.partition(":")[0] for tag in one["tags"]}
    strategy = {row["metric"]: found[row["metric"], frozenset()] for row in wanted if not row["tags"]}
    assert strategy["k8s.pods.running"] == 374
    assert (strategy["k8s.nodes.ready"], strategy["k8s.nodes.not_ready"]) == (10, 2)


async def test_quotas_of_objects_in_both_spellings(drive: Drive) -> None:
    server = await drive.server(small=True)
    quota = server.cluster.objects("resourcequotas")[0]
    for name, prefix in (("new", "count/"), ("old", "")):
        hard, used = ({f"{prefix}{kind}": text for kind in ("configmaps", "secrets")} for text in ("20", "7"))
        meta = {**quota["metadata"], "name": name, "uid": f"uid-{name}"}
        await server.cluster.put("resourcequotas", {**quota, "metadata": meta, "status": {"hard": hard, "used": used}})
    outcome = await drive.watching(server, resources=["resourcequotas"], usage=False).run()
    for name in ("new", "old"):
        for kind in ("configmaps", "secrets"):
            metric, tags = f"kubernetes_state.resourcequota.count_{kind}", (f"resourcequota:{name}",)
            assert (outcome.value(f"{metric}.limit", *tags), outcome.value(f"{metric}.used", *tags)) == (20, 7)


def test_names_beyond_the_strategys_are_datadogs_or_begin_with_k8s() -> None:
    theirs = {row["metric_name"] for row in rows_of("datadog-kubernetes_state_core-metrics.csv")}
    strategy = {row["metric"]: row["unit"] for row in rows_of("strategy-metrics.csv")}
    names = {metric.name for metric in K8s.metrics}
    assert {name for name in names if name.startswith("kubernetes_state.")} <= theirs
    assert all(name.startswith(("k8s.", "kubernetes_state.")) for name in names)
    assert {metric.name: metric.unit for metric in K8s.metrics if strategy.get(metric.name)} == {
        name: unit for name, unit in strategy.items() if name.startswith("k8s.") and unit
    }


def test_the_page_says_which_names_are_datadogs() -> None:
    page = (ROOT / "plugins" / "vedette_checks" / "k8s" / "README.md").read_text()
    theirs = {metric.name for metric in K8s.metrics if metric.name.startswith("kubernetes_state.")}
    table = page.partition("## Datadog's names")[2]
    assert {name for name in theirs if f"`{name}`" not in table} == set()
