"""What happens while the agent watches: connections break, servers restart, tokens change, nodes are drained."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import json
import statistics
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from checks.k8s import oracle
from checks.k8s.driver import FAST, Drive, Outcome, Watching, replay, until
from vedette import Status
from vedette_checks.k8s.errors import ApiError, Fault, refusal
from vedette_checks.k8s.pace import Pace
from vedette_checks.k8s.pods import PodTable

pytestmark = pytest.mark.anyio

PODS = "/api/v1/pods"
TOO_LARGE = "errors/504-resource-version-too-large.json"
READY = "kubernetes_state.deployment.replicas_ready"
FEW: dict[str, Any] = {"usage": False, "resources": ["pods", "nodes"]}


def named(server: Any, resource: str, name: str) -> dict[str, Any]:
    """An object by name, as it is now."""
    (found,) = [one for one in server.cluster.objects(resource) if one["metadata"]["name"] == name]
    return found


def of_app(server: Any, app: str) -> list[dict[str, Any]]:
    return [
        pod
        for pod in server.cluster.objects("pods")
        if pod["metadata"].get("labels", {}).get("app") == app and pod["status"].get("containerStatuses")
    ]


async def caught_up(server: Any, watching: Watching) -> None:
    """Wait until the watch of pods is at the server's version."""
    version = server.cluster.version
    await until(lambda: int(watching.watch("pods")._version or 0) >= version, "the last event")


def agrees(outcome: Outcome, server: Any) -> None:
    """Every sum of pods is what plain json gives for the cluster as it is now; what is gone may show as 0."""
    expected = {series: float(value) for series, value in oracle.of_pods(server.cluster.objects("pods")).items()}
    found = {series: value for series, value in outcome.series.items() if series in expected}
    for series in expected:
        if series[0] not in ("k8s.containers.restarted", "k8s.initcontainers.restarted"):
            assert found[series] == pytest.approx(expected[series], rel=1e-12), series
    pods = ("k8s.pods.", "k8s.node.", "kubernetes_state.pod.", "kubernetes_state.container.")
    rest = {series: value for series, value in outcome.series.items() if series[0].startswith(pods)}
    assert {series: value for series, value in rest.items() if series not in expected and value} == {}


async def restart(server: Any, app: str, times: int = 1) -> None:
    """A container of each pod of an app restarts."""
    for pod in of_app(server, app):
        pod["status"]["containerStatuses"][0]["restartCount"] += times
        await server.cluster.put("pods", pod)


def restarted(outcome: Outcome, app: str) -> float:
    return outcome.total("k8s.containers.restarted", f"kube_deployment:{app}")


async def test_changes_show_in_the_next_run_and_only_once(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    agrees(await watching.run(), server)
    assert restarted(await watching.run(), "search") == 0  # what was before is no restart of today
    await restart(server, "search", times=2)
    (gone, *_), late = of_app(server, "api"), of_app(server, "worker")[0]
    await server.cluster.delete("pods", gone)
    late["status"]["phase"] = "Failed"
    await server.cluster.put("pods", late)
    new = copy.deepcopy(late)
    new["metadata"] |= {"name": "worker-new", "uid": "new-uid"}
    new["status"] |= {"phase": "Running"}
    new["status"]["containerStatuses"][0]["restartCount"] = 3
    await server.cluster.put("pods", new)
    await caught_up(server, watching)
    outcome = await watching.run()
    agrees(outcome, server)
    assert restarted(outcome, "search") == 2 * len(of_app(server, "search"))
    assert restarted(outcome, "worker") == 3  # all of a pod that is new
    assert restarted(await watching.run(), "search") == 0
    assert len([seen for seen in server.asked(PODS) if seen.lists]) == 1


async def test_events_that_gather_between_two_looks_all_count(drive: Drive) -> None:
    server = await drive.server(small=True)
    pace = paced(breath=0.05)
    watching = drive.watching(server, pace=pace, **FEW)
    await watching.run()
    for _ in range(3):
        await restart(server, "search")
    await caught_up(server, watching)
    outcome = await watching.run()
    agrees(outcome, server)
    assert restarted(outcome, "search") == 3 * len(of_app(server, "search"))


async def test_a_watch_that_breaks_goes_on_where_it_was_without_a_gap(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    running = (await watching.run()).value("k8s.pods.running")
    await restart(server, "search")
    await caught_up(server, watching)
    for _ in range(3):
        server.cut()
        await restart(server, "search")
        meanwhile = await watching.run()
        assert meanwhile.value("k8s.pods.running") == running  # no gap, whatever the connection does
        assert meanwhile.status("k8s.can_connect").status is Status.OK
        await caught_up(server, watching)
    outcome = await watching.run()
    agrees(outcome, server)
    assert watching.watch("pods").lists == 1
    total = sum(pod["status"]["containerStatuses"][0]["restartCount"] for pod in of_app(server, "search"))
    assert outcome.total("kubernetes_state.container.restarts", "kube_deployment:search") == total


async def test_an_api_server_that_restarts_makes_for_no_gap_and_no_double_counting(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    first = await watching.run()
    await server.stop()
    await until(
        lambda: watching.watch("pods").fault is not None and watching.watch("nodes").fault is not None, "the loss"
    )
    outcome = await watching.run()
    assert outcome.series == first.series  # what was known last
    said = outcome.status("k8s.can_connect")
    assert said.status is Status.CRITICAL
    assert said.message == (
        f"the API server: nothing listens on 127.0.0.1:{server.port}; is it running, and is this its address?"
    )
    assert outcome.status("k8s.watch", "resource:pods").status is Status.WARNING
    await restart(server, "search", times=5)
    new = of_app(server, "search")[0]
    new["metadata"] |= {"name": "search-new", "uid": "uid-new"}
    new["status"]["containerStatuses"][0]["restartCount"] = 1
    await server.cluster.put("pods", new)
    gone = of_app(server, "api")[0]
    await server.cluster.delete("pods", gone)
    server.cluster.compact()
    await server.start()
    await until(lambda: watching.watch("pods").lists == 2 and watching.watch("pods").fault is None, "a new list")
    outcome = await watching.run()
    agrees(outcome, server)
    assert restarted(outcome, "search") == 5 * (len(of_app(server, "search")) - 1) + 1
    assert outcome.status("k8s.can_connect").status is Status.OK
    assert restarted(await watching.run(), "search") == 0


async def test_what_is_stale_is_absent(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, stale_after="30s", **FEW)
    running = (await watching.run()).value("k8s.pods.running")
    server.on(PODS, "etcd-down/get-lease.json")
    server.cut()
    watch = watching.watch("pods")
    await until(lambda: watch.fault is not None, "the refusal")
    await until(lambda: watching.watch("nodes").fault is None and server.watching, "the watch of nodes")
    outcome = await watching.run()
    assert outcome.value("k8s.pods.running") == running
    assert outcome.status("k8s.watch", "resource:pods").status is Status.WARNING
    watch.heard -= 31
    outcome = await watching.run()
    assert not {
        name
        for name in outcome.names
        if name.startswith(("k8s.pods", "kubernetes_state.pod", "kubernetes_state.container"))
    }
    assert outcome.value("k8s.nodes.ready") == 10  # the rest goes on
    said = outcome.status("k8s.watch", "resource:pods")
    assert said.status is Status.CRITICAL
    assert said.message == (
        "pods are not being watched, nothing is shown: the API server is overloaded or half down: HTTP 504, Timeout: "
        "request did not complete within the allotted timeout"
    )
    assert outcome.status("k8s.can_connect").status is Status.OK


async def test_nothing_known_at_all_is_an_error_of_the_run(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, stale_after="30s", **FEW)
    await watching.run()
    await server.stop()
    await until(lambda: all(one.fault is not None for one in watching.check._watches), "the loss")
    for one in watching.check._watches:
        one.heard -= 31
    outcome = await watching.run()
    assert outcome.batch.samples == ()
    assert outcome.error is not None
    assert str(outcome.error) == f"the API server: nothing listens on 127.0.0.1:{server.port}"


async def test_a_target_that_is_down_at_the_start_is_watched_once_it_is_up(drive: Drive) -> None:
    server = await drive.server(small=True)
    await server.stop()
    watching = drive.watching(server, **FEW)
    outcome = await watching.run()
    assert str(outcome.error) == f"the API server: nothing listens on 127.0.0.1:{server.port}"
    await server.start()
    await until(lambda: watching.watch("pods").synced and watching.watch("nodes").synced, "the lists")
    agrees(await watching.run(), server)


async def test_a_rule_that_is_added_later_is_noticed(drive: Drive) -> None:
    server = await drive.server(small=True, forbidden={("watch", "pods"), ("list", "pods")})
    watching = drive.watching(server, **FEW)
    assert (await watching.run()).status("k8s.watch", "resource:pods").status is Status.WARNING
    server.forbidden.clear()
    await until(lambda: watching.watch("pods").synced, "the list")
    outcome = await watching.run()
    agrees(outcome, server)
    assert outcome.total("k8s.containers.restarted") == 0


async def test_a_node_that_is_drained_under_the_agent_empties_step_by_step(drive: Drive) -> None:
    server = await drive.server(small=True)
    name = "worker-03"
    watching = drive.watching(server, scope="node", node=name, usage=False, kubelet=None)
    first = await watching.run()
    node = named(server, "nodes", name)
    node["spec"]["unschedulable"] = True
    await server.cluster.put("nodes", node)
    own = [pod for pod in server.cluster.objects("pods") if pod["spec"].get("nodeName") == name]
    mine = ("k8s.node.pods", frozenset({f"node:{name}"}))
    for pod in own:
        pod["metadata"]["deletionTimestamp"] = "2026-11-23T20:40:00Z"
        await server.cluster.put("pods", pod)
        replaced = copy.deepcopy(pod)  # its successor runs elsewhere: none of this node's
        replaced["metadata"] |= {"name": f"{pod['metadata']['name']}-2", "uid": f"{pod['metadata']['uid']}-2"}
        del replaced["metadata"]["deletionTimestamp"]
        replaced["spec"]["nodeName"] = "worker-05"
        await server.cluster.put("pods", replaced)
    store = watching.watch("pods").store
    await until(lambda: store.changes == len(own), "the events")
    outcome = await watching.run()
    assert outcome.total("k8s.pods.terminating") == len(own)
    assert outcome.series[mine] == first.series[mine]
    for pod in own[: len(own) // 2]:
        await server.cluster.delete("pods", pod)
    await until(lambda: len(store.rows) == len(own) - len(own) // 2, "the deletions")
    left = [pod for pod in own[len(own) // 2 :] if pod["status"]["phase"] not in ("Succeeded", "Failed")]
    assert (await watching.run()).series[mine] == len(left)
    for pod in own[len(own) // 2 :]:
        await server.cluster.delete("pods", pod)
    await until(lambda: not store.rows, "the last deletion")
    outcome = await watching.run()
    assert (outcome.value("k8s.pods.running"), outcome.value("k8s.pods.failed")) == (0, 0)
    assert "k8s.node.pods" not in outcome.names
    assert outcome.value("kubernetes_state.node.status") == 1
    assert outcome.value("kubernetes_state.node.status", "status:unschedulable") == 1


# A server that answers, but does not work


def paced(**changed: Any) -> Pace:
    return Pace(**{name: getattr(FAST, name) for name in Pace.__slots__} | changed)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "answer",
    [
        replay.recorded("watch/500-error-event.old-etcd.no-rv.ndjson"),
        replay.streamed([b'{"type":"MODIFIED","obj'], cut=True),
        replay.streamed([], cut=True),
    ],
    ids=["error", "half", "nothing"],
)
async def test_to_answer_and_then_to_fail_is_no_sign_of_life(drive: Drive, answer: Any) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, stale_after="30s", resources=["nodes"], usage=False, pace=paced(most=2.0))
    await watching.run()
    watch = watching.watch("nodes")
    server.on(lambda seen: seen.watches, answer)
    server.cut()
    await until(lambda: watch.fault is not None, "the finding")
    heard = watch.heard
    await until(lambda: watch._failures >= 5, "pauses that grow")
    assert watch.heard == heard
    assert (await watching.run()).value("k8s.nodes.ready") == 10
    watch.heard -= 31
    await until(lambda: watch.fault is not None, "the next refusal")
    outcome = await watching.run()
    assert "k8s.nodes.ready" not in outcome.names
    assert outcome.status("k8s.can_connect").status is Status.CRITICAL


async def hung(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_server_that_never_answers_is_not_connected_to(drive: Drive) -> None:
    server = await drive.server(small=True)
    server.on(lambda _: True, hung)
    outcome = await drive.watching(server, timeout=1, pace=paced(quiet=0.1), **FEW).run()
    said = outcome.status("k8s.can_connect")
    text = "the API server says nothing; is it running, and is this its address?"
    assert (said.status, said.message) == (Status.CRITICAL, text)
    assert str(outcome.error) == "the API server says nothing"
    assert outcome.batch.samples == ()


async def test_a_server_that_freezes_is_found_out(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, stale_after="10s", pace=paced(answer=0.5), **FEW)
    assert (await watching.run()).value("k8s.nodes.ready") == 10
    for watch in watching.check._watches:  # connections that stay, without a bookmark for longer than is usual
        watch.heard -= 40
        watch._since -= 40
    outcome = await watching.run()
    assert outcome.batch.samples == ()
    assert outcome.status("k8s.can_connect").status is Status.CRITICAL
    server.on(lambda _: True, hung)
    server.cut()
    await until(lambda: all(watch.fault is not None for watch in watching.check._watches), "the finding")
    said = (await watching.run()).status("k8s.can_connect")
    assert said.message == "the API server: no answer in time; is it running, and is this its address?"


async def test_a_watch_that_holds_is_a_sign_of_life_even_where_a_proxy_cuts_it_before_a_bookmark(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    await watching.run()
    watch = watching.watch("pods")
    watch.heard -= 200
    watch._failures = 3
    watch._since -= 40
    since = watch._since
    server.cut()
    await until(lambda: watch.heard == since, "the cut")
    await until(lambda: watch._since > since, "the next watch")
    assert watch.fault is None


async def test_a_resource_that_is_refused_does_not_hide_that_the_server_is_down(drive: Drive) -> None:
    server = await drive.server(small=True, forbidden={("list", "resourcequotas"), ("watch", "resourcequotas")})
    options = {"resources": ["nodes", "resourcequotas"], "usage": False}
    watching = drive.watching(server, pace=paced(refused=600.0), **options)
    assert (await watching.run()).status("k8s.can_connect").status is Status.OK
    await server.stop()
    await until(lambda: watching.watch("nodes").fault is not None, "the loss")
    outcome = await watching.run()
    said = outcome.status("k8s.can_connect")
    assert said.status is Status.CRITICAL
    assert said.message.startswith("the API server: nothing listens on ")
    assert outcome.status("k8s.watch", "resource:resourcequotas").message.startswith("may not list and watch")


# What a server may say that a list does not expect


def expire(server: Any) -> None:
    """The server knows no version any more that was seen so far."""
    server.cluster.version += 1
    server.cluster.compact()


async def test_what_goes_while_a_streaming_list_comes_is_gone(drive: Drive) -> None:
    server = await drive.server(small=True)
    pods = server.cluster.collections["pods"]
    (gone, other, *_) = of_app(server, "search")
    watching = drive.watching(server, **FEW)
    await watching.run()
    gone["status"]["containerStatuses"][0]["restartCount"] += 2
    came = copy.deepcopy(other)
    came["metadata"] |= {"name": "search-brief", "uid": "uid-brief"}
    came["status"]["containerStatuses"][0]["restartCount"] = 3
    before = [pods.event("ADDED", item.raw) for item in pods.items.values()]
    during = [pods.event(type_, json.dumps(pod).encode())
              for type_, pod in (("DELETED", gone), ("ADDED", came), ("DELETED", came))]  # fmt: skip
    hold = asyncio.Event()
    lines = [*before, *during, pods.bookmark(server.cluster.version, end=True)]
    server.on(lambda seen: seen.path == PODS and "sendInitialEvents" in seen.query, replay.streamed(lines, hold=hold))
    del pods.items[gone["metadata"]["namespace"], gone["metadata"]["name"]]
    expire(server)
    server.cut()
    await until(lambda: watching.watch("pods").lists == 2, "the list")
    outcome = await watching.run()
    agrees(outcome, server)
    assert restarted(outcome, "search") == 2 + 3
    assert restarted(await watching.run(), "search") == 0
    hold.set()


async def test_a_list_from_a_replica_that_lags_behind_counts_no_restart_again(drive: Drive) -> None:
    server = await drive.server(small=True, streaming="refused")
    watching = drive.watching(server, **FEW)
    await watching.run()
    behind = server.cluster.collections["pods"].listed("", "", server.cluster.version)
    await restart(server, "search")
    gone = of_app(server, "search")
    for pod in gone[1:]:
        await server.cluster.delete("pods", pod)
    await caught_up(server, watching)
    assert restarted(await watching.run(), "search") == len(gone)
    seen_last = server.cluster.version

    async def late(_: web.Request) -> web.Response:
        return web.Response(body=behind, content_type="application/json")

    server.on(lambda seen: seen.path == PODS and not seen.watches, late, times=1)
    server.on(lambda seen: seen.path == PODS and seen.watches, "watch/410-error-event.after-restart.ndjson", times=1)
    server.cut()
    await until(lambda: watching.watch("pods").lists == 2, "the list")
    await caught_up(server, watching)
    outcome = await watching.run()
    agrees(outcome, server)
    assert restarted(outcome, "search") == 0
    first, second = [seen.query for seen in server.asked(PODS) if not seen.watches]
    assert first == {"resourceVersion": "0", "limit": "500"}
    assert second == {"resourceVersion": str(seen_last), "resourceVersionMatch": "NotOlderThan"}
    await restart(server, "search")
    await caught_up(server, watching)
    assert restarted(await watching.run(), "search") == 1  # of the one that is left, and each from now on


async def test_a_list_from_a_version_that_the_server_does_not_have_is_made_anew_from_any(drive: Drive) -> None:
    server = await drive.server(small=True, streaming="refused")
    watching = drive.watching(server, **FEW)
    await watching.run()
    server.on(lambda seen: seen.path == PODS and "resourceVersionMatch" in seen.query, TOO_LARGE)
    server.on(lambda seen: seen.path == PODS and seen.watches, "watch/410-error-event.after-restart.ndjson", times=1)
    server.cut()
    await until(lambda: watching.watch("pods").lists == 2, "the list")
    lists = [seen.query for seen in server.asked(PODS) if not seen.watches]
    assert [query["resourceVersion"] for query in lists] == ["0", "1751", ""]
    agrees(await watching.run(), server)


async def test_an_odd_object_does_not_stop_its_watch(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, resources=["deployments"], usage=False)
    await watching.run()
    odd, other = server.cluster.objects("deployments")[:2]
    odd["metadata"] |= {"generation": "7", "labels": []}
    await server.cluster.put("deployments", odd)
    other["status"]["readyReplicas"] = 77
    await server.cluster.put("deployments", other)
    await server.cluster.delete("deployments", odd)
    watch = watching.watch("deployments")
    await until(lambda: watch._version == str(server.cluster.version), "the events")
    outcome = await watching.run()
    ready = {series[1]: value for series, value in outcome.series.items() if series[0] == READY}
    assert 77 in ready.values()
    assert len(ready) == len(server.cluster.objects("deployments"))
    assert (watch.fault, watch.lists) == (None, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"<html>bad gateway</html>",
        b'{"type":"MODIFIED","object":{"metadata":{"uid":7}}}',
        b'{"type":"DELETED","object":{"metadata":{"uid":7}}}',
        b'{"type":"\xff\xfe',
    ],
)
async def test_a_line_that_cannot_be_read_makes_for_a_new_list(drive: Drive, line: bytes) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    await watching.run()
    watch = watching.watch("pods")
    server.on(lambda seen: seen.path == PODS and seen.watches, replay.streamed([line + b"\n"]), times=1)
    server.cut()
    await restart(server, "search")
    await until(lambda: watch.fault is None and server.watching == 2, "the watch")
    await caught_up(server, watching)
    outcome = await watching.run()
    agrees(outcome, server)
    assert restarted(outcome, "search") == len(of_app(server, "search"))
    assert watch.lists == 2
    assert outcome.status("k8s.can_connect").status is Status.OK


# Politeness


async def test_after_an_expired_version_each_agent_waits_a_time_of_its_own(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    await watching.run()
    watch = watching.watch("pods")
    watch._pace = Pace()
    gone = ApiError(Fault.EXPIRED, "too old", status=410)
    pauses = []
    for _ in range(200):
        watch._told += 1
        pauses.append(await watch._react(gone))
    assert 0 <= min(pauses) < 1 < 4 < max(pauses) <= 5
    assert statistics.pstdev(pauses) > 1
    again = [await watch._react(gone) for _ in range(8)]  # each list is followed by 410 at once
    assert all(pause >= 15 for pause in again[5:])
    assert max(again) <= 30


async def test_pauses_grow_with_failures_up_to_a_limit_and_are_never_alike(drive: Drive) -> None:
    watching = drive.watching(await drive.server(small=True), **FEW)
    await watching.run()
    watch = watching.watch("pods")
    watch._pace = Pace()
    down = ApiError(Fault.UNREACHABLE, "down")
    pauses = [await watch._react(down) for _ in range(12)]
    for number, pause in enumerate(pauses):
        longest = min(2.0**number, 30.0)
        assert longest / 2 <= pause <= longest
    assert len(set(pauses[5:])) > 3
    for fault, least in ((Fault.FORBIDDEN, 60.0), (Fault.ABSENT, 300.0)):
        assert least <= await watch._react(ApiError(fault, "no")) <= least * 1.2
    assert 40 <= await watch._react(ApiError(Fault.BUSY, "busy", retry_after=40.0)) <= 48


async def test_a_watch_that_ends_at_once_again_and_again_is_not_asked_for_without_pause(drive: Drive) -> None:
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.watches and "sendInitialEvents" not in seen.query,
              "watch/pods.compacted-rv-still-served.ndjson")  # fmt: skip
    pace = paced(first=60.0, most=60.0)
    watching = drive.watching(server, pace=pace, resources=["pods"], usage=False)
    await watching.run()
    await until(lambda: len(server.asked(PODS)) == 3, "the first watch")
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(server.asked(PODS)) == 3  # the streaming list, the list, one watch


async def test_watches_last_a_time_of_their_own_and_are_never_listed_again(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, usage=False)
    for _ in range(3):
        await watching.run()
    lifetimes = [int(seen.query["timeoutSeconds"]) for seen in server.requests]
    assert len(server.requests) == 11
    assert all(300 <= lifetime <= 600 for lifetime in lifetimes)
    assert len(set(lifetimes)) > 3


# Memory


def churn(table: PodTable, pods: list[dict[str, Any]], changes: int) -> None:
    """Pods come, restart, and go: none of them comes back."""
    from msgspec import json

    for number in range(changes // 4):
        pod = copy.copy(pods[number % len(pods)])
        app = f"app-{number % 3000}"
        pod["metadata"] = {"name": f"p-{number}", "namespace": "web", "uid": f"uid-{number}", "resourceVersion": "1",
                           "ownerReferences": [{"kind": "Job", "name": app, "controller": True}]}  # fmt: skip
        for restarts in range(2):
            pod["status"] = {**pod["status"], "reason": f"Reason{number}"}
            pod["status"]["containerStatuses"] = [{**pod["status"]["containerStatuses"][0], "restartCount": restarts}]
            table.put(json.encode(pod))
        pod["metadata"] = {**pod["metadata"], "deletionTimestamp": "2026-11-23T20:40:00Z"}
        table.put(json.encode(pod))
        table.remove(json.encode(pod))


def held(table: PodTable) -> dict[str, int]:
    return {
        "rows": len(table.rows),
        "groups": len(table.workloads.groups),
        "members": len(table.workloads.members),
        "nodes": len(table.nodes.groups),
        "reasons": len(table._reasons),
        "alike": len(table._alike),
        "shared": len(table._shared),
    }


async def test_what_is_kept_is_bounded_by_what_there_is(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    await watching.run()
    table = watching.watch("pods").store
    before = held(table)
    await asyncio.to_thread(churn, table, of_app(server, "search"), 4000)
    await watching.run()
    after = held(table)
    assert {name: after[name] for name in ("rows", "groups", "members", "nodes")} == {
        name: before[name] for name in ("rows", "groups", "members", "nodes")
    }
    assert after["reasons"] <= 110
    assert after["alike"] <= 2_000
    assert after["shared"] <= 10_001
    assert not table.restarted
    agrees(await watching.run(), server)


def resident() -> float:
    from pathlib import Path

    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def test_what_comes_and_goes_on_the_wire_leaves_nothing_behind(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    await watching.run()
    table = watching.watch("pods").store
    before = held(table)
    (first, *_) = of_app(server, "search")
    for number in range(300):
        pod = copy.deepcopy(first)
        pod["metadata"] |= {"name": f"p-{number}", "uid": f"uid-{number}", "ownerReferences": [
            {"kind": "Job", "name": f"app-{number}", "controller": True}]}  # fmt: skip
        await server.cluster.put("pods", pod)
        if number % 2:  # some are still there while others come
            await server.cluster.delete("pods", copy.deepcopy(pod))
    await caught_up(server, watching)
    assert held(table)["rows"] == before["rows"] + 150
    agrees(await watching.run(), server)
    for pod in list(server.cluster.objects("pods")):
        if pod["metadata"]["uid"].startswith("uid-"):
            await server.cluster.delete("pods", pod)
    await caught_up(server, watching)
    await watching.run()
    assert held(table) == {**before, "shared": held(table)["shared"]}  # a cache that is bounded
    agrees(await watching.run(), server)


@pytest.mark.soak
async def test_memory_after_100_000_changes_is_as_before_plus_10_mb(drive: Drive) -> None:
    server = await drive.server(small=True)
    watching = drive.watching(server, **FEW)
    await watching.run()
    pods = of_app(server, "search")
    table = watching.watch("pods").store
    churn(table, pods, 2000)  # what Python itself takes once
    await watching.run()
    gc.collect()
    before = resident()
    for _ in range(10):
        await asyncio.to_thread(churn, table, pods, 10_000)
        await watching.run()
    gc.collect()
    assert table.changes >= 100_000
    grown = resident() - before
    assert grown <= 10
    agrees(await watching.run(), server)


@pytest.mark.parametrize("streaming", ["yes", "refused"])
async def test_lists_that_do_not_end_leave_the_others_their_turn(drive: Drive, streaming: Any) -> None:
    server = await drive.server(small=True)
    server.streaming = streaming
    over = asyncio.Event()

    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while not over.is_set():
            await answer.write(b" ")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.05)
        return answer

    slow = ("deployments", "daemonsets", "statefulsets")  # as many as may list at a time
    server.on(lambda seen: seen.path.endswith(slow), trickle)
    pace = replace(FAST, whole=0.5)
    watching = drive.watching(server, pace=pace, usage=False, resources=[*slow, "nodes"])
    try:
        await watching.check.open()
        watching.opened = True
        await until(lambda: watching.watch("nodes").synced, "the turn of the nodes")
        await until(lambda: watching.watch(slow[0]).fault is not None, "the end of patience")
        assert watching.watch(slow[0]).fault.message == "its list did not end within 0.5s"
    finally:
        over.set()


def test_no_retry_after_puts_a_watch_to_sleep_for_a_year() -> None:
    assert refusal(429, b"Too many requests", {"Retry-After": "31536000"}).retry_after == 300
    body = b'{"message":"slow","details":{"retryAfterSeconds":86400}}'
    assert refusal(503, body, {}).retry_after == 300
    assert refusal(429, b"Too many requests", {"Retry-After": "7"}).retry_after == 7
