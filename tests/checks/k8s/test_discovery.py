"""The pods of the agent's own node as targets: what counts, what the cluster is asked, and a whole agent over it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from checks.k8s.driver import FAST, Drive, recording, until
from checks.k8s.test_rbac import granted, needed
from servers import RedisServer, redis62
from vedette import Diagnosis, Target
from vedette.agent import Agent
from vedette.config import load
from vedette.metrics import Batch
from vedette.plugins import Registry
from vedette.state import StateStore
from vedette_checks.k8s.discovery import K8sDiscovery, K8sDiscoveryConfig
from vedette_checks.k8s.targets import Targets

pytestmark = pytest.mark.anyio

NODE = "node-7"
NOTE = "vedette.dev/checks"
REDIS = 'redis:\n  - host: "%%host%%"\n    port: "%%port_redis%%"\n    interval: 200ms\n'


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(K8sDiscovery, "pace", FAST)
    monkeypatch.setattr(K8sDiscovery, "look", 0.05)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(redis62(), tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.stop()


def pod(name: str, asks: str = "", *, port: int = 6379, ip: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    """A pod of the node, with the fields that the API's documentation gives it."""
    return {
        "metadata": {
            "name": name, "namespace": "payments", "uid": f"uid-{name}",
            "labels": {"pod-template-hash": "7f9c", "app.kubernetes.io/name": "api"},
            "annotations": {NOTE: asks} if asks else {},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "api-7f9c", "controller": True}],
        },
        "spec": {
            "nodeName": NODE,
            "containers": [{
                "name": "cache", "image": "docker.io/library/redis:7.2@sha256:ab",
                "ports": [{"name": "redis", "containerPort": port, "protocol": "TCP"}, {"containerPort": 9121}],
                "env": [
                    {"name": "ROLE", "value": "cache"},
                    {"name": "EMPTY"},
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                    {"name": "URL", "value": "redis://:$(PASSWORD)@localhost"},
                ],
            }],
        },
        "status": {"phase": "Running", "podIP": ip, **more},
    }  # fmt: skip


def digest(found: dict[str, Any], *namespaces: str) -> Target | None:
    told: list[list[Target]] = []
    store = Targets(NOTE, namespaces, lambda targets: told.append(list(targets)))
    store.put(json.dumps(found).encode())
    return told[-1][0] if told[-1] else None


def test_a_pod_as_a_target() -> None:
    target = digest(pod("api-7f9c-x", REDIS))
    assert target is not None
    assert (target.id, target.name, target.host, target.kind) == (
        "uid-api-7f9c-x", "payments/api-7f9c-x", "127.0.0.1", "pod"
    )  # fmt: skip
    assert (target.asks, target.source, target.namespace) == (REDIS, NOTE, "payments")
    assert target.tags == (
        "pod_name:api-7f9c-x", "kube_namespace:payments", "kube_deployment:api", "kube_app_name:api"
    )  # fmt: skip
    assert target.variables == {
        "kube_namespace": "payments", "kube_pod_name": "api-7f9c-x", "kube_pod_uid": "uid-api-7f9c-x", "node": NODE,
    }  # fmt: skip
    (container,) = target.containers
    assert (container.ports, container.environ) == ({"redis": 6379, "9121": 9121}, {"ROLE": "cache"})
    assert container.tags == (
        "kube_container_name:cache", "image_name:docker.io/library/redis", "short_image:redis", "image_tag:7.2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("status", "phase", "Pending"),
        ("status", "phase", "Succeeded"),
        ("status", "phase", "Failed"),
        ("status", "podIP", ""),
        ("metadata", "deletionTimestamp", "2026-11-23T20:36:00Z"),
        ("metadata", "namespace", "kube-system"),
    ],
)
def test_what_is_no_target(where: str, key: str, value: str) -> None:
    found = pod("api")
    assert digest(found, "pay*") is not None
    found[where][key] = value
    assert digest(found, "pay*") is None


def test_sidecars_count_and_other_init_containers_do_not() -> None:
    found = pod("api")
    found["spec"]["initContainers"] = [
        {"name": "migrate", "image": "m", "env": [{"name": "A", "value": "1"}]},
        {
            "name": "proxy",
            "image": "p",
            "restartPolicy": "Always",
            "ports": [{"name": "admin", "containerPort": 15000}],
        },
    ]
    target = digest(found)
    assert target is not None
    assert [one.name for one in target.containers] == ["cache", "proxy"]


def test_the_recorded_pods_of_each_node() -> None:
    items = json.loads(recording("list/pods.rv0.json").body)["items"]
    told: list[list[Target]] = []
    store = Targets(NOTE, (), lambda targets: told.append(list(targets)))
    store.begin()
    for item in items:
        store.collect(json.dumps(item).encode())
    store.finish()
    running = [
        item
        for item in items
        if item["status"].get("phase") == "Running"
        and item["status"].get("podIP")
        and "deletionTimestamp" not in item["metadata"]
    ]
    assert len(running) > 5
    assert {t.id: (t.name, t.host) for t in told[-1]} == {
        item["metadata"]["uid"]: (
            f"{item['metadata']['namespace']}/{item['metadata']['name']}",
            item["status"]["podIP"],
        )
        for item in running
    }
    assert store.unreadable == set()


class Site:
    """An agent whose discovery watches a replayed cluster."""

    def __init__(self, folder: Path, server: Any, more: str = "") -> None:
        self.folder = folder
        self.conf = folder / "conf.d"
        self.conf.mkdir()
        kubeconfig = server.kubeconfig(folder)
        (self.conf / "agent.yaml").write_text(
            "reload: {watch: false}\nsinks: [{type: file, path: ../out.jsonl}]\nautodiscovery:\n"
            f"  - {{type: k8s, node: {NODE}, allow: [redis], min_interval: 100ms, kubeconfig: {kubeconfig}{more}}}\n"
        )
        self.batches: list[Batch] = []
        self.agent: Agent

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        configuration = await asyncio.to_thread(load, self.conf, Registry())
        assert configuration.problems == ()
        self.agent = Agent(configuration, StateStore(self.folder / "state"), {}, self.batches.append)
        task = asyncio.create_task(self.agent.run())
        try:
            yield
        finally:
            self.agent.stop()
            await task

    @property
    def trouble(self) -> str:
        return self.agent.snapshot().discoveries[0].trouble

    def healthy(self, instance: str) -> int:
        """Runs that succeeded so far."""
        found = (v for v in self.agent.snapshot().instances if v.instance == instance)
        return next((v.runs - v.failures for v in found), -1)

    async def well(self, instance: str) -> None:
        before = max(self.healthy(instance), 0)
        await until(lambda: self.healthy(instance) > before, f"a run of {instance}; {self.trouble}")


async def test_a_pods_life(drive: Drive, redis: RedisServer, tmp_path: Path) -> None:
    server = await drive.server()
    site = Site(tmp_path, server)
    await server.cluster.put("pods", pod("quiet"))
    starting = pod("api-1", REDIS, port=redis.port, ip="", phase="Pending")
    await server.cluster.put("pods", starting)
    async with site.running():
        await until(lambda: server.watching == 1, "the watch")
        assert site.agent.snapshot().instances == ()
        await server.cluster.put("pods", pod("api-1", REDIS, port=redis.port))
        await site.well("redis/payments.api-1")
        sample = next(b for b in site.batches if b.instance == "redis/payments.api-1" and b.samples).samples[0]
        assert {"pod_name:api-1", "kube_deployment:api", "kube_namespace:payments", "short_image:redis"} <= set(
            sample.tags
        )
        other = pod("elsewhere", REDIS)
        other["spec"]["nodeName"] = "node-8"
        await server.cluster.put("pods", other)
        await server.cluster.put("pods", pod("wrong", "redis:\n  - {}\n  - password: ${file:/etc/shadow}\n"))
        await until(lambda: len(site.agent.snapshot().problems) == 2, "the problems")
        assert [str(one) for one in site.agent.snapshot().problems] == [
            f"payments/wrong: {NOTE}:2: redis[0]: reaches a host that is not the pod's own; "
            'write "%%host%%", or have it added to `hosts:` of agent.yaml',
            f"payments/wrong: {NOTE}:3: redis[1].password: a '${{' is not resolved here; "
            "%%env:NAME%% is a variable of the target",
        ]
        leaving = pod("api-1", REDIS, port=redis.port)
        leaving["metadata"]["deletionTimestamp"] = "2026-11-23T20:36:00Z"
        await server.cluster.put("pods", leaving)
        await until(lambda: site.agent.snapshot().instances == (), "its end")
        await server.cluster.delete("pods", leaving)
        await server.cluster.delete("pods", pod("wrong"))
        await until(lambda: site.agent.snapshot().problems == (), "the end of the problems")
        assert [b.instance for b in site.batches if b.closed] == ["redis/payments.api-1"]
    asked = {(seen.path, seen.query.get("fieldSelector")) for seen in server.requests}
    assert asked == {("/api/v1/pods", f"spec.nodeName={NODE}")}  # nothing else of the cluster


async def test_the_manifest_grants_exactly_what_the_requests_need(drive: Drive) -> None:
    asked = set()
    for streaming in ("yes", "refused"):
        server = await drive.server(streaming=streaming)
        config = K8sDiscoveryConfig(type="k8s", node=NODE, kubeconfig=server.kubeconfig(drive.folder))
        looking = asyncio.create_task(K8sDiscovery(config).run(lambda targets: None))
        await until(lambda server=server: server.watching, "the watch")
        looking.cancel()
        await asyncio.wait({looking})
        asked |= {needed(seen) for seen in server.requests}
    assert asked == granted("rbac-autodiscovery.yaml")


async def test_templates_find_pods_and_an_agent_finds_them_again(
    drive: Drive, redis: RedisServer, tmp_path: Path
) -> None:
    server = await drive.server()
    site = Site(tmp_path, server)
    (site.conf / "caches.yaml").write_text(
        'check: redis\ninstances:\n  - {host: "%%host%%", port: "%%port_redis%%", interval: 200ms, '
        'match: {image: "redis:7*", labels: {app.kubernetes.io/name: api}}}\n'
    )
    await server.cluster.put("pods", pod("api-1", port=redis.port))
    for _ in range(2):
        async with site.running():
            await site.well("redis/payments.api-1")
            (vitals,) = site.agent.snapshot().instances
            assert (vitals.origin, Path(vitals.file).name, vitals.line) == ("pod payments/api-1", "caches.yaml", 3)


async def test_an_api_server_that_is_down_at_the_start_holds_nothing_up(
    drive: Drive, redis: RedisServer, tmp_path: Path
) -> None:
    server = await drive.server()
    site = Site(tmp_path, server)
    (site.conf / "redis.yaml").write_text(f"instances: [{{host: 127.0.0.1, port: {redis.port}, interval: 200ms}}]\n")
    await server.cluster.put("pods", pod("quiet"))
    await server.cluster.put("pods", pod("api-1", REDIS, port=redis.port))
    await server.stop()
    async with site.running():
        await site.well("redis/redis")
        await until(lambda: site.trouble != "", "the trouble")
        assert site.trouble.startswith("pods are not being watched, what was found last goes on: the API server: ")
        assert site.agent.snapshot().discoveries[0].errors == 1  # once, however often it is tried
        await server.start()
        await site.well("redis/payments.api-1")
        await until(lambda: site.trouble == "", "the end of the trouble")
        await server.stop()
        await until(lambda: site.trouble != "", "the trouble")
        await site.well("redis/payments.api-1")  # the pod is still there, as far as anybody knows
        server.cluster.compact()
        await server.cluster.delete("pods", pod("api-1"))
        await server.start()
        await until(lambda: [v.instance for v in site.agent.snapshot().instances] == ["redis/redis"], "its end")
        await until(lambda: site.trouble == "", "the end of the trouble")


async def test_what_rbac_forbids_names_the_rule(drive: Drive, tmp_path: Path) -> None:
    server = await drive.server()
    server.on("/api/v1/pods", "auth/403-no-rbac.pods.json")
    site = Site(tmp_path, server)
    async with site.running():
        await until(lambda: site.trouble != "", "the trouble")
        assert site.trouble == (
            "may not list and watch pods; the ClusterRole lacks "
            '{apiGroups: [""], resources: [pods], verbs: [list, watch]}'
        )


async def test_a_node_without_pods_may_have_another_name(drive: Drive, tmp_path: Path) -> None:
    server = await drive.server()
    site = Site(tmp_path, server)
    async with site.running():
        await until(lambda: site.trouble != "", "the trouble")
        assert site.trouble == f"no pod is on a node called {NODE}; is `node:` the node's name?"
        await server.cluster.put("pods", pod("api-1"))
        await until(lambda: site.trouble == "", "the end of the trouble")


async def test_a_kubeconfig_that_is_not_there_is_said_and_tried_again(drive: Drive, tmp_path: Path) -> None:
    server = await drive.server()
    site = Site(tmp_path, server)
    (tmp_path / "kubeconfig").unlink()
    async with site.running():
        await until(lambda: site.trouble != "", "the trouble")
        assert site.trouble == (
            f"there is no kubeconfig {tmp_path}/kubeconfig; "
            "give the path in `kubeconfig`, or run the agent in the cluster"
        )


async def test_doctor_looks_at_the_way_and_the_rights(drive: Drive) -> None:
    server = await drive.server()
    config = K8sDiscoveryConfig(type="k8s", node=NODE, kubeconfig=server.kubeconfig(drive.folder))
    diagnosis = Diagnosis()
    await K8sDiscovery(config).diagnose(diagnosis)
    assert [one.what for one in diagnosis.symptoms][:1] == ["kubeconfig"]
    assert {one.what for one in diagnosis.symptoms} >= {"configuration", "login", "rights"}


def test_the_node_has_the_name_of_a_node() -> None:
    with pytest.raises(ValueError, match="must be the name of a node"):
        K8sDiscoveryConfig(type="k8s", node="a,metadata.name=b")
