"""What a real cluster answered while a node was down; and servers that misbehave."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from core.parts import Recorder, instance
from servers import Certificates, http_server
from vedette import Diagnosis, Status
from vedette.runner import Runner
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.rabbitmq import RabbitMQ, RabbitMQConfig
from vedette_checks.rabbitmq.choice import Choice

pytestmark = pytest.mark.anyio
REPLIES = json.loads(Path(__file__).with_name("replies.json").read_text())
REFERENCE = Path(__file__).parents[2] / "data" / "datadog-rabbitmq-metrics.csv"


@dataclass
class Replayed:
    """Answers what was recorded, and keeps what it was asked."""

    answers: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(REPLIES)))
    changes: dict[str, Callable[[], web.StreamResponse]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    hang: bool = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0].removeprefix("/api/")
        self.asked.append(path)
        if self.hang:
            await asyncio.Event().wait()
        if path in self.changes:
            return self.changes[path]()
        answer = self.answers.get(path)
        return web.json_response(
            answer if answer is not None else {"error": "Object Not Found"}, status=200 if answer is not None else 404
        )


@asynccontextmanager
async def serving(tls: Any = None) -> AsyncIterator[Replayed]:
    made = Replayed()
    async with http_server("GET", "/{path:.*}", made.answer, tls=tls) as made.url:
        yield made


@pytest.fixture
async def server() -> AsyncIterator[Replayed]:
    async with serving() as made:
        yield made


async def ask(server: Replayed, **options: Any) -> CheckRun:
    return await run_check(RabbitMQ, {"name": "x", "url": server.url, "timeout": "10s", **options})


async def test_a_node_is_down_and_the_other_short_of_memory(server: Replayed) -> None:
    run = await ask(server, bindings=True)
    said = (run.status("rabbitmq.cluster", rabbitmq_cluster="c1@vm"), run.message("rabbitmq.cluster"))
    assert said == (
        Status.CRITICAL, "c1@localhost is short of memory: publishers are blocked; c2@localhost is down"
    )  # fmt: skip
    assert [run.value("rabbitmq.node.running", rabbitmq_node=f"c{n}@localhost") for n in (1, 2)] == [1, 0]
    down = [one.name for one in run.samples if "rabbitmq_node:c2@localhost" in one.tags]
    assert down == ["rabbitmq.node.running"]
    assert run.value("rabbitmq.node.mem_alarm") == 1
    queues = {
        name: (run.status("rabbitmq.queue", rabbitmq_queue=name), run.message("rabbitmq.queue", rabbitmq_queue=name))
        for name in ("pay", "on2", "quo")
    }
    assert queues == {
        "pay": (Status.OK, ""),
        "on2": (Status.CRITICAL, "its state is down"),
        "quo": (Status.CRITICAL, "1 of 2 members are online, which is no majority"),
    }
    quorum = {"rabbitmq_queue": "quo", "rabbitmq_vhost": "pay"}
    assert (run.value("rabbitmq.queue.members", **quorum), run.value("rabbitmq.queue.members_online", **quorum)) == (
        2,
        1,
    )
    assert run.value("rabbitmq.queue.bindings.count", rabbitmq_queue="pay") == 1
    assert {run.status("rabbitmq.aliveness", vhost=one) for one in ("/", "pay")} == {Status.OK}
    assert (run.status("rabbitmq.status"), run.status("rabbitmq.complete")) == (Status.OK, Status.OK)
    assert server.asked == ["overview", "nodes", "vhosts", "queues", "bindings", "exchanges", "connections"]
    assert_declared(run)


async def test_every_recorded_figure_arrives(server: Replayed) -> None:
    (orders, *_) = server.answers["queues"]["items"]
    orders["message_stats"] = {
        name: number for number, name in enumerate(("ack", "deliver", "deliver_get", "publish", "redeliver"), 10)
    } | {f"{name}_details": {"rate": number / 4} for number, name in enumerate(("ack", "deliver", "publish"), 1)}
    orders["messages_details"] = {"rate": -1.5}
    orders["head_message_timestamp"] = 1_700_000_000
    run = await ask(server)
    tags = {"rabbitmq_queue": "pay", "rabbitmq_vhost": "/", "rabbitmq_queue_type": "classic"}
    got = {
        name: run.value(f"rabbitmq.queue.{name}", **tags)
        for name in (
            "messages.ack.count", "messages.deliver.count", "messages.deliver_get.count", "messages.publish.count",
            "messages.redeliver.count", "messages.ack.rate", "messages.deliver.rate", "messages.publish.rate",
            "messages.rate", "head_message_timestamp", "messages_ready", "message_bytes",
        )
    }  # fmt: skip
    assert list(got.values()) == [10, 11, 12, 13, 14, 0.25, 0.5, 0.75, -1.5, 1_700_000_000, 5, 5]
    overview = {"messages.publish.count": 5, "queue_totals.messages.count": 5, "object_totals.queues": 2}
    assert {name: run.value(f"rabbitmq.overview.{name}", rabbitmq_cluster="c1@vm") for name in overview} == overview


def test_the_names_are_datadogs() -> None:
    with REFERENCE.open() as file:
        theirs = {row["metric_name"] for row in csv.DictReader(file)}
    ours = {metric.name for metric in RabbitMQ.metrics}
    of_the_api = {
        name for name in theirs
        if name.startswith(("rabbitmq.node.", "rabbitmq.overview.", "rabbitmq.exchange.")) or name.endswith(".rate")
    }  # fmt: skip
    assert len(of_the_api) > 60
    assert of_the_api <= ours
    assert {name.removeprefix("rabbitmq.") for name in ours - theirs} == {
        "api.bytes", "api.requests", "exchange.messages.drop_unroutable.count",
        "exchange.messages.drop_unroutable.rate", "exchanges_cut", "node.disk_free_limit", "node.fd_total",
        "node.proc_total", "node.proc_used", "node.uptime", "queue.members", "queue.members_online", "queues_cut",
    }  # fmt: skip


async def test_a_server_without_statistics(server: Replayed) -> None:
    server.answers = server.answers["without statistics"]
    run = await ask(server, depth_critical=1)
    assert run.value("rabbitmq.queue.messages_ready", rabbitmq_queue="pay") == 1
    assert (run.message("rabbitmq.queue"), run.status("rabbitmq.complete")) == (
        "1 messages wait (critical from 1 on)", Status.OK
    )  # fmt: skip
    assert server.asked == ["overview", "nodes", "vhosts", "queues"]
    run = await ask(server, consumers_least=1)
    said = "consumers are not known, since the server's configuration has disable_stats"
    assert (run.status("rabbitmq.queue"), run.message("rabbitmq.complete")) == (Status.OK, said)


@pytest.mark.parametrize(
    ("states", "status", "says"),
    [
        ({"a": "running", "b": "nodedown"}, Status.OK, ""),
        ({"a": "running", "b": "stopped"}, Status.CRITICAL, "it is stopped on b: rabbitmqctl restart_vhost"),
        ({"a": "nodedown"}, Status.CRITICAL, "it runs on no node"),
        (None, Status.OK, ""),
    ],
)
async def test_vhosts(server: Replayed, states: Any, status: Status, says: str) -> None:
    server.answers["vhosts"] = [{"name": "/", "cluster_state": states}]
    run = await ask(server)
    assert (run.status("rabbitmq.aliveness", vhost="/"), run.message("rabbitmq.aliveness")) == (status, says)


async def test_what_is_too_much_is_cut_and_said(server: Replayed) -> None:
    server.answers["vhosts"] = [{"name": f"v{n}", "cluster_state": {"a": "running"}} for n in range(12)]
    server.answers["connections"] = {"items": [], "filtered_count": 2_001, "page_count": 5}
    server.answers["exchanges"] = {
        "items": [{"name": f"e{n}", "vhost": "/", "message_stats": {"publish_in": n}} for n in range(60)],
        "filtered_count": 60, "page_count": 1,
    }  # fmt: skip
    run = await ask(server, max_vhosts=10)
    assert len(run.values("rabbitmq.exchange.messages.publish_in.count")) == 50
    assert run.value("rabbitmq.exchanges_cut") == 10
    assert run.values("rabbitmq.connections") == []
    assert sum(one.name == "rabbitmq.aliveness" for one in run.statuses) == 10
    assert run.message("rabbitmq.complete") == (
        "2 vhosts are left out: raise max_vhosts, or name some; "
        "more than 2,000 connections are not told apart: raise max_connections"
    )


async def test_pages_that_go_while_they_are_read(server: Replayed) -> None:
    first = {"items": [{"name": "a", "vhost": "/", "messages": 1}], "filtered_count": 501, "page_count": 2}
    pages = iter([
        web.json_response(first),
        web.json_response({"error": "page_out_of_range", "reason": "Page out of range"}, status=400),
    ])  # fmt: skip
    server.changes["queues"] = lambda: next(pages)
    run = await ask(server, max_queues=600)
    assert run.values("rabbitmq.queue.messages") == [1]
    assert server.asked.count("queues") == 2


@pytest.mark.parametrize(
    ("path", "made", "says"),
    [
        ("overview", lambda: web.Response(text="<html>hello</html>"), "the answer is none of RabbitMQ's"),
        ("overview", lambda: web.json_response([1]), "the answer is none of RabbitMQ's"),
        ("overview", lambda: web.json_response({}), "the answer is none of RabbitMQ's"),
        ("overview", lambda: web.Response(text="[" * 100_000), "the answer is none of RabbitMQ's"),
        ("vhosts", lambda: web.json_response({"a": 1}), "the answer is none of RabbitMQ's"),
        ("queues", lambda: web.json_response({"items": 1}), "the answer is none of RabbitMQ's"),
        ("queues", lambda: web.Response(status=500, text="oops"), "the server answers 500 for /api/queues"),
        (
            "overview",
            lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
            "the server answers 302",
        ),
        ("overview", lambda: web.json_response({"a": "b" * 2_000_000}), "an answer is longer than 1,048,576 bytes"),
        (
            "overview",
            lambda: web.Response(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
            "the answer of 127.0.0.1:",
        ),
    ],
)
async def test_servers_that_misbehave(
    server: Replayed, path: str, made: Callable[[], web.StreamResponse], says: str
) -> None:
    server.changes[path] = made
    run = await ask(server, max_body="1MB", vhosts=["/"] if path == "overview" else [])
    assert run.error is not None
    assert run.error.message.startswith(says)
    assert (run.status("rabbitmq.status"), run.message("rabbitmq.status")) == (Status.CRITICAL, run.error.message)
    if path == "overview":
        assert run.status("rabbitmq.aliveness", vhost="/") is Status.CRITICAL


@pytest.mark.parametrize("junk", [None, 1, "x", [], {}, [None, 1, "x", {}], {"items": [1, None, {}]}])
async def test_no_junk_is_a_bug(server: Replayed, junk: Any) -> None:
    for path in ("nodes", "vhosts", "queues", "bindings", "exchanges", "connections"):
        server.answers = json.loads(json.dumps(REPLIES)) | {path: junk}
        run = await ask(server, bindings=True, tag_families=True, queues_regex=["(.)"])
        assert run.error is None or run.error.message.startswith(("the answer is none", "the server answers 404"))
    odd = {
        "name": 7,
        "vhost": None,
        "messages": "many",
        "members": [1, 2],
        "online": 1,
        "state": [],
        "messages_ready": True,
    }
    server.answers = json.loads(json.dumps(REPLIES)) | {"queues": {"items": [odd | {"message_stats": junk}]}}
    assert (await ask(server, depth_warning=5)).error is None


async def test_one_that_hangs_or_is_not_there(server: Replayed, closed_port: int) -> None:
    recorder = Recorder()
    runner = Runner(instance(RabbitMQ, url=server.url, timeout="400ms"), recorder.surroundings)
    while {one.status for one in (await runner.run()).statuses if one.name == "rabbitmq.aliveness"} != {Status.OK}:
        pass  # the machine stood still for longer than the timeout is
    server.hang = True
    batch = await runner.run()
    await runner.stop()
    said = {(one.name, one.tags[-1] if one.name.endswith("aliveness") else "", one.message) for one in batch.statuses}
    late = "the server does not answer in time"
    assert {(name, message) for name, _, message in said} == {("rabbitmq.status", late), ("rabbitmq.aliveness", late)}
    assert len(said) == 3
    run = await run_check(RabbitMQ, {"name": "x", "url": f"http://127.0.0.1:{closed_port}"})
    assert run.error is not None
    assert (run.error.message, run.error.hint) == (
        f"nothing accepts connections on 127.0.0.1:{closed_port}",
        "is RabbitMQ up, and its plugin: rabbitmq-plugins enable rabbitmq_management",
    )


async def test_each_queue_that_is_named_is_told_under_the_same_tags_there_or_not(server: Replayed) -> None:
    def found(run: CheckRun) -> dict[str, Status]:
        return {
            " ".join(tag.removeprefix("rabbitmq_") for tag in one.tags if tag.startswith("rabbitmq_")): one.status
            for one in run.statuses if one.name == "rabbitmq.queue_found"
        }  # fmt: skip

    named = ["pay", "//pay", "pay/quo", "/prod/none", "none"]
    tags = ["queue:pay vhost:/", "queue:none vhost:/prod", "queue:none vhost:any", "queue:pay vhost:any",
            "queue:quo vhost:pay"]  # fmt: skip
    run = await ask(server, queues=named)
    good, bad = Status.OK, Status.CRITICAL
    assert found(run) == dict(zip(tags, (good, bad, bad, good, good), strict=True))
    assert {one.status for one in run.statuses if "rabbitmq_queue:none" in one.tags} == {bad}
    assert_declared(run)
    server.answers["queues"]["items"] = []
    run = await ask(server, queues=named)
    assert found(run) == dict.fromkeys(tags, bad)
    assert [one for one in run.statuses if one.name == "rabbitmq.queue"] == []
    server.answers["queues/%2F"] = server.answers["queues"]
    assert found(await ask(server, queues=["pay"], vhosts=["/"])) == {"queue:pay vhost:/": bad}
    del server.answers["queues/%2F"]  # as for a user without permissions on it
    assert found(await ask(server, queues=["pay"], vhosts=["/"])) == {"queue:pay vhost:/": Status.UNKNOWN}


async def test_why_there_is_no_connection(server: Replayed, tmp_path: Path) -> None:
    place = server.url.removeprefix("http://")
    for url, says in (
        ("http://no-such-host.invalid:15672", "no-such-host.invalid has no address"),
        (f"https://{place}", f"no TLS with {place}: wrong version number"),
    ):
        run = await run_check(RabbitMQ, {"name": "x", "url": url})
        assert run.error is not None
        assert run.message("rabbitmq.status") == run.error.message == says
    async with serving(Certificates.make(tmp_path).server_side()) as other:
        run = await run_check(RabbitMQ, {"name": "x", "url": other.url.replace("https", "http")})
    assert run.error is not None
    assert run.error.hint == "does `url` lead to the management plugin, and is it http or https there?"
    run = await ask(server, ca_file=str(tmp_path / "absent.pem"))
    assert run.error is not None
    assert run.error.message.startswith("the certificate files cannot be used: ")
    assert run.status("rabbitmq.status") is Status.UNKNOWN


async def test_certificates(tmp_path: Path) -> None:
    files = Certificates.make(tmp_path)
    async with serving(files.server_side(ask_client=True)) as server:
        mine = {"cert_file": str(files.cert), "key_file": str(files.key)}
        run = await ask(server, ca_file=str(files.ca), **mine)
        assert run.value("rabbitmq.overview.object_totals.queues") == 2
        run = await ask(server, **mine)
        assert run.error is not None
        assert run.error.message.startswith(f"the certificate of {server.url[8:]} is not valid: ")
        assert (await ask(server, verify=False, **mine)).error is None
        diagnosis = Diagnosis()
        await RabbitMQ(RabbitMQConfig(name="x", url=server.url, verify=False, **mine)).diagnose(diagnosis)  # type: ignore[arg-type]
        assert diagnosis.symptoms[-1].what == "queues"


async def test_the_password_is_nowhere(server: Replayed, caplog: pytest.LogCaptureFixture) -> None:
    server.changes["overview"] = lambda: web.Response(status=401, text='{"reason": "s3cret-pw"}')
    run = await ask(server, password="s3cret-pw")
    assert run.error is not None
    said = (str(run.error), run.error.hint, run.statuses, run.samples, caplog.text)
    assert run.error.message == "the server refuses user or password"
    assert "s3cret" not in repr(said)
    assert "s3cret" not in repr(RabbitMQConfig.model_validate({"name": "x", "password": "s3cret-pw"}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "localhost:15672"}, "is an address such as http://127.0.0.1:15672"),
        ({"url": "http://a\x01b:15672"}, "is an address such as http://127.0.0.1:15672"),
        ({"url": "http://u:p@h/"}, "holds a login: give `username` and `password` instead"),
        ({"queues_regex": ["("]}, "is not a list of regular expressions"),
        ({"queues": [""]}, "is a list of names"),
        ({"depth_warning": 2, "depth_critical": 1}, "depth_critical must not be less than depth_warning"),
        ({"queues": ["a", "b"], "max_queues": 1}, "max_queues is less than there are queues in the list"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + says.replace("(", r"\(")):
        RabbitMQConfig(name="x", **options)


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/api", "http://h:1/api/"])
def test_datadogs_address_is_good_too(url: str) -> None:
    assert RabbitMQConfig(name="x", url=url).api == "http://h:1/api"
    assert RabbitMQConfig(name="x", url="https://h/proxied/").api == "https://h/proxied/api"


def test_what_the_server_is_to_look_for() -> None:
    assert Choice(["a.b", "v/c"], ["^(?P<x>d)"], "").filter == r"^(?:d)|^(?:a\.b|c|v/c)$"
    assert Choice([], [], "").filter == ""
    assert Choice(["q" * 900 + str(n) for n in range(9)], [], "").filter == ""
    assert Choice(["//q"], [], "").tags({"vhost": "/", "name": "q"}) == ()
    assert Choice(["//q"], [], "").tags({"vhost": "x", "name": "q"}) is None


def test_what_a_pod_may_ask_for() -> None:
    def reaches(**options: Any) -> list[str]:
        return list(RabbitMQ.reaches(RabbitMQConfig(name="x", url="http://10.0.0.1:15672", **options)) or ())

    assert reaches(queues=["a"]) == ["10.0.0.1"]
    with pytest.raises(ValueError, match="only the operator may set max_queues, queues_regex"):
        reaches(queues_regex=["(a+)+$"], max_queues=9)
