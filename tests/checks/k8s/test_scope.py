"""Which part of a cluster is asked about: the own node, some namespaces, some resources, so many workloads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from checks.k8s import oracle
from checks.k8s.driver import Drive, node_metrics, until
from vedette import Status
from vedette_checks.k8s import K8s, K8sConfig
from vedette_checks.k8s import usage as usage_module

pytestmark = pytest.mark.anyio

NODE = "worker-03"
STATS = "/stats/summary"


def stats_of(server: Any, node: str) -> dict[str, Any]:
    """A stand-in for a kubelet's summary, written from its documentation (k8s.io/kubelet stats/v1alpha1 Summary):
    no kubelet was recorded."""
    pods = [pod for pod in server.cluster.objects("pods") if pod["spec"].get("nodeName") == node]
    return {
        "node": {
            "nodeName": node,
            "startTime": "2026-11-14T20:31:46Z",
            "cpu": {"time": "2026-11-23T20:36:00Z", "usageNanoCores": 1_250_000_000, "usageCoreNanoSeconds": 9},
            "memory": {"time": "2026-11-23T20:36:00Z", "workingSetBytes": 7_516_192_768, "usageBytes": 8 * 10**9},
            "fs": {"usedBytes": 40_000_000_000, "capacityBytes": 107_361_579_008, "availableBytes": 67_361_579_008},
        },
        "pods": [
            {
                "podRef": {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"],
                           "uid": pod["metadata"]["uid"]},
                "startTime": "2026-11-23T20:31:46Z",
                "cpu": {"time": "2026-11-23T20:36:00Z", "usageNanoCores": 10_000_001 * (place + 1)},
                "memory": {"time": "2026-11-23T20:36:00Z", "workingSetBytes": 1_000_003 * (place + 1)},
            }
            for place, pod in enumerate(pods)
        ] + [{"podRef": {"name": "gone", "namespace": "web", "uid": "no-such"}, "cpu": {}, "memory": None}],
    }  # fmt: skip


def summary(server: Any, node: str) -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(stats_of(server, node))

    return answer


async def test_a_node_agent_asks_only_about_its_own_node(drive: Drive) -> None:
    server = await drive.server(token="agent-token")
    server.on(STATS, summary(server, NODE))
    watching = drive.watching(server, scope="node", node=NODE, kubelet={"url": server.url})
    outcome = await watching.run()
    assert outcome.error is None
    asked = {seen.path: seen for seen in server.requests}
    assert set(asked) == {"/api/v1/pods", "/api/v1/nodes", STATS}
    assert asked["/api/v1/pods"].query["fieldSelector"] == f"spec.nodeName={NODE}"
    assert asked["/api/v1/nodes"].query["fieldSelector"] == f"metadata.name={NODE}"
    assert asked[STATS].headers["authorization"] == "Bearer agent-token"
    pods = [pod for pod in server.cluster.objects("pods") if pod["spec"].get("nodeName") == NODE]
    (node,) = [one for one in server.cluster.objects("nodes") if one["metadata"]["name"] == NODE]
    assert outcome.value("k8s.pods.running", f"node:{NODE}") == sum(pod["status"]["phase"] == "Running" for pod in pods)
    assert all(f"node:{NODE}" in sample.tags for sample in outcome.batch.samples)
    expected = {(name, tags | {f"node:{NODE}"}): float(value) for name, tags, value in
                ((*series, value) for series, value in oracle.of_pods(pods).items())}  # fmt: skip
    assert {series: outcome.series[series] for series in expected} == pytest.approx(expected, rel=1e-15)
    allocatable = {part: float(oracle.amount(node["status"]["allocatable"][part])) for part in ("cpu", "memory")}
    assert outcome.value("k8s.cpu.utilization") == pytest.approx(1.25 * 100 / allocatable["cpu"], rel=1e-12)
    assert outcome.value("k8s.memory.utilization") == pytest.approx(7516192768 * 100 / allocatable["memory"], rel=1e-12)
    assert outcome.value("k8s.node.cpu_usage") == 1.25
    assert outcome.value("k8s.node.filesystem_used") == 40_000_000_000
    assert outcome.value("k8s.node.filesystem_capacity") == 107_361_579_008
    made = oracle.Sums()
    for place, pod in enumerate(pods):
        made.add("k8s.pod.cpu_usage", 10_000_001 * (place + 1), *oracle.owner(pod), f"node:{NODE}")
        made.add("k8s.pod.memory_usage", 1_000_003 * (place + 1), *oracle.owner(pod), f"node:{NODE}")
    for (name, tags), value in made.series.items():
        assert outcome.series[name, tags] == float(value / 10**9 if "cpu" in name else value)


async def test_where_the_kubelet_refuses_the_use_comes_from_metrics_k8s_io(drive: Drive) -> None:
    server = await drive.server()
    server.node_metrics = node_metrics(server.cluster.objects("nodes"))

    async def forbidden(_: web.Request) -> web.Response:
        return web.Response(status=403, text="Forbidden (user=agent, verb=get, resource=nodes, subresource=stats)")

    server.on(STATS, forbidden)
    outcome = await drive.watching(server, scope="node", node=NODE, kubelet={"url": server.url}).run()
    said = outcome.status("k8s.kubelet")
    assert said.status is Status.WARNING
    assert said.message == (
        "may not ask the kubelet for /stats/summary; the ClusterRole lacks "
        '{apiGroups: [""], resources: [nodes/stats], verbs: [get]}'
    )
    (usage,) = [one["usage"] for one in server.node_metrics["items"] if one["metadata"]["name"] == NODE]
    assert outcome.value("k8s.node.cpu_usage") == float(oracle.amount(usage["cpu"]))
    assert server.asked(f"/apis/metrics.k8s.io/v1beta1/nodes/{NODE}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[]", "the kubelet says nothing: the kubelet answers what is no Summary"),
        ("nonsense", "the kubelet says nothing: the kubelet answers what is no Summary"),
    ],
)
async def test_a_kubelet_that_answers_nonsense_is_a_finding(drive: Drive, body: str, message: str) -> None:
    server = await drive.server()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    server.on(STATS, answer)
    outcome = await drive.watching(server, scope="node", node=NODE, usage=False, kubelet={"url": server.url}).run()
    assert outcome.status("k8s.kubelet").message == f"{message}; see `kubelet.url`, or say `kubelet: null`"
    assert outcome.value("k8s.nodes.ready") == 1


async def test_a_kubelet_that_is_not_there_is_a_finding_and_without_it_nobody_is_asked(drive: Drive) -> None:
    server = await drive.server()
    options = {"scope": "node", "node": NODE, "usage": False}
    outcome = await drive.watching(server, kubelet={"url": "http://127.0.0.1:1"}, **options).run()
    assert outcome.status("k8s.kubelet").message.startswith("the kubelet says nothing: nothing listens on 127.0.0.1:1")
    outcome = await drive.watching(server, kubelet=None, **options).run()
    assert not [status for status in outcome.batch.statuses if status.name == "k8s.kubelet"]


def test_the_own_node_is_named_by_the_downward_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "worker-07")
    assert K8sConfig.model_validate({"scope": "node"}).own_node == "worker-07"
    assert K8sConfig.model_validate({"scope": "node", "node": "n1"}).own_node == "n1"
    assert K8sConfig.model_validate({}).own_node == ""
    monkeypatch.delenv("NODE_NAME")
    monkeypatch.setattr("socket.gethostname", lambda: "HOST-1")
    assert K8sConfig.model_validate({"scope": "node"}).own_node == "host-1"


async def test_only_the_namespaces_that_are_named_are_asked_about(drive: Drive) -> None:
    server = await drive.server()
    outcome = await drive.watching(server, namespaces=["web", "payments"], resources=["pods", "deployments"]).run()
    assert {seen.path for seen in server.requests} == {
        "/api/v1/namespaces/web/pods",
        "/api/v1/namespaces/payments/pods",
        "/apis/apps/v1/namespaces/web/deployments",
        "/apis/apps/v1/namespaces/payments/deployments",
    }
    pods = [pod for pod in server.cluster.objects("pods") if pod["metadata"]["namespace"] != "kube-system"]
    expected = {series: float(value) for series, value in oracle.of_pods(pods).items() if not of_a_node(series[0])}
    assert {series: outcome.series[series] for series in expected} == pytest.approx(expected, rel=1e-15)
    assert not list(filter(of_a_node, outcome.names))  # some namespaces' pods are a part of what a node has


def of_a_node(name: str) -> bool:
    """Whether a metric is the sum of a node's pods."""
    return name.startswith("k8s.node.")


async def test_a_node_that_the_cluster_does_not_have_is_a_finding_and_not_an_empty_one(drive: Drive) -> None:
    server = await drive.server(small=True)
    outcome = await drive.watching(server, scope="node", node="worker-99", kubelet=None, usage=False).run()
    assert str(outcome.error) == "the cluster has no node called worker-99"
    assert outcome.error is not None
    assert outcome.error.hint == "see `node`, or the environment variable NODE_NAME"
    assert outcome.status("k8s.watch", "resource:nodes").status is Status.CRITICAL
    assert outcome.status("k8s.can_connect").status is Status.OK
    assert outcome.names == set()


async def test_a_namespace_that_is_refused_leaves_the_others_and_no_total_that_is_a_part(drive: Drive) -> None:
    server = await drive.server()
    server.on("/api/v1/namespaces/payments/pods", "auth/403-no-rbac.pods-namespaced.json")
    outcome = await drive.watching(server, namespaces=["web", "payments"], resources=["pods"]).run()
    said = outcome.status("k8s.watch", "kube_namespace:payments")
    assert said.message == (
        "may not list and watch pods in the namespace payments; the Role in payments lacks "
        '{apiGroups: [""], resources: [pods], verbs: [list, watch]}'
    )
    assert outcome.status("k8s.watch", "kube_namespace:web").status is Status.OK
    assert "k8s.pods.running" not in outcome.names
    spaces = {tag for _, tags in outcome.series for tag in tags if tag.startswith("kube_namespace:")}
    assert spaces == {"kube_namespace:web"}


async def test_more_watches_than_a_pool_of_connections_has_do_not_starve(drive: Drive) -> None:
    server = await drive.server(small=True)
    spaces = [f"ns-{number}" for number in range(101)]
    outcome = await drive.watching(server, namespaces=spaces, resources=["resourcequotas"], usage=False).run()
    await until(lambda: server.watching == 101, "all watches")
    said = [status.status for status in outcome.batch.statuses if status.name == "k8s.watch"]
    assert said == [Status.OK] * 101


async def test_a_kubelet_that_answers_without_end_is_a_finding(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "_MOST", 1 << 20)
    server = await drive.server(small=True)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b" " * (2 << 20))

    server.on(STATS, answer)
    outcome = await drive.watching(server, scope="node", node=NODE, usage=False, kubelet={"url": server.url}).run()
    assert outcome.status("k8s.kubelet").message.startswith("the kubelet says nothing: the kubelet answers more than 1")


async def test_workloads_beyond_the_limit_are_added_up_and_counted(drive: Drive) -> None:
    server = await drive.server()
    everything = await drive.watching(server, usage=False).run()
    few = await drive.watching(server, usage=False, limit=2).run()
    for name in ("kubernetes_state.pod.count", "kubernetes_state.container.restarts", "k8s.containers.restarted",
                 "kubernetes_state.container.cpu_requested.total"):  # fmt: skip
        assert few.total(name) == pytest.approx(everything.total(name), rel=1e-12)
        kept = {tags for name_, tags in few.series if name_ == name and "workload:other" not in tags}
        assert len(kept) == 2
    assert few.value("k8s.pods.running") == everything.value("k8s.pods.running")
    assert few.value("k8s.nodes.ready") == 10
    assert few.value("kubernetes_state.node.cpu_capacity.total") == everything.value(
        "kubernetes_state.node.cpu_capacity.total"
    )
    assert len([tags for name, tags in few.series if name == "kubernetes_state.node.age"]) == 2
    hpas = len(server.cluster.objects("horizontalpodautoscalers"))
    assert len([tags for name, tags in few.series if name == "k8s.hpa.at_max"]) == 2 < hpas
    assert few.value("k8s.cut") > hpas - 2  # type: ignore[operator]
    assert everything.value("k8s.cut") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "node", "resources": ["pods", "deployments"]}, "`scope: node` watches pods and nodes only"),
        ({"node": "worker-01"}, "`node` goes with `scope: node`"),
        ({"namespaces": ["Web"]}, "must be names of namespaces"),
        ({"namespaces": ["web", "web"]}, "names a namespace twice"),
        ({"resources": ["pods", "pods"]}, "names a resource twice"),
        ({"resources": ["secrets"]}, "Input should be 'pods', 'nodes'"),
        ({"scope": "node", "node": "../pods"}, "must be the name of a node"),
        ({"scope": "node", "kubelet": {"url": "https://user@host"}}, "String should match pattern"),
        ({"stale_after": "1s"}, "must be at least 10s"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        K8sConfig.model_validate(options)
    assert message in str(caught.value)


def test_a_cluster_is_the_leaders_and_a_node_is_every_nodes() -> None:
    implied = K8sConfig.model_validate({})
    assert implied.run_on == "leader"
    assert "run_on" not in implied.model_fields_set
    assert K8sConfig.model_validate({"run_on": "every_node"}).run_on == "every_node"
    assert K8sConfig.model_validate({"scope": "node"}).run_on == "every_node"
    assert K8sConfig.model_validate(json.loads(implied.model_dump_json(exclude_unset=True))).run_on == "leader"


def test_a_kubelet_that_nobody_checks_is_a_warning() -> None:
    loose = K8sConfig.model_validate({"scope": "node", "kubelet": {"verify": False}})
    assert list(K8s.lint(loose)) == [
        "kubelet.verify is off: whoever answers at the node's address gets the agent's token"
    ]
    clear = K8sConfig.model_validate({"scope": "node", "kubelet": {"url": "http://127.0.0.1:10255"}})
    assert list(K8s.lint(clear)) == ["kubelet.url is http: whoever listens on the way gets the agent's token"]
    assert list(K8s.lint(K8sConfig.model_validate({"scope": "node"}))) == []
