"""What the recordings' README says of lists, objects, watches and errors, each by a test named after it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from aiohttp import web

from checks.k8s.driver import (
    HASTY,
    NOW,
    Drive,
    Outcome,
    few,
    node_metrics,
    parsed,
    recording,
    recordings,
    replay,
    until,
)  # fmt: skip
from vedette import Status
from vedette_checks.k8s.decode import MARK, event_of
from vedette_checks.k8s.errors import ApiError, Fault, of_event, refusal
from vedette_checks.k8s.nodes import Node
from vedette_checks.k8s.pods import PodTable
from vedette_checks.k8s.quantities import NANO, billionths
from vedette_checks.k8s.splitting import Items, Lines

pytestmark = pytest.mark.anyio

PODS = "/api/v1/pods"
WEB = "/api/v1/namespaces/web/pods"
FEW: dict[str, Any] = {"usage": False}


def items_of(body: bytes, size: int) -> tuple[list[bytes], Items]:
    """The items of a list that comes in parts of this size."""
    items = Items()
    found: list[bytes] = []

    def take(item: bytes) -> None:
        msgspec.json.decode(item)
        found.append(item)

    for at in range(0, len(body), size):
        items.feed(body[at : at + size], take)
    items.end(take)
    return found, items


def told(file: str) -> ApiError:
    """What a recorded refusal amounts to."""
    found = recording(file)
    return refusal(found.status, found.body, dict(found.headers))


def running(file: str) -> int:
    return sum(pod["status"]["phase"] == "Running" for pod in parsed(file)["items"])


def some_run() -> int:
    """How many of the small cluster's pods run."""
    return sum(pod["status"]["phase"] == "Running" for pod in json.loads(few())["items"])


async def listing(drive: Drive, answer: Any, **options: Any) -> tuple[Any, Outcome]:
    """A run over a server without streaming lists, whose list of pods is this answer."""
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.path == PODS and seen.lists and not seen.watches, answer)
    return server, await drive.watching(server, resources=["pods"], **FEW, **options).run()


# Lists


async def test_a_list_from_the_cache_ignores_the_limit_and_comes_whole(drive: Drive) -> None:
    server, outcome = await listing(drive, "list/pods.rv0-limit100.json")
    (asked,) = [seen for seen in server.asked(PODS) if not seen.watches]
    assert asked.query == {"resourceVersion": "0", "limit": "500"}
    assert outcome.value("k8s.pods.running") == running("list/pods.rv0-limit100.json") == 374
    await until(lambda: server.watching, "the watch")
    assert server.asked(PODS)[-1].query["resourceVersion"] == "1741"  # the list's own


async def test_a_list_in_pages_is_followed_by_its_continue_tokens(drive: Drive) -> None:
    pages = [f"list/pods.limit100.page{number}.json" for number in range(1, 6)]
    server = await drive.server(small=True, streaming="refused")
    for page in pages:
        server.on(lambda seen: seen.path == PODS and not seen.watches, page, times=1)
    outcome = await drive.watching(server, resources=["pods"], **FEW).run()
    assert outcome.value("k8s.pods.running") == sum(map(running, pages))
    tokens = [parsed(page)["metadata"].get("continue", "") for page in pages]
    lists = [seen.query for seen in server.asked(PODS) if not seen.watches]
    assert [query.get("continue", "") for query in lists] == ["", *tokens[:-1]]
    assert all("resourceVersion" not in query for query in lists[1:])  # with `continue` it is 422, as recorded
    assert told("errors/422-continue-with-rv.json").fault is Fault.INVALID


def test_what_one_item_and_the_remaining_count_tell_is_not_asked_for() -> None:
    head = parsed("list/pods.limit1.json")["metadata"]
    assert head["remainingItemCount"] + 1 == len(parsed("list/pods.json")["items"])
    assert "remainingItemCount" not in parsed("list/pods.limit1-selector.json")["metadata"]  # so it is not relied on
    items, read = items_of(recording("list/pods.limit1.json").body, 1000)
    assert (len(items), read.head.token) == (1, head["continue"])


@pytest.mark.parametrize("file", ["list/pods-empty.json", "list/namespace-absent.json"])
async def test_a_namespace_that_does_not_exist_is_an_empty_one(drive: Drive, file: str) -> None:
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.path.endswith("/no-such-ns/pods") and not seen.watches, file)
    outcome = await drive.watching(server, resources=["pods"], namespaces=["no-such-ns"], **FEW).run()
    assert outcome.value("k8s.pods.running") == 0
    assert outcome.status("k8s.watch").status is Status.OK


async def test_objects_and_not_tables_are_asked_for_under_a_name_that_is_not_pretty_printed_for(drive: Drive) -> None:
    server = await drive.server(small=True)
    await drive.watching(server, resources=["pods"], **FEW).run()
    (asked,) = server.asked(PODS)
    assert asked.headers["accept"] == "application/json"  # a Table without objects has no namespace, labels or owner
    assert not asked.headers["user-agent"].startswith(("curl/", "Wget/", "Mozilla/"))
    assert asked.headers["accept-encoding"] == "identity"


async def test_a_pretty_printed_list_is_read_all_the_same(drive: Drive) -> None:
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.path == PODS and "continue" in seen.query, "list/pods-empty.json")
    server.on(lambda seen: seen.path == PODS and not seen.watches, "list/pods.pretty.limit2.json")
    outcome = await drive.watching(server, resources=["pods"], **FEW).run()
    assert outcome.value("k8s.pods.running") == running("list/pods.pretty.limit2.json") == 2


async def test_pages_without_end_are_a_finding(drive: Drive) -> None:
    _, outcome = await listing(drive, "list/pods.limit1.json")
    assert outcome.error is not None
    assert outcome.status("k8s.watch").message == (
        "pods are not being watched, nothing is shown: the API server refused: the pages of its list do not end"
    )


async def test_a_list_is_compressed_where_that_is_asked_for(drive: Drive) -> None:
    server = await drive.server(small=True, streaming="refused")
    watching = drive.watching(server, resources=["pods"], compression=True, **FEW)
    outcome = await watching.run()
    assert outcome.value("k8s.pods.running") == some_run()
    assert server.asked(PODS)[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("size", [1, 4_093, 1 << 20])
@pytest.mark.parametrize("file", ["list/hpas.json", "list/nodes.rv0.json", "list/pods.limit1.json"])
def test_a_list_is_cut_into_its_items_wherever_its_parts_end(file: str, size: int) -> None:
    body = recording(file).body
    if size == 1:
        body = body[:1] + body[1:]
        size = 97
    found, read = items_of(body, size)
    assert [json.loads(item) for item in found] == json.loads(body)["items"]
    assert read.head.version == json.loads(body)["metadata"]["resourceVersion"]


def test_what_looks_like_the_next_item_within_one_does_not_cut_it() -> None:
    spec = '{"y":[{"z":1},{"metadata":{"q":2}}]}'
    inner = f'{{"metadata":{{"name":"a","annotations":{{"x":"}},{{\\"metadata\\":{{"}}}},"spec":{spec}}}'
    body = f'{{"kind":"L","metadata":{{"resourceVersion":"7"}},"items":[{inner},{inner}]}}'.encode()
    for size in (1, 7, 1000):
        found, read = items_of(body, size)
        assert [json.loads(item) for item in found] == json.loads(body)["items"]
        assert read.head.version == "7"


def test_a_list_that_was_cut_is_no_list() -> None:
    with pytest.raises(ApiError, match="cut off"):
        items_of(recording("list/hpas.json").body[:-40], 512)
    with pytest.raises(ApiError, match="is none"):
        items_of(b"Too many requests, please try again later.\n", 512)


# Objects


async def test_zeros_that_are_left_out_and_an_empty_status_are_zero(drive: Drive) -> None:
    deployment = next(
        one for one in parsed("list/deployments.json")["items"] if one["metadata"]["name"] == "just-created"
    )
    assert deployment["status"] == {}
    outcome = await drive.watching(await drive.server(small=True), resources=["deployments"], **FEW).run()
    tags = ("kube_namespace:web", "kube_deployment:just-created")
    for name in ("replicas", "replicas_ready", "replicas_available", "replicas_unavailable", "replicas_updated"):
        assert outcome.value(f"kubernetes_state.deployment.{name}", *tags) == 0
    assert outcome.value("kubernetes_state.deployment.replicas_desired", *tags) == deployment["spec"]["replicas"]
    assert outcome.value("k8s.workload.generation_lag", *tags) == 1


async def test_nulls_are_as_if_left_out(drive: Drive) -> None:
    ghost = next(one for one in parsed("list/hpas.json")["items"] if one["metadata"]["name"] == "ghost")
    assert ghost["status"]["currentMetrics"] is None
    pods = recording("list/pods.json").body
    assert b'"lastProbeTime":null' in pods
    assert b'"startedAt":null' in pods
    outcome = await drive.watching(
        await drive.server(small=True), resources=["horizontalpodautoscalers", "pods"], **FEW
    ).run()
    assert outcome.value("k8s.hpa.current_replicas", "hpa:ghost") == 0
    assert "kubernetes_state.hpa.status_target_metric" not in {
        name for name, tags in outcome.series if "horizontalpodautoscaler:ghost" in tags
    }


def test_events_which_have_only_an_event_time_are_not_asked_for() -> None:
    scheduler = [
        one for one in parsed("list/events.json")["items"] if one.get("eventTime") and not one["lastTimestamp"]
    ]
    assert scheduler  # the recordings have some
    from vedette_checks.k8s.resources import RESOURCES

    assert "events" not in RESOURCES


async def test_a_crash_looping_pod_is_running_and_shows_by_why_it_waits(drive: Drive) -> None:
    looping = [
        pod
        for pod in parsed("list/pods.json")["items"]
        for one in pod["status"].get("containerStatuses", [])
        if one["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
    ]
    assert {pod["status"]["phase"] for pod in looping} == {"Running"}
    outcome = await drive.watching(await drive.server(), resources=["pods"], **FEW).run()
    name = "kubernetes_state.container.status_report.count.waiting"
    assert outcome.total(name, "reason:crashloopbackoff") == len(looping) > 0


async def test_a_terminating_pod_is_one_with_a_deletion_timestamp(drive: Drive) -> None:
    those = [pod for pod in parsed("list/pods.json")["items"] if "deletionTimestamp" in pod["metadata"]]
    outcome = await drive.watching(await drive.server(), resources=["pods"], **FEW).run()
    assert outcome.total("k8s.pods.terminating") == len(those) > 0


async def test_on_a_node_that_is_not_ready_only_the_pods_condition_falls(drive: Drive) -> None:
    node = parsed("get/node.json")
    assert {one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"} == {"Unknown"}
    name = node["metadata"]["name"]
    pods = [pod for pod in parsed("list/pods.json")["items"] if pod["spec"].get("nodeName") == name]
    running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
    table = PodTable()
    for pod in running:
        table.collect(msgspec.Raw(json.dumps(pod).encode()))
    table.finish()
    sums = {(key.metric, key.tags): sum(group.get(key, 0) for group in table.workloads.groups.values())
            for group in table.workloads.groups.values() for key in group}  # fmt: skip
    ready = [one["ready"] for pod in running for one in pod["status"]["containerStatuses"]]
    assert sums["kubernetes_state.container.ready", ()] == sum(ready) > 0
    conditions = [{one["type"]: one["status"] for one in pod["status"]["conditions"]}["Ready"] for pod in running]
    fallen = [
        pod
        for pod, condition in zip(running, conditions, strict=True)
        if condition == "False" and all(one["ready"] for one in pod["status"]["containerStatuses"])
    ]
    assert len(fallen) == 11  # their containers were ready when the node was heard of last
    assert sums["kubernetes_state.pod.ready", ("condition:true",)] == conditions.count("True")
    assert sums["kubernetes_state.pod.ready", ("condition:false",)] == conditions.count("False")
    assert table.phases["Running"] == len(running)
    outcome = await drive.watching(await drive.server(small=True), resources=["nodes"], **FEW).run()
    tags = (f"node:{name}", "condition:Ready", "status:unknown")
    assert outcome.value("kubernetes_state.node.by_condition", *tags) == 1


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("100m", NANO // 10),
        ("15872Mi", 15872 * 2**20 * NANO),
        ("4e9", 4 * 10**9 * NANO),
        ("4E9", 4 * 10**9 * NANO),
        ("4E", 4 * 10**18 * NANO),
        ("33G", 33 * 10**9 * NANO),
        ("33686018048", 33686018048 * NANO),
        ("343597383680m", 343597383680 * NANO // 1000),
        ("1.5Gi", 3 * 2**29 * NANO),
        (".5", NANO // 2),
        ("+2k", 2000 * NANO),
        ("-1", -NANO),
        ("123n", 123),
        ("0.1n", 1),  # rounded up
        ("0", 0),
        ("", None),
        ("much", None),
        ("1 Gi", None),
        ("1e", None),
        ("٣", None),
    ],
)
def test_quantities_come_in_many_forms(text: str, amount: int | None) -> None:
    assert billionths(text) == amount


def test_annotations_may_be_unicode_and_are_not_kept() -> None:
    nodes = recording("list/nodes.json").body
    assert any(
        ord(one) > 0x400 for one in json.loads(nodes)["items"][0]["metadata"]["annotations"]["ops.example.com/location"]
    )
    node = msgspec.json.decode(json.dumps(json.loads(nodes)["items"][0], ensure_ascii=False).encode(), type=Node)
    kept = msgspec.json.encode(node)
    assert b"managedFields" not in kept
    assert b"ops.example.com" not in kept


# Watches


def test_a_bookmark_has_no_containers_and_would_be_no_pod() -> None:
    line = recording("watch/pods.bookmarks.ndjson").lines[-1]
    type_, raw = event_of(line.rstrip())
    assert type_ == "BOOKMARK"
    assert b'"containers":null' in bytes(raw)
    mark = MARK.decode(raw)
    assert (mark.version, mark.complete) == ("1762", False)


async def followed(drive: Drive, lines: list[bytes], **more: Any) -> tuple[Any, Any, Outcome]:
    """A check of the namespace web, whose watch is this stream; the server holds it open."""
    server = await drive.server(small=True, streaming="refused")
    hold = asyncio.Event()
    server.on(lambda seen: seen.path == WEB and seen.watches and "sendInitialEvents" not in seen.query,
              replay.streamed(lines, hold=hold, **more), times=1)  # fmt: skip
    watching = drive.watching(server, resources=["pods"], namespaces=["web"], **FEW)
    outcome = await watching.run()
    return server, watching, outcome


@pytest.mark.parametrize("file", ["watch/pods.bookmarks.ndjson", "watch/pods.no-bookmarks.ndjson"])
async def test_one_pods_whole_life_in_a_watch_leaves_nothing(drive: Drive, file: str) -> None:
    lines = recording(file).lines
    types = [event_of(line)[0] for line in lines]
    assert types[:2] == ["ADDED", "MODIFIED"]
    _, watching, before = await followed(drive, lines)
    watch = watching.watch("pods", "web")
    await until(lambda: watch.store.changes == sum(type_ != "BOOKMARK" for type_ in types), "the events")
    after = (await watching.run()).series
    restarts = ("k8s.containers.restarted", frozenset({"kube_namespace:web"}))
    last = [
        json.loads(line)["object"]["status"].get("containerStatuses") for line in lines if b'"DELETED"' in line[:20]
    ]
    assert after.pop(restarts) == last[0][0]["restartCount"] == 2
    assert {series: value for series, value in after.items() if value} == {
        series: value for series, value in before.series.items() if value
    }
    assert watch._version == "1762"


async def test_events_and_chunks_need_not_meet(drive: Drive) -> None:
    chunks = recordings.chunks(recording("watch/pods.raw-chunks.txt").body)
    assert b"".join(chunks) == recording("watch/pods.bookmarks.ndjson").body or len(chunks) > 1
    whole = b"".join(chunks)
    for parts in (chunks, [whole[at : at + 1000] for at in range(0, len(whole), 1000)], [whole]):
        lines = Lines()
        found = [line for part in parts for line in lines.feed(part)]
        assert found == whole.splitlines()
        assert not lines.unfinished
    _, watching, _ = await followed(drive, chunks)
    watch = watching.watch("pods", "web")
    await until(lambda: watch._version == "1762", "the last event")
    assert watch.store.changes == len(whole.splitlines()) - 1


@pytest.mark.parametrize("file", ["watch/410-error-event.after-restart.ndjson", "watch/410-error-event.table.ndjson"])
async def test_a_resource_version_that_is_too_old_is_200_with_one_error_event_and_makes_for_a_new_list(
    drive: Drive, file: str
) -> None:
    (line,) = recording(file).lines
    error = of_event(event_of(line)[1])
    assert (recording(file).status, error.fault, error.status) == (200, Fault.EXPIRED, 410)
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.watches and "sendInitialEvents" not in seen.query, file, times=1)
    watching = drive.watching(server, resources=["pods"], **FEW)
    before = await watching.run()
    watch = watching.watch("pods")
    await until(lambda: watch.lists == 2 and server.watching, "a second list and its watch")
    assert (await watching.run()).series == before.series


@pytest.mark.parametrize("file", ["errors/410-list-exact.json", "errors/410-flow.2-expired-continue.json"])
def test_of_a_list_too_old_is_a_real_410(file: str) -> None:
    error = told(file)
    assert (error.status, error.fault) == (410, Fault.EXPIRED)
    assert bool(error.token) == ("continue" in file)  # the one for `continue` offers a new token


async def test_a_continue_token_that_ran_out_makes_for_a_list_in_one_piece(drive: Drive) -> None:
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: "continue" in seen.query, "errors/410-flow.2-expired-continue.json", times=1)
    server.on(lambda seen: seen.path == PODS and not seen.watches, "errors/410-flow.1-first-page.json", times=1)
    outcome = await drive.watching(server, resources=["pods"], **FEW).run()
    assert outcome.value("k8s.pods.running") == some_run()  # none of the first page counts twice
    lists = [seen.query for seen in server.asked(PODS) if not seen.watches]
    assert [("limit" in query, "continue" in query) for query in lists] == [(True, False), (True, True), (False, False)]
    # resuming with the offered token would give a list that never was: see errors/410-flow.3-inconsistent-resume
    assert "1781" not in parsed("errors/410-flow.3-inconsistent-resume.json")["metadata"]["resourceVersion"]


async def test_compaction_alone_does_not_break_a_watch_that_the_cache_still_serves(drive: Drive) -> None:
    assert (
        recording("watch/pods.compacted-rv-still-served.ndjson").status,
        recording("watch/pods.compacted-rv-still-served.ndjson").body,
    ) == (200, b"")
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.watches and "sendInitialEvents" not in seen.query,
              "watch/pods.compacted-rv-still-served.ndjson", times=3)  # fmt: skip
    watching = drive.watching(server, resources=["pods"], **FEW)
    await watching.run()
    watch = watching.watch("pods")
    await until(lambda: server.watching, "the fourth watch")
    assert watch.lists == 1  # an empty answer is the end of a quiet watch, and no reason for a new list
    versions = {
        seen.query["resourceVersion"] for seen in server.asked(PODS) if seen.watches and seen.query["resourceVersion"]
    }
    assert len(versions) == 1


async def test_a_streaming_list_ends_with_an_annotated_bookmark_and_goes_on_as_a_watch(drive: Drive) -> None:
    lines = recording("watch/pods.streaming-list.ndjson").lines
    marks = [MARK.decode(event_of(line)[1]) for line in lines if b'"BOOKMARK"' in line[:20]]
    assert marks[0].complete
    server = await drive.server(small=True)
    hold = asyncio.Event()
    server.on(lambda seen: seen.path == WEB, replay.streamed(lines, hold=hold), times=1)
    watching = drive.watching(server, resources=["pods"], namespaces=["web"], **FEW)
    await watching.run()
    watch = watching.watch("pods", "web")
    await until(lambda: watch._version == marks[-1].version, "the events after the list")
    (asked,) = server.asked(WEB)
    assert {key: asked.query[key] for key in asked.query if key != "timeoutSeconds"} == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "resourceVersion": "",
    }
    state: dict[str, Any] = {}
    for event in map(json.loads, lines):
        if event["type"] == "DELETED":
            state.pop(event["object"]["metadata"]["uid"])
        elif event["type"] != "BOOKMARK":
            state[event["object"]["metadata"]["uid"]] = event["object"]
    outcome = await watching.run()
    assert outcome.value("k8s.pods.running") == sum(pod["status"]["phase"] == "Running" for pod in state.values())
    assert set(watch.store.rows) == set(state)
    hold.set()  # `timeoutSeconds` ends it cleanly: it goes on where it was, without a list
    await until(lambda: len(server.asked(WEB)) == 2, "the next watch")
    assert server.asked(WEB)[1].query["resourceVersion"] == marks[-1].version
    assert watch.fault is None


async def test_a_streaming_list_of_nodes_and_the_heartbeat_after_it(drive: Drive) -> None:
    lines = recording("watch/nodes.streaming-list.ndjson").lines
    server = await drive.server(small=True)
    hold = asyncio.Event()
    server.on("/api/v1/nodes", replay.streamed(lines, hold=hold))
    watching = drive.watching(server, resources=["nodes"], **FEW)
    await watching.run()
    await until(lambda: watching.watch("nodes")._version == "1763", "the heartbeat and its bookmark")
    assert len(watching.watch("nodes").store.rows) == 12
    hold.set()


@pytest.mark.parametrize(
    "file", ["watch/500-error-event.old-etcd.streaming-list.ndjson", "watch/500-error-event.old-etcd.no-rv.ndjson"]
)
async def test_with_an_old_etcd_a_streaming_list_is_an_error_500_and_it_is_list_and_watch(
    drive: Drive, file: str
) -> None:
    error = of_event(event_of(recording(file).lines[0])[1])
    assert (error.fault, error.status) == (Fault.BUSY, 500)
    server = await drive.server(small=True)
    server.on(lambda seen: "sendInitialEvents" in seen.query, file)
    outcome = await drive.watching(server, resources=["pods", "nodes"], **FEW).run()
    assert (outcome.value("k8s.pods.running"), outcome.value("k8s.nodes.ready")) == (some_run(), 10)
    ways = [
        ("stream" if "sendInitialEvents" in seen.query else "watch" if seen.watches else "list")
        for seen in server.asked(PODS)
    ]
    assert ways[:2] == ["stream", "list"]


@pytest.mark.parametrize(
    "file", ["errors/422-sendInitialEvents-nomatch.json", "errors/422-sendInitialEvents-list.json"]
)
async def test_a_server_that_refuses_streaming_lists_is_listed_and_watched(drive: Drive, file: str) -> None:
    assert told(file).fault is Fault.INVALID
    server = await drive.server(small=True)
    server.on(lambda seen: "sendInitialEvents" in seen.query, file)
    outcome = await drive.watching(server, resources=["pods"], **FEW).run()
    assert outcome.value("k8s.pods.running") == some_run()
    assert outcome.status("k8s.watch").status is Status.OK


@pytest.mark.parametrize("file", ["watch/pods.streaming-list-without-bookmarks.ndjson", "watch/pods.rv0.ndjson"])
async def test_a_streaming_list_without_an_end_marker_is_given_up_for_a_list(drive: Drive, file: str) -> None:
    lines = recording(file).lines
    assert not any(b"initial-events-end" in line for line in lines)
    server = await drive.server(small=True)
    hold = asyncio.Event()
    server.on(lambda seen: "sendInitialEvents" in seen.query, replay.streamed(lines, hold=hold))
    watching = drive.watching(server, pace=HASTY, resources=["pods"], namespaces=["web"], **FEW)
    outcome = await watching.run()
    objects = [pod for pod in server.cluster.objects("pods") if pod["metadata"]["namespace"] == "web"]
    assert outcome.value("k8s.pods.running") == sum(pod["status"]["phase"] == "Running" for pod in objects)
    assert [seen.watches for seen in server.asked(WEB)][:2] == [True, False]
    hold.set()


def test_the_end_marker_may_come_unasked_as_for_leases() -> None:
    marks = [
        MARK.decode(event_of(line)[1]) for line in recording("watch/leases.ndjson").lines if b'"BOOKMARK"' in line[:20]
    ]
    assert marks[0].complete


async def test_timeout_seconds_ends_a_watch_cleanly_and_it_goes_on_from_the_bookmark(drive: Drive) -> None:
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.path == WEB and seen.watches and "sendInitialEvents" not in seen.query,
              "watch/pods.nothing.ndjson", times=1)  # fmt: skip
    watching = drive.watching(server, resources=["pods"], namespaces=["web"], **FEW)
    await watching.run()
    await until(lambda: server.watching, "the second watch")
    watches = [
        seen.query["resourceVersion"] for seen in server.asked(WEB) if seen.watches and seen.query["resourceVersion"]
    ]
    assert watches == ["1751", "1755"]  # the list's, then the bookmark's
    assert watching.watch("pods", "web").lists == 1


async def test_with_a_selector_deleted_can_mean_that_it_no_longer_matches(drive: Drive) -> None:
    lines = recording("watch/pods.phase-running-selector.ndjson").lines
    types = [event_of(line)[0] for line in lines]
    assert "DELETED" in types
    _, watching, before = await followed(drive, lines)
    watch = watching.watch("pods", "web")
    await until(lambda: watch.store.changes == len(lines), "the events")
    uids = {json.loads(line)["object"]["metadata"]["uid"] for line in lines}
    assert len(uids) == 1
    there = types[-1] != "DELETED"
    assert (uids <= set(watch.store.rows)) == there
    after = await watching.run()
    assert after.value("k8s.pods.running") == before.value("k8s.pods.running") + there


async def test_a_resource_version_of_the_future_is_504_with_retry_after_and_makes_for_a_new_list(drive: Drive) -> None:
    error = told("errors/504-resource-version-too-large.json")
    assert (error.fault, error.retry_after) == (Fault.AHEAD, 1.0)
    server = await drive.server(small=True, streaming="refused")
    server.on(lambda seen: seen.watches and "sendInitialEvents" not in seen.query,
              "errors/504-resource-version-too-large.json", times=1)  # fmt: skip
    watching = drive.watching(server, resources=["pods"], **FEW)
    await watching.run()
    await until(lambda: watching.watch("pods").lists == 2, "a new list")
    assert (await watching.run()).value("k8s.pods.running") == some_run()


# Errors


async def refused_run(drive: Drive, file: str, **options: Any) -> tuple[Any, Outcome]:
    server = await drive.server(small=True)
    server.on(lambda seen: True, file)
    return server, await drive.watching(server, resources=["pods", "nodes"], **FEW, **options).run()


async def test_no_token_is_403_for_nobody(drive: Drive) -> None:
    _, outcome = await refused_run(drive, "auth/403-anonymous.json")
    assert outcome.error is not None
    assert str(outcome.error) == "the cluster takes the agent for nobody: no token was sent"


@pytest.mark.parametrize(
    "file", ["auth/401-invalid-token.json", "auth/401-no-token.json", "auth/401-no-token.watch.json"]
)
async def test_a_token_that_is_not_known_is_401(drive: Drive, file: str) -> None:
    _, outcome = await refused_run(drive, file)
    assert outcome.error is not None
    assert str(outcome.error) == "the API server does not know the token"
    said = outcome.status("k8s.can_connect")
    assert said.status is Status.CRITICAL
    assert said.message == "the API server does not know the token; is it of this cluster, and has it ended?"
    assert outcome.names == set()


@pytest.mark.parametrize("file", ["auth/403-no-rbac.pods.json", "auth/403-no-rbac.watch-pods.json"])
async def test_a_resource_that_rbac_refuses_is_reported_with_the_missing_rule_and_the_rest_goes_on(
    drive: Drive, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await drive.server(small=True)
    server.on(PODS, file)
    watching = drive.watching(server, resources=["pods", "nodes"], **FEW)
    for _ in range(3):
        outcome = await watching.run()
    assert outcome.error is None
    assert outcome.value("k8s.nodes.ready") == 10
    assert not [name for name in outcome.names if "pod" in name and name != "kubernetes_state.node.pods_capacity"
                and name != "kubernetes_state.node.pods_allocatable"]  # fmt: skip
    said = outcome.status("k8s.watch", "resource:pods")
    assert said.status is Status.WARNING
    assert said.message == (
        'may not list and watch pods; the ClusterRole lacks {apiGroups: [""], resources: [pods], verbs: [list, watch]}'
    )
    assert outcome.status("k8s.can_connect").status is Status.OK
    assert caplog.text.count("may not list and watch pods") <= 1


async def test_without_rbac_metrics_k8s_io_is_403_though_it_does_not_exist(drive: Drive) -> None:
    server = await drive.server(small=True)
    server.on("/apis/metrics.k8s.io/v1beta1/nodes", "auth/403-no-rbac.metrics-k8s-io.json")
    outcome = await drive.watching(server, resources=["nodes"]).run()
    said = outcome.status("k8s.usage")
    assert said.status is Status.WARNING
    assert said.message == (
        "may not list nodes of metrics.k8s.io: k8s.cpu.utilization and k8s.memory.utilization are absent; the "
        "ClusterRole lacks {apiGroups: [metrics.k8s.io], resources: [nodes], verbs: [list]}"
    )


@pytest.mark.parametrize("file", ["errors/404-metrics-nodes.txt", "errors/404-metrics-group.txt"])
async def test_once_allowed_metrics_k8s_io_is_a_404_in_plain_text_and_both_metrics_are_absent(
    drive: Drive, file: str
) -> None:
    server = await drive.server(small=True)
    server.on("/apis/metrics.k8s.io/v1beta1/nodes", file)
    outcome = await drive.watching(server, resources=["nodes"]).run()
    assert {"k8s.cpu.utilization", "k8s.memory.utilization"} & outcome.names == set()
    assert outcome.status("k8s.usage").message == (
        "the cluster has no metrics.k8s.io: k8s.cpu.utilization and k8s.memory.utilization are absent; install "
        "metrics-server, or say `usage: false`"
    )
    assert outcome.value("k8s.nodes.ready") == 10


async def test_a_resource_that_the_cluster_does_not_have_is_a_finding(drive: Drive) -> None:
    server = await drive.server(small=True)
    server.on("/apis/policy/v1/poddisruptionbudgets", "errors/404-resource.json")
    outcome = await drive.watching(server, resources=["poddisruptionbudgets", "nodes"], **FEW).run()
    said = outcome.status("k8s.watch", "resource:poddisruptionbudgets")
    assert said.message == (
        "the cluster has no poddisruptionbudgets at /apis/policy/v1/poddisruptionbudgets; name others in `resources`"
    )


async def test_overload_is_429_in_plain_text_and_waits_as_long_as_it_says(drive: Drive) -> None:
    error = told("errors/429-too-many-requests.txt")
    assert (error.fault, error.retry_after, error.message) == (
        Fault.BUSY, 1.0, "Too many requests, please try again later.")  # fmt: skip
    server = await drive.server(small=True)
    server.on(PODS, "errors/429-too-many-requests.txt", times=1)
    watching = drive.watching(server, resources=["pods"], **FEW)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    outcome = await watching.run()  # the run waits for the list, which waits for the server
    assert loop.time() - begun >= 1.0
    assert outcome.value("k8s.pods.running") == some_run()
    assert len(server.asked(PODS)) == 2


def test_a_disruption_budgets_429_is_json_without_retry_after() -> None:
    error = told("errors/429-eviction-pdb.json")
    assert (error.fault, error.status, error.retry_after) == (Fault.BUSY, 429, None)


def test_a_quotas_403_is_no_missing_rule() -> None:
    assert told("errors/403-exceeded-quota.json").fault is Fault.INVALID


@pytest.mark.parametrize("file", ["etcd-down/get-lease.json", "etcd-down/update-lease.json"])
async def test_a_request_timeout_is_504_with_json_under_text_plain(drive: Drive, file: str) -> None:
    assert ("Content-Type", "text/plain; charset=utf-8") in recording(file).headers or any(
        name == "Content-Type" and value.startswith("text/plain") for name, value in recording(file).headers
    )
    error = told(file)
    assert (error.fault, error.message) == (
        Fault.BUSY, "Timeout: request did not complete within the allotted timeout")  # fmt: skip
    server = await drive.server(small=True)
    server.on(PODS, file, times=2)
    assert (await drive.watching(server, resources=["pods"], **FEW).run()).value("k8s.pods.running") == some_run()


async def test_a_connection_that_is_closed_without_an_answer_is_tried_again(drive: Drive) -> None:
    server = await drive.server(small=True)
    server.on(PODS, replay.hang_up, times=2)
    watching = drive.watching(server, resources=["pods"], **FEW)
    await watching.run()
    await until(lambda: watching.watch("pods").synced, "the list")
    assert (await watching.run()).value("k8s.pods.running") == some_run()
    assert len(server.asked(PODS)) == 3


async def test_with_etcd_frozen_a_list_from_the_cache_still_answers(drive: Drive) -> None:
    server = await drive.server(small=True)
    hold = asyncio.Event()
    server.on(lambda seen: "sendInitialEvents" in seen.query, replay.streamed([], hold=hold))  # it waits for etcd
    server.on(lambda seen: seen.path == "/api/v1/nodes" and not seen.watches, "etcd-down/list-nodes.rv0.json")
    outcome = await drive.watching(server, pace=HASTY, resources=["nodes"], **FEW).run()
    frozen = parsed("etcd-down/list-nodes.rv0.json")["items"]
    assert outcome.value("k8s.nodes.ready") + outcome.value("k8s.nodes.not_ready") == len(frozen) == 12  # type: ignore[operator]
    hold.set()


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("errors/400-field-selector.json", Fault.INVALID),
        ("errors/400-label-selector.json", Fault.INVALID),
        ("errors/400-continue.json", Fault.INVALID),
        ("errors/400-resource-version.json", Fault.INVALID),
        ("errors/400-limit.json", Fault.INVALID),
        ("errors/400-bad-json.json", Fault.INVALID),
        ("errors/400-strict-unknown-field.json", Fault.INVALID),
        ("errors/404-pod.json", Fault.ABSENT),
        ("errors/405-method.json", Fault.INVALID),
        ("errors/406-accept.json", Fault.INVALID),
        ("errors/415-content-type.json", Fault.INVALID),
        ("errors/422-invalid-pod.json", Fault.INVALID),
        ("auth/403-no-rbac.node-proxy.json", Fault.FORBIDDEN),
        ("etcd-down/livez.txt", Fault.BUSY),
    ],
)
def test_every_other_refusal_has_its_kind(file: str, fault: Fault) -> None:
    error = told(file)
    assert error.fault is fault
    assert error.status == recording(file).status
    assert error.message


async def test_a_warning_header_is_no_error(drive: Drive) -> None:
    headers = dict(recording("list/endpoints.warning-header.json").headers)
    assert "Warning" in headers

    async def warned(_: web.Request) -> web.Response:
        return web.Response(body=recording("list/pods.json").body, headers={"Warning": headers["Warning"]})

    _, outcome = await listing(drive, warned)
    assert outcome.value("k8s.pods.running") == 374


async def test_a_body_that_is_no_json_is_a_finding(drive: Drive) -> None:
    async def nonsense(_: web.Request) -> web.Response:
        return web.Response(body=recording("list/nodes.protobuf.bin").body)

    _, outcome = await listing(drive, nonsense)
    assert outcome.error is not None
    assert "not being watched" in str(outcome.error) or "API server" in str(outcome.error)


async def test_one_object_that_is_not_as_documented_is_left_out_and_no_part_passes_for_all(drive: Drive) -> None:
    server = await drive.server(small=True)
    pod = server.cluster.objects("pods")[0]
    whole = dict(pod["spec"])
    pod["spec"]["containers"] = "none"
    await server.cluster.put("pods", pod)
    node = server.cluster.objects("nodes")[0]
    node["status"]["capacity"] = 5
    await server.cluster.put("nodes", node)
    watching = drive.watching(server, resources=["pods", "nodes"], **FEW)
    outcome = await watching.run()
    left = [one for one in server.cluster.objects("pods") if one["metadata"]["uid"] != pod["metadata"]["uid"]]
    assert outcome.total("kubernetes_state.pod.count") == len(left)
    said = outcome.status("k8s.watch", "resource:pods")
    assert (said.status, said.message) == (
        Status.WARNING,
        "1 of the pods cannot be read and are left out: what counts all of them is absent; is this version of the API "
        "server newer than the agent?",
    )
    assert outcome.status("k8s.watch", "resource:nodes").message.startswith("1 of the nodes cannot be read")
    totals = {"k8s.pods.running", "k8s.nodes.ready", "kubernetes_state.node.count", "k8s.node.pods"}
    assert not totals & outcome.names
    assert not [name for name in outcome.names if name.endswith(".total") and name.startswith("kubernetes_state.node")]
    await server.cluster.put("pods", {**pod, "spec": whole})
    await server.cluster.delete("nodes", node)
    watches = [watching.watch("pods"), watching.watch("nodes")]
    await until(lambda: not any(watch.store.unreadable for watch in watches), "the mended pod")
    outcome = await watching.run()
    assert outcome.value("k8s.pods.running") == sum(
        one["status"]["phase"] == "Running" for one in server.cluster.objects("pods")
    )
    assert outcome.value("k8s.nodes.ready") == 9
    assert outcome.status("k8s.watch", "resource:pods").status is Status.OK


async def test_utilisation_counts_only_ready_nodes_of_which_something_is_known(drive: Drive) -> None:
    server = await drive.server(small=True)
    nodes = server.cluster.objects("nodes")
    server.node_metrics = node_metrics(nodes, without="worker-01")
    outcome = await drive.watching(server, resources=["nodes"]).run()
    from checks.k8s import oracle

    for (name, tags), value in oracle.of_usage(nodes, server.node_metrics).items():
        assert outcome.series[name, tags] == pytest.approx(float(value), rel=1e-15)
    assert NOW  # the stand-in has times of its own
