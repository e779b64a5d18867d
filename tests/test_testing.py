"""The testing kit: what it runs, what it finds, and what it refuses."""

from __future__ import annotations

import asyncio
import socket
import threading
from decimal import Decimal
from typing import Any

import pytest
from pydantic import Field

from vedette import Check, CheckConfig, CheckError, Duration, Emit, Kind, Listener, Metric, Status
from vedette.testing import UdpCapture, assert_declared, run_check, serve_check

pytestmark = pytest.mark.anyio


class Options(CheckConfig):
    mode: str = Field("fine", description="What to do.")
    limit: int = Field(description="A number.", ge=1)
    pause: Duration = Field(0.0, description="A pause.")


class Sampler(Check[Options]):
    name = "sampler"
    metrics = (
        Metric("a.level", Kind.GAUGE, tags=("db",)),
        Metric("a.total", Kind.COUNTER),
        Metric("a.runs", Kind.COUNT),
    )
    statuses = ("a.ok",)
    keeps_state = True

    async def open(self) -> None:
        self.events = ["open"]
        if self.config.mode == "shut":
            raise CheckError("shut", hint="open it")
        if self.config.mode == "slow open":
            await asyncio.Event().wait()

    async def run(self, emit: Emit) -> None:
        self.events.append("run")
        seen = self.state.get("seen", 0)
        emit.gauge("a.level", self.config.limit, tags=("db:0", "server:s1"))
        emit.gauge("a.level", Decimal("2.50"), tags=("db:1", "server:s1"))
        emit.counter("a.total", seen, tags=("server:s1",))
        emit.count("a.runs", 1, tags=("server:s1",))
        emit.status("a.ok", Status.WARNING if seen else Status.OK, f"seen {seen}", tags=("ready:True",))
        emit.commit("seen", seen + 1)
        await self._misbehave(emit)

    async def _misbehave(self, emit: Emit) -> None:
        match self.config.mode:
            case "down":
                raise CheckError("no answer", hint="is it running?")
            case "bug":
                raise ZeroDivisionError("a bug")
            case "hang":
                await asyncio.Event().wait()
            case "own timeout":
                raise TimeoutError("the socket's")
            case "undeclared":
                emit.gauge("a.other", 1)
                emit.gauge("a.total", 1)
                emit.status("a.unknown", Status.OK)
            case "not finite":
                emit.gauge("a.level", float("nan"))
            case "stray tag":
                emit.count("a.runs", 1, tags=("server:s1", "user:u1"))
            case "odd commit":
                emit.commit("what", {1, 2})

    async def close(self) -> None:
        CLOSED.append(self)
        if self.config.mode == "slow close":
            await asyncio.Event().wait()


CLOSED: list[Sampler] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CLOSED.clear()


async def test_a_run_opens_runs_closes_and_tells() -> None:
    run = await run_check(Sampler, {"limit": 7, "tags": ["role:x"]}, time=1000.0)
    assert [check.events for check in CLOSED] == [["open", "run"]]
    assert run.value("a.level", db=0) == 7
    assert run.value("a.level", db="1", server="s1") == Decimal("2.50")
    assert run.values("a.level") == [7, Decimal("2.50")]
    assert run.values("a.nothing") == []
    assert run.status("a.ok") is Status.OK
    assert run.message("a.ok", ready=True) == "seen 0"
    assert run.samples[0].tags == ("db:0", "instance:sampler", "role:x", "server:s1")
    assert (run.batch.time, run.batch.interval, run.batch.instance) == (1000.0, 15.0, "sampler/sampler")
    assert run.commits == {"seen": 1}
    assert (run.error, run.dropped) == (None, {})
    assert_declared(run)


async def test_runs_follow_each_other_and_see_what_was_committed() -> None:
    given = {"seen": 5}
    run = await run_check(Sampler, {"limit": 1, "interval": "10s"}, runs=3, state=given, time=100.0)
    assert [check.events for check in CLOSED] == [["open", "run", "run", "run"]]
    assert [batch.time for batch in run.batches] == [100.0, 110.0, 120.0]
    assert run.value("a.total") == 7
    assert run.message("a.ok") == "seen 7"
    assert (run.state, run.commits, given) == ({"seen": 8}, {"seen": 8}, {"seen": 5})


async def test_value_says_what_there_was() -> None:
    run = await run_check(Sampler, {"limit": 7})
    with pytest.raises(AssertionError) as several:
        run.value("a.level")
    assert str(several.value).splitlines() == [
        "expected one a.level, found 2; there is:",
        "  a.level db:0 instance:sampler server:s1",
        "  a.level db:1 instance:sampler server:s1",
        "  a.runs instance:sampler server:s1",
        "  a.total instance:sampler server:s1",
    ]
    with pytest.raises(AssertionError, match=r"expected one a\.level db:9, found none; there is:"):
        run.value("a.level", db=9)
    with pytest.raises(
        AssertionError, match=r"expected one a.bad, found none; there is:\n  a.ok instance:sampler ready:"
    ):
        run.status("a.bad")


async def test_a_finding_is_kept_with_what_was_said_before() -> None:
    run = await run_check(Sampler, {"limit": 7, "mode": "down"}, runs=2)
    assert run.error is not None
    assert (run.error.message, run.error.hint) == ("no answer", "is it running?")
    assert [check.events for check in CLOSED] == [["open", "run", "run"]]
    assert len(run.batches) == 2
    assert run.value("a.total") == 1


async def test_a_finding_in_open_is_a_failed_run_that_is_tried_again() -> None:
    run = await run_check(Sampler, {"limit": 7, "mode": "shut"}, runs=2)
    assert str(run.error) == "shut"
    assert [batch.samples for batch in run.batches] == [(), ()]
    assert [check.events for check in CLOSED] == [["open"]]


@pytest.mark.parametrize(
    ("mode", "error", "text"),
    [
        ("bug", ZeroDivisionError, "a bug"),
        ("hang", TimeoutError, "run 1 took longer than 50ms"),
        ("slow open", TimeoutError, "run 1 took longer than 50ms"),
        ("own timeout", TimeoutError, "the socket's"),
        ("slow close", TimeoutError, "close took longer than 2s"),
        ("odd commit", TypeError, "set is not JSON serializable"),
    ],
)
async def test_what_the_agent_would_not_forgive_is_raised(mode: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await run_check(Sampler, {"limit": 7, "mode": mode, "timeout": "50ms"})
    assert len(CLOSED) == 1


async def test_bad_options_are_a_clear_value_error() -> None:
    with pytest.raises(ValueError) as caught:
        await run_check(Sampler, {"limit": 0, "mod": "secret-value", "tags": "x"})
    assert str(caught.value).splitlines() == [
        "sampler: these options are not valid:",
        "  tags: Input should be a valid tuple",
        "  limit: Input should be greater than or equal to 1",
        "  mod: Extra inputs are not permitted",
    ]
    assert CLOSED == []


class Plain(Check[CheckConfig]):
    name = "plain"
    metrics = (Metric("plain.thread", Kind.GAUGE),)

    def run(self, emit: Emit) -> None:
        emit.gauge("plain.thread", threading.get_ident())


async def test_what_goes_away_must_say_when() -> None:
    class Old(CheckConfig):
        depth: int = Field(0, description="Depth.", deprecated=True)

    class Well(Check[Old]):
        name = "well"

        async def run(self, emit: Emit) -> None: ...

    with pytest.raises(ValueError, match=r"^well: depth: say in `deprecated` which version removes it$"):
        await run_check(Well, {})


async def test_a_plain_run_gets_a_worker_thread() -> None:
    run = await run_check(Plain, {})
    assert run.value("plain.thread") != threading.get_ident()


async def test_the_metrics_option_is_honoured() -> None:
    options = {"limit": 1, "metrics": {"include": ["a.l*"], "rename": {"a.level": "b.level"}}}
    run = await run_check(Sampler, options)
    assert {sample.name for sample in run.samples} == {"b.level"}
    with pytest.raises(AssertionError, match=r"^a\.level: tags not declared: server$"):
        assert_declared(run)  # `server` is on all samples, but of one metric only


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("undeclared", "not declared, or with another kind: a.other, a.total, a.unknown"),
        ("not finite", "dropped 1 as not_finite"),
        ("stray tag", "a.runs: tags not declared: user"),
    ],
)
async def test_assert_declared_names_what_is_wrong(mode: str, text: str) -> None:
    run = await run_check(Sampler, {"limit": 1, "mode": mode})
    with pytest.raises(AssertionError) as caught:
        assert_declared(run)
    assert str(caught.value) == text


# Listeners


class Echo(Listener[Options]):
    name = "echo"
    open_names = True

    async def open(self) -> None:
        if self.config.mode == "shut":
            raise CheckError("port taken")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    async def serve(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        while True:
            word = (await loop.sock_recv(self.socket, 1000)).decode()
            if word == "return":
                return
            if word in ("bug", "finding"):
                raise ZeroDivisionError(word) if word == "bug" else CheckError(word)
            emit.count(word, 1)
            emit.commit("last", word)
            await emit.flush()

    async def close(self) -> None:
        if self.config.mode != "shut":
            self.socket.close()


def send(text: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), ("127.0.0.1", port))


async def test_a_listener_serves_while_the_test_talks_to_it() -> None:
    async with serve_check(Echo, {"limit": 1}, state={"old": 1}) as serving:
        for word in ("x.a", "x.b", "x.a"):
            send(word, serving.check.port)
        await serving.wait_for(3)
        assert serving.values("x.a") == [1, 1]
        assert serving.value("x.b", instance="echo") == 1
        assert serving.state == {"old": 1, "last": "x.a"}
        send("x.c", serving.check.port)
        await serving.wait_for(lambda serving: serving.values("x.c") == [1])
    assert [batch.samples[0].name for batch in serving.batches] == ["x.a", "x.b", "x.a", "x.c"]
    assert_declared(serving)
    assert serving.check.socket.fileno() == -1


async def test_waiting_in_vain_says_what_there_is() -> None:
    async with serve_check(Echo, {"limit": 1}) as serving:
        send("x.a", serving.check.port)
        await serving.wait_for(1)
        with pytest.raises(AssertionError, match=r"not within 0\.01 s; there are 1 batches with these metrics: x\.a"):
            await serving.wait_for(2, timeout=0.01)


@pytest.mark.parametrize(("word", "error"), [("return", None), ("finding", "finding")])
async def test_a_listener_that_ends_by_itself_ends_the_waiting(word: str, error: str | None) -> None:
    async with serve_check(Echo, {"limit": 1}) as serving:
        send(word, serving.check.port)
        with pytest.raises(AssertionError, match="the listener ended by itself"):
            await serving.wait_for(1)
    assert (serving.error and serving.error.message) == error


async def test_a_bug_in_a_listener_is_raised_at_the_end() -> None:
    async def serve() -> None:
        async with serve_check(Echo, {"limit": 1}) as serving:
            send("bug", serving.check.port)
            with pytest.raises(AssertionError, match="ended by itself"):
                await serving.wait_for(1)

    with pytest.raises(ZeroDivisionError, match="bug"):
        await serve()


async def test_a_listener_that_cannot_open_and_one_taken_for_a_check() -> None:
    with pytest.raises(CheckError, match="port taken"):
        async with serve_check(Echo, {"limit": 1, "mode": "shut"}):
            pytest.fail("it opened")
    anything: Any = Echo
    with pytest.raises(TypeError, match="Echo is a Listener: use serve_check"):
        await run_check(anything, {"limit": 1})


# UDP


async def test_udp_capture_waits_for_lines() -> None:
    with UdpCapture() as capture:
        send("a:1|c\nb:2|g\n", capture.port)
        assert await capture.wait_for(2) == ["a:1|c", "b:2|g"]
        sender = threading.Thread(target=send, args=("c:3|g", capture.port))
        sender.start()
        assert await capture.wait_for(lambda lines: "c:3|g" in lines) == ["a:1|c", "b:2|g", "c:3|g"]
        sender.join()
        capture.clear()
        assert capture.lines == []
        with pytest.raises(AssertionError, match=r"not within 0\.01 s; there are 0 lines"):
            await capture.wait_for(1, timeout=0.01)


async def test_udp_capture_keeps_a_burst_and_ends_its_thread() -> None:
    with UdpCapture() as capture:
        for n in range(200):
            send(f"n:{n}|g", capture.port)
        lines = await capture.wait_for(200)
    assert lines == [f"n:{n}|g" for n in range(200)]
    assert capture.lines == lines
    assert not [thread for thread in threading.enumerate() if thread.name == "udp-capture"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", capture.port))
