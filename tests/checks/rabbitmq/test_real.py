"""A real RabbitMQ: what it says of queues, consumers, nodes and vhosts, and what its users may see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from checks.rabbitmq.broker import SCRIPT, Broker
from core.parts import Recorder, instance
from vedette import Diagnosis, Status
from vedette.metrics import Batch
from vedette.runner import Runner
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.rabbitmq import RabbitMQ, RabbitMQConfig

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.soak,  # its start takes ten seconds; test_replies.py has what such a server said
    pytest.mark.skipif(SCRIPT is None, reason="RabbitMQ is not installed: apt, rabbitmq-server"),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    server = Broker(tmp_path_factory.mktemp("rabbitmq"))
    server.start()
    try:
        for vhost in ("shop", "idle"):
            server.ask("PUT", "vhosts", vhost)
        server.queue("shop", "orders")
        server.queue("shop", "ledger", "quorum")
        for name in ("pay-eu-1", "pay-eu-2", "pay-us-1", "Pay-XX-9"):
            server.queue("/", name)
        server.publish("shop", "orders", 5)
        yield server
    finally:
        server.stop()


async def ask(broker: Broker, **options: Any) -> CheckRun:
    return await run_check(RabbitMQ, {"name": "x", "url": broker.url, "timeout": "20s", "interval": "20s", **options})


async def settled(broker: Broker, good: Callable[[CheckRun], bool], **options: Any) -> CheckRun:
    """The first run of which this holds: the server's statistics follow what happens."""
    until = time.monotonic() + 30
    while True:
        run = await ask(broker, **options)
        if good(run):
            return run
        assert time.monotonic() < until, run.samples


async def test_queues_consumers_nodes_connections(broker: Broker) -> None:
    queue = {"rabbitmq_vhost": "shop", "rabbitmq_queue": "orders"}
    with broker.consumer("shop", "orders", prefetch=2):

        def good(run: CheckRun) -> bool:
            unacknowledged = run.values("rabbitmq.queue.messages_unacknowledged", **queue)
            total = run.values("rabbitmq.overview.queue_totals.messages_unacknowledged.count")
            consumers = run.values("rabbitmq.overview.object_totals.consumers")
            delivered = run.values("rabbitmq.queue.messages.deliver.count", **queue)
            states = run.values("rabbitmq.connections.state", rabbitmq_conn_state="running")
            return unacknowledged == total == delivered == [2] and consumers == states == [1]

        run = await settled(broker, good, bindings=True)
    names = ("messages", "messages_ready", "messages_unacknowledged", "consumers", "message_bytes")
    assert [run.value(f"rabbitmq.queue.{name}", **queue) for name in names] == [5, 3, 2, 1, 15]
    assert run.value("rabbitmq.queue.messages.publish.count", **queue) == 5
    assert run.value("rabbitmq.queue.bindings.count", **queue) == 1
    assert run.value("rabbitmq.exchange.messages.publish_in.count", rabbitmq_exchange="(default)") == 5
    totals = {
        name: run.value(f"rabbitmq.overview.object_totals.{name}") for name in ("queues", "connections", "channels")
    }
    assert totals == {"queues": 6, "connections": 1, "channels": 1}
    assert run.value("rabbitmq.overview.queue_totals.messages.count") == 5
    assert {one: run.value("rabbitmq.connections", rabbitmq_vhost=one) for one in ("/", "shop", "idle")} == {
        "/": 0, "shop": 1, "idle": 0,
    }  # fmt: skip
    node = {"rabbitmq_node": "test@localhost"}
    (said,) = broker.ask("GET", "nodes")
    for name in ("fd_total", "mem_limit", "proc_total", "disk_free_limit"):
        assert run.value(f"rabbitmq.node.{name}", **node) == said[name]
    assert [run.value(f"rabbitmq.node.{name}", **node) for name in ("running", "partitions", "mem_alarm")] == [1, 0, 0]
    quorum = {"rabbitmq_queue": "ledger", "rabbitmq_queue_type": "quorum", **node}
    assert run.value("rabbitmq.queue.members", **quorum) == run.value("rabbitmq.queue.members_online", **quorum) == 1
    assert {one.status for one in run.statuses} == {Status.OK}
    assert {tag for one in run.statuses for tag in one.tags if tag.startswith("vhost:")} == {
        "vhost:/", "vhost:shop", "vhost:idle",
    }  # fmt: skip
    assert (run.value("rabbitmq.api.requests"), run.value("rabbitmq.queues_cut")) == (7, 0)
    assert_declared(run)


async def test_rates_are_the_servers_own(broker: Broker) -> None:
    broker.queue("idle", "busy")

    def good(run: CheckRun) -> bool:
        broker.publish("idle", "busy", 1)
        rates = run.values("rabbitmq.queue.messages.publish.rate", rabbitmq_queue="busy")
        return bool(rates) and float(str(rates[0])) > 0

    run = await settled(broker, good)
    assert float(str(run.value("rabbitmq.queue.messages_ready", rabbitmq_queue="busy"))) > 0
    broker.ask("DELETE", "queues", "idle", "busy")


def queues(run: CheckRun) -> set[str]:
    return {tag[15:] for one in run.statuses for tag in one.tags if tag.startswith("rabbitmq_queue:")}


@pytest.mark.parametrize(
    ("options", "seen", "requests", "cut"),
    [
        ({"queues": ["orders", "//pay-eu-1"]}, {"orders", "pay-eu-1"}, 6, 0),
        ({"queues_regex": ["^pay-"]}, {"pay-eu-1", "pay-eu-2", "pay-us-1"}, 6, 0),
        ({"queues": ["shop/orders"], "queues_regex": ["^(a)?pay-(?(1)x|us)"]}, {"orders", "pay-us-1"}, 6, 0),
        ({"queues_regex": ["(?a:us)"]}, {"pay-us-1"}, 7, 0),  # which is Python's alone: it chooses, the server does not
        ({"vhosts": ["shop"]}, {"orders", "ledger"}, 6, 0),
        ({"vhosts": ["shop", "/"]}, {"orders", "ledger", "pay-eu-1", "pay-eu-2", "pay-us-1", "Pay-XX-9"}, 9, 0),
        ({"max_queues": 2}, {"Pay-XX-9", "pay-eu-1"}, 6, 4),
        ({"max_queues": 1, "queues_regex": ["pay"]}, {"pay-eu-1"}, 6, 2),
        ({"max_exchanges": 0, "max_connections": 0, "node_metrics": False, "queues": ["orders"]}, {"orders"}, 3, 0),
    ],
)
async def test_the_server_chooses(
    broker: Broker, options: dict[str, Any], seen: set[str], requests: int, cut: int
) -> None:
    run = await ask(broker, **options)
    assert queues(run) == seen
    assert (run.value("rabbitmq.api.requests"), run.value("rabbitmq.queues_cut")) == (requests, cut)
    assert run.status("rabbitmq.complete") is (Status.WARNING if cut else Status.OK)


async def test_families_are_tags(broker: Broker) -> None:
    named = await ask(broker, queues_regex=["^pay-(?P<region>[a-z]+)-(?P<number>.)"], tag_families=True)
    plain = await ask(broker, queues_regex=["^pay-([a-z]+)"], tag_families=True)
    tags = {tag for one in named.statuses for tag in one.tags if "family" in tag}
    assert tags == {f"rabbitmq_queue_family_{one}" for one in ("region:eu", "region:us", "number:1", "number:2")}
    tags = {tag for one in plain.statuses for tag in one.tags if "family" in tag}
    assert tags == {"rabbitmq_queue_family:eu", "rabbitmq_queue_family:us"}


async def test_thresholds(broker: Broker) -> None:
    def good(run: CheckRun) -> bool:
        return run.values("rabbitmq.queue.messages_ready", rabbitmq_queue="orders") == [5]

    chosen = {"queues": ["orders"]}
    run = await settled(broker, good, depth_warning=5, depth_critical=6, **chosen)
    said = (run.status("rabbitmq.queue"), run.message("rabbitmq.queue"))
    assert said == (Status.WARNING, "5 messages wait (a warning from 5 on)")
    run = await settled(broker, good, depth_critical=5, consumers_least=1, **chosen)
    said = (run.status("rabbitmq.queue"), run.message("rabbitmq.queue"))
    assert said == (
        Status.CRITICAL, "5 messages wait (critical from 5 on); 0 consumers are there (at least 1 are to be)"
    )  # fmt: skip


async def test_who_may_see_what(broker: Broker) -> None:
    broker.user("nobody", "")
    broker.user("manager", "management", "/")
    broker.user("monitor", "monitoring")
    broker.user("complete", "monitoring", "/", "shop", "idle")

    async def as_user(name: str, password: str = "pw") -> CheckRun:
        return await ask(broker, username=name, password=password)

    for name, word, says in (
        ("complete", "wrong", "the server refuses user or password"),
        ("nobody", "pw", "the user lacks the tag `monitoring`"),
    ):
        run = await as_user(name, word)
        assert run.error is not None
        assert run.error.message == run.message("rabbitmq.status") == says
        assert run.status("rabbitmq.status") is Status.CRITICAL
        assert (run.samples, len(run.statuses)) == ((), 1)
    run = await as_user("manager")
    assert run.message("rabbitmq.complete") == (
        "the nodes cannot be asked for: the user lacks the tag `monitoring`; rabbitmqctl set_user_tags USER monitoring"
    )
    assert queues(run) == {"pay-eu-1", "pay-eu-2", "pay-us-1", "Pay-XX-9"}
    run = await as_user("monitor")
    there = run.value("rabbitmq.overview.object_totals.queues")
    said = f'the user does not see {there} of {there} queues: rabbitmqctl set_permissions -p VHOST USER "" "" ""'
    assert (run.message("rabbitmq.complete"), queues(run)) == (said, set())
    run = await ask(broker, username="monitor", password="pw", vhosts=["shop"])
    assert run.message("rabbitmq.complete") == "; ".join(
        f"{kind} of the vhost shop are left out: the user has no permissions on it" for kind in ("queues", "exchanges")
    )
    run = await as_user("complete")
    assert ({one.status for one in run.statuses}, len(queues(run))) == ({Status.OK}, 6)


async def test_what_goes_while_it_runs(broker: Broker) -> None:
    broker.ask("PUT", "vhosts", "brief")
    broker.queue("brief", "gone")
    options = {"url": broker.url, "vhosts": ["brief", "shop"], "queues": ["gone", "orders"], "timeout": "20s"}
    runner = Runner(instance(RabbitMQ, interval="20s", **options), Recorder().surroundings)
    first = await runner.run()
    assert {one.status for one in first.statuses} == {Status.OK}
    broker.ask("DELETE", "vhosts", "brief")
    second = await runner.run()
    await runner.stop()
    bad = {(one.name, one.message) for one in second.statuses if one.status is not Status.OK}
    assert bad == {
        ("rabbitmq.aliveness", "there is no such vhost"),
        ("rabbitmq.queue_found", "there is no such queue, or the user has no permissions on its vhost"),
    }

    def found(batch: Batch) -> dict[tuple[str, ...], Status]:
        return {one.tags: one.status for one in batch.statuses if one.name == "rabbitmq.queue_found"}

    assert list(found(first)) == list(found(second))
    assert list(found(second).values()) == [Status.CRITICAL, Status.OK]


async def test_what_doctor_says(broker: Broker) -> None:
    broker.user("half", "management", "/")

    async def said(**options: Any) -> list[tuple[str, str, str, str]]:
        diagnosis = Diagnosis()
        await RabbitMQ(RabbitMQConfig(name="x", url=broker.url, **options)).diagnose(diagnosis)
        return [(one.what, str(one.grade), one.seen, one.snippet) for one in diagnosis.symptoms[1:]]

    good = await said()
    assert [one[:2] for one in good] == [("login", "ok"), ("nodes", "ok"), ("queues", "ok")]
    assert good[0][2].startswith("RabbitMQ 3.")
    half = await said(username="half", password="pw")
    assert half[1] == (
        "nodes", "warning", "the user lacks the tag `monitoring`", "rabbitmqctl set_user_tags half monitoring"
    )  # fmt: skip
    broker.user("no one; reboot", "")
    assert (await said(username="no one; reboot", password="pw"))[0] == (
        "login", "failed", "the user lacks the tag `monitoring`",
        "rabbitmqctl set_user_tags 'no one; reboot' monitoring",
    )  # fmt: skip
    assert (await said(username="half", password="no"))[0][:3] == (
        "login", "failed", "the server refuses user or password"
    )  # fmt: skip


async def test_five_thousand_queues(broker: Broker) -> None:
    broker.ask("PUT", "vhosts", "many")
    made = [
        {"name": f"q{n:04}", "vhost": "many", "durable": False, "auto_delete": False, "arguments": {}}
        for n in range(5_000)
    ]
    await asyncio.to_thread(broker.ask, "POST", "definitions", queues=made)

    def measured(run: CheckRun) -> bool:
        return len(run.values("rabbitmq.queue.messages", rabbitmq_vhost="many")) == 5_000

    run = await settled(broker, measured, vhosts=["many"], max_queues=5_000)
    assert (run.value("rabbitmq.api.requests"), run.value("rabbitmq.queues_cut")) == (15, 0)
    run = await ask(broker, vhosts=["many"])
    assert (run.value("rabbitmq.api.requests"), run.value("rabbitmq.queues_cut"), len(queues(run))) == (6, 4_800, 200)
    run = await ask(broker, vhosts=["many"], queues_regex=["^q.*99$"])
    assert (run.value("rabbitmq.api.requests"), len(queues(run))) == (6, 50)
    await asyncio.to_thread(broker.ask, "DELETE", "vhosts", "many")
