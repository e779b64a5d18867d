"""The client on real sockets: all transports, failures, forks, threads, signals, ends; nothing raises or waits."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio

from servers import free_port, until
from sinks.parts import Port
from vedette.instrument import BusinessMetrics, RealtimeCounters, Recorded, client, sender
from vedette.instrument.sender import packets
from vedette.instrument.settings import LOG, Settings, read_settings

from .conftest import Made

pytestmark = pytest.mark.anyio


def event(business: BusinessMetrics, user: str = "u") -> None:
    business.track_user_event("user_active", user_id=user)


def one_line(user: str = "u") -> str:
    return f"business.users.unique_daily:{user}|s|#period:daily"


# Where to


@pytest.mark.parametrize(
    ("arguments", "env", "target"),
    [
        ({}, {}, "127.0.0.1:8125"),
        ({}, {"DD_AGENT_HOST": "agent", "DD_DOGSTATSD_PORT": "9125"}, "agent:9125"),
        ({}, {"DD_AGENT_HOST": "agent", "DD_DOGSTATSD_URL": "udp://other:1"}, "other:1"),
        ({}, {"DD_DOGSTATSD_URL": "udp://[::1]"}, "[::1]:8125"),
        ({}, {"DD_DOGSTATSD_URL": "unix:///run/dsd.socket"}, "/run/dsd.socket"),
        ({}, {"DD_DOGSTATSD_URL": "unixstream:///run/dsd.socket"}, "unixstream:///run/dsd.socket"),
        ({"host": "mine"}, {"DD_DOGSTATSD_URL": "udp://other:1", "DD_DOGSTATSD_PORT": "2"}, "mine:2"),
        ({"port": 3}, {"DD_DOGSTATSD_URL": "udp://other:1", "DD_AGENT_HOST": "agent"}, "agent:3"),
        ({"socket_path": "/s"}, {"DD_DOGSTATSD_URL": "udp://other:1"}, "/s"),
    ],
)
def test_the_target(arguments: dict[str, Any], env: dict[str, str], target: str) -> None:
    assert read_settings(**arguments, env=env).target == target


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"DD_DOGSTATSD_PORT": "tcp://10.0.0.1:80"}, "DD_DOGSTATSD_PORT is not a port number: 8125 is used"),
        ({"DD_DOGSTATSD_PORT": "70000"}, "DD_DOGSTATSD_PORT is not a port number: 8125 is used"),
        ({"DD_DOGSTATSD_URL": "http://user:secret@x"}, "DD_DOGSTATSD_URL is not understood: "
         "give udp://HOST:PORT or unix:///PATH; it is ignored"),
        ({"DD_DOGSTATSD_URL": "udp://x:99999"}, "DD_DOGSTATSD_URL is not understood: "
         "give udp://HOST:PORT or unix:///PATH; it is ignored"),
    ],
)  # fmt: skip
def test_a_target_that_makes_no_sense_is_said(env: dict[str, str], said: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read_settings(env=env).target == "127.0.0.1:8125"
    assert caplog.messages == [said]


def test_tags_from_arguments_before_the_environment() -> None:
    env = {"ENVIRONMENT": "e1", "DD_ENV": "e2", "DD_SERVICE": "s", "APP_VERSION": "v1", "DD_VERSION": "v2",
           "DD_ENTITY_ID": "pod", "DATADOG_TAGS": "service:x,a:b", "DD_TAGS": "a:b c"}  # fmt: skip
    assert read_settings(env=env).tags == (
        "environment:e1", "service:s", "version:v1", "dd.internal.entity_id:pod", "a:b", "c",
    )  # fmt: skip
    assert read_settings(environment="mine", service="x y", tags="one:tag", env={}).tags == (
        "environment:mine", "service:x_y", "one:tag",
    )  # fmt: skip


def test_equal_arguments_share_a_client_and_a_thread(port: Port, made: Made) -> None:
    many = [made.business(port) for _ in range(100)]
    for business in many:
        event(business)
    assert many[0].flush(10)
    assert len({id(business._client) for business in many}) == 1
    assert [thread.name for thread in threading.enumerate()].count("vedette-instrument") == 1
    assert many[0].stats().sent == 100


def test_no_thread_before_the_first_metric(port: Port, made: Made) -> None:
    before = set(threading.enumerate())
    made.business(port)
    assert set(threading.enumerate()) <= before


def test_disabled(port: Port, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_DOGSTATSD_DISABLE", "true")
    business = made.business(port)
    event(business)
    assert business.flush()
    assert (business.stats().sent, business.stats().dropped, business.stats().waiting) == (0, 0, 0)


# Transports


@pytest.mark.parametrize("kind", ["udp", "datagram", "stream"])
async def test_many_lines_in_full_packets(tmp_path: Path, made: Made, kind: str) -> None:
    with Port(None if kind == "udp" else tmp_path / "s", stream=kind == "stream") as port:
        business = made.business(port)
        for number in range(1_000):
            event(business, f"user-{number:04}")
        assert business.flush(10)
        assert await port.wait_for(1_000) == [one_line(f"user-{number:04}") for number in range(1_000)]
        largest = 1432 if kind == "udp" else 8192
        assert largest - 100 < max(map(len, port.packets)) <= largest
        assert (business.stats().sent, business.stats().dropped) == (1_000, 0)


def test_packing() -> None:
    assert list(packets(["a", "b\nc", "d" * 30, "é"], 20)) == [b"a\nb\nc\n", b"d" * 30 + b"\n", b"\xc3\xa9\n"]
    assert list(packets([], 20)) == []
    assert list(packets(["x" * 8, "y" * 8 + "\n" + "z" * 8], 20)) == [
        b"x" * 8 + b"\n" + b"y" * 8 + b"\n", b"z" * 8 + b"\n",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["udp", "datagram", "stream"])
async def test_the_receiver_comes_goes_and_comes_again(
    tmp_path: Path, made: Made, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"_KEEP_FOR": 0.05, "_RETRY_AFTER": 0.01, "_CALM": 0.2}.items():
        monkeypatch.setattr(sender, name, value)
    monkeypatch.setattr(client, "_FLUSH_AFTER", 0.005)
    path, stream = (None if kind == "udp" else tmp_path / "s"), kind == "stream"
    with Port(path, stream=stream) as first:
        business = made.business(first)
        number = first.number
    caplog.set_level(logging.INFO)
    for _ in range(2):
        lost = business.stats().dropped
        _repeat(business, lambda lost=lost: business.stats().dropped > lost, "a loss")
        assert business.stats().trouble
        with Port(path, stream=stream, port=number) as port:
            _repeat(business, lambda port=port: port.lines and not business.stats().trouble, "the lines")
            messages = [text for text in caplog.messages if "metrics are" in text]
    target = f"127.0.0.1:{number}" if path is None else str(path)
    assert [text.endswith(": metrics are sent again") for text in messages] == [False, True, False, True]
    assert all(text.startswith(f"{target}: ") for text in messages)
    assert messages[0].endswith("; metrics are dropped, and counted in stats()")


def _repeat(business: BusinessMetrics, condition: Any, what: str) -> None:
    def act() -> bool:
        event(business)
        business.flush(10)
        return bool(condition())

    until(act, what)


def test_lines_are_kept_while_the_socket_is_not_there_yet(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_RETRY_AFTER", 0.01)
    with Port(tmp_path / "s") as port:
        business = made.business(port)
    event(business, "early")
    assert not business.flush(0.2)
    with Port(tmp_path / "s") as port:
        until(lambda: port.lines == [one_line("early")], "the early line")
    assert business.stats().dropped == 0


# Failures


def test_a_full_socket_buffer_costs_the_caller_nothing(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_STALLED", 0.01)
    monkeypatch.setattr(client, "_MOST_WAITING", 2_000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as frozen:
        frozen.bind(str(tmp_path / "s"))
        business = made._keep(BusinessMetrics(socket_path=str(tmp_path / "s")))
        made_so_far, took = 0, list[float]()
        while business.stats().dropped < 1_000:
            assert made_so_far < 2_000_000
            started = time.perf_counter()
            for _ in range(100):
                event(business, "u" * 100)
            took.append(time.perf_counter() - started)
            made_so_far += 100
        stats = business.stats()
        assert stats.waiting <= 2_000
        # a hundred calls, beside a busy thread on a machine that stops now and then: none waited for the socket
        assert sum(seconds > 1.0 for seconds in took) <= 2
        until(lambda: business.stats().trouble != "", "the reason")
        business.close(0.5)
        total = business.stats()
        own = total.sent + total.dropped + total.waiting - made_so_far
        assert 0 <= own <= 3  # the metric of what was dropped


@pytest.fixture
def hanging_lookup(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Name look-ups hang until the test ends."""
    answer, asked = threading.Event(), threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        asked.set()
        answer.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield asked
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "vedette-instrument":
            thread.join(10)


def test_a_hanging_name_lookup(hanging_lookup: threading.Event, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_WAITING", 1_000)
    monkeypatch.setattr(client, "_FLUSH_AFTER", 0.0)
    business = BusinessMetrics(host="agent.invalid")
    event(business)
    assert hanging_lookup.wait(10)
    for _ in range(1_500):
        event(business)
    stats = business.stats()
    assert (stats.sent, stats.dropped, stats.waiting) == (0, 500, 1_000)
    started = time.monotonic()
    business.close(0.1)
    assert time.monotonic() - started < 20  # of the thirty that the look-up hangs


def test_a_failing_name_lookup_is_asked_once_a_batch(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_KEEP_FOR", 0.0)
    monkeypatch.setattr(client, "_FLUSH_AFTER", 60.0)  # all of them are one batch, however long it takes to make them
    asked: list[Any] = []

    def fail(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    business = made._keep(BusinessMetrics(host="agent.invalid"))
    for _ in range(1_000):
        event(business, "u" * 100)
    assert business.flush(10)
    assert business.stats().dropped == 1_000
    assert business.stats().trouble == "agent.invalid:8125: Name or service not known"
    assert len(asked) < 10


def test_a_socket_that_somebody_closed(port: Port, business: BusinessMetrics) -> None:
    event(business, "a")
    assert business.flush(10)
    business._client._sender._client.socket.close()  # type: ignore[union-attr]
    event(business, "lost")
    assert business.flush(10)
    event(business, "b")
    assert business.flush(10)
    until(lambda: len(port.lines) == 2, "the lines")
    assert port.lines == [one_line("a"), one_line("b")]
    assert business.stats().dropped == 1


def test_what_was_lost_and_left_out_is_told_as_metrics(port: Port, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_WAITING", 0)
    business = made.business(port, service="pay")
    for _ in range(3):
        event(business)
    monkeypatch.setattr(client, "_MOST_WAITING", 100)
    business.track_transaction(amount=float("nan"), currency="QQQ", type="payment", status="completed")  # type: ignore[arg-type]
    business.close(10)
    until(lambda: len(port.lines) == 5, "the lines")
    assert sorted(port.lines[2:]) == [
        "vedette.instrument.dropped:3|c|#service:pay",
        "vedette.instrument.invalid:1|c|#service:pay",
        "vedette.instrument.other:1|c|#tag:currency,service:pay",
    ]


def test_close_waits_for_a_receiver_that_is_slow(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is made than its socket takes at once, and it begins to read when the process is about to end."""
    monkeypatch.setattr(sender, "_STALLED", 60.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as slow:
        slow.bind(str(tmp_path / "s"))
        slow.settimeout(30)
        business = made._keep(BusinessMetrics(socket_path=str(tmp_path / "s")))
        for number in range(4_000):
            event(business, f"{number:0100}")
        closing = threading.Thread(target=business.close, args=(30,))
        closing.start()
        until(lambda: business._client._close_by is not None, "the close to begin")
        got = 0
        while got < 4_000:
            got += slow.recv(65536).count(b"\n")
        closing.join(30)
    assert (got, business.stats().sent, business.stats().dropped) == (4_000, 4_000, 0)


def test_the_sender_gives_way(port: Port, business: BusinessMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """After few calls: a request that waits for the interpreter's lock would wait until all is sent."""
    event(business)
    assert business.flush(10)
    breaths: list[tuple[float, int]] = []
    clock = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda seconds: breaths.append((seconds, business.stats().waiting))
    )
    monkeypatch.setattr(client, "time", clock)
    monkeypatch.setattr(client, "_FLUSH_AFTER", 60.0)  # all of them are one batch, however long it takes to make them
    for number in range(200):
        event(business, f"user-{number}")
    assert business.flush(10)
    assert 200 // client._PIECE - 1 <= len(breaths) <= 200 // client._PIECE + 2
    assert {seconds for seconds, _ in breaths} <= {client._BREATH, client._SHORT_BREATH}
    assert min(seconds for seconds, _ in breaths) > 0
    waiting = [count for _, count in breaths]
    assert waiting[0] > waiting[-1]  # what is sent later is still in the queue
    assert client._PIECE <= 100


def test_gauges_are_read_once_and_those_that_are_refused_are_told(
    port: Port, made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client, "_MOST_POLLS", 2)
    technical = made.technical(port)
    with monkeypatch.context() as patch:
        patch.setattr(technical._client, "_start", lambda: None)  # it reads once all of them are there
        for depth in range(50):
            with technical.queue_worker("jobs", depth=lambda depth=depth: depth).message():  # type: ignore[misc]
                pass
    technical._client._start()
    until(lambda: any("queue.depth" in line for line in port.lines), "the depth")
    assert [line for line in port.lines if "queue.depth" in line] == ["queue.depth:49|g|#queue:jobs"]
    for name in ("mails", "reports", "letters"):
        technical.queue_worker(name, depth=lambda: 1)
    technical.queue_worker("mails", depth=lambda: 2)
    assert technical.stats().failed == 2
    assert caplog.messages == ["there are gauges for 2 pools and queues, and for no more"]


def test_a_metric_after_close_opens_all_anew(port: Port, business: BusinessMetrics) -> None:
    for user in "abc":
        event(business, user)
        business.close(10)
        assert "vedette-instrument" not in [thread.name for thread in threading.enumerate()]
    until(lambda: len(port.lines) == 3, "the lines")
    assert port.lines == [one_line(user) for user in "abc"]


@pytest.fixture
def lossless(tmp_path: Path) -> Iterator[Port]:
    """A unix socket: a receiver that is slow, beside busy threads, holds the sender up instead of losing packets."""
    with Port(tmp_path / "s") as made:
        yield made


@pytest.mark.soak  # on a busy machine the sender's thread gets no turn
def test_a_loop_that_does_nothing_but_track_loses_nothing(
    lossless: Port, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_STALLED", 10.0)
    business = made.business(lossless)
    for number in range(30_000):
        event(business, f"user-{number}")
    assert business.flush(10)
    stats = business.stats()
    assert (stats.sent, stats.dropped) == (30_000, 0)
    until(lambda: len(set(lossless.lines)) == 30_000, "the lines")


def test_closing_many_times_at_once(port: Port, business: BusinessMetrics) -> None:
    for number in range(20):
        event(business, f"u{number}")
        closers = [threading.Thread(target=business.close, args=(10,)) for _ in range(4)]
        for thread in closers:
            thread.start()
        for thread in closers:
            thread.join()
    event(business, "last")
    assert business.flush(10)
    until(lambda: len(port.lines) == 21, "the lines")


def test_no_thread_can_be_started(port: Port, business: BusinessMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(client, "_RETRY_START", 60.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(5):
            event(business)
        assert (business.stats().dropped, business.stats().waiting) == (1, 4)  # tried again only after a while
    monkeypatch.setattr(business._client, "_no_start_before", 0.0)
    event(business)
    assert business.flush(10)
    assert business.stats().sent >= 5


def test_a_depth_that_raises_whatever_it_likes(port: Port, made: Made) -> None:
    technical = made.technical(port)

    def leave() -> int:
        raise SystemExit

    technical.queue_worker("q", depth=leave)
    until(lambda: technical.stats().failed == 1, "the reading")
    technical.track_message_queue(queue="q", depth=1)
    assert technical.flush(10)
    until(lambda: "queue.depth:1|g|#queue:q" in port.lines, "a metric after it")


# Threads, signals, forks


def test_threads_lose_nothing(lossless: Port, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_STALLED", 10.0)
    business = made.business(lossless)

    def work(name: str) -> None:
        for number in range(500):
            event(business, f"{name}-{number}")

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert business.flush(10)
    until(lambda: len(lossless.lines) == 4_000, "the lines")
    assert set(lossless.lines) == {one_line(f"t{thread}-{number}") for thread in range(8) for number in range(500)}


def test_a_signal_handler_may_track(port: Port, business: BusinessMetrics) -> None:
    handled = 0

    def handle(*args: Any) -> None:
        nonlocal handled
        handled += 1
        event(business, "signal")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        made_so_far = 0
        while handled < 100:
            event(business)
            made_so_far += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert business.flush(10)
    stats = business.stats()
    assert stats.sent + stats.dropped == made_so_far + handled


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_sends_its_own_lines_and_no_others(port: Port, business: BusinessMetrics) -> None:
    event(business, "before")
    assert business.flush(10)
    event(business, "parent")  # is still in the queue
    child = os.fork()
    if child == 0:
        try:
            event(business, "child")
            well = business.flush(10) and business.stats().sent == 1
        finally:
            os._exit(0 if well else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    event(business, "after")
    assert business.flush(10)
    until(lambda: len(port.lines) == 4, "the lines")
    assert sorted(port.lines) == sorted(one_line(user) for user in ("before", "parent", "child", "after"))
    assert business.stats().sent == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_that_sends_nothing_yet_has_its_gauges(port: Port, made: Made) -> None:
    """A worker of a server that loads the application before it forks."""
    technical = made.technical(port)
    technical.queue_worker("jobs", depth=os.getpid)
    until(lambda: f"queue.depth:{os.getpid()}|g|#queue:jobs" in port.lines, "the depth")
    seen, done = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done)
        os.read(seen, 1)
        os._exit(0)
    try:
        until(lambda: f"queue.depth:{child}|g|#queue:jobs" in port.lines, "the child's depth")
    finally:
        os.close(done)
        os.close(seen)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_wait_for_a_sender_that_hangs(hanging_lookup: threading.Event, made: Made) -> None:
    business = BusinessMetrics(host="agent.invalid")
    event(business)
    assert hanging_lookup.wait(10)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert time.monotonic() - started < 20  # of the thirty that the look-up hangs
    os.waitpid(child, 0)
    business.close(0.1)


PROGRAM = """
import os, sys, multiprocessing
from vedette.instrument import BusinessMetrics
business = BusinessMetrics(host="127.0.0.1", port=int(sys.argv[1]))
def track(name):
    business.track_user_event("user_active", user_id=name)
"""


def run(port: int, body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + body, str(port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_end_of_the_process_sends_what_waits(port: Port) -> None:
    """Of a process that crashes in its event loop, of its last handlers, and of children of multiprocessing."""
    done = run(
        port.number,
        "import asyncio, atexit, warnings; warnings.simplefilter('ignore')\n"
        "multiprocessing.get_context('fork').Process(target=track, args=('child',)).start()\n"
        "atexit.register(lambda: track('late'))\n"
        "async def main(): track('crash'); raise SystemError\n"
        "asyncio.run(main())",
    )
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1, done.stderr
    until(lambda: len(port.lines) == 3, f"the lines; there are {port.lines}")
    assert sorted(port.lines) == [one_line(user) for user in ("child", "crash", "late")]


def test_the_end_is_not_held_up_where_nothing_can_be_sent() -> None:
    started = time.monotonic()
    done = run(free_port(), "import socket, time\nsocket.getaddrinfo = lambda *a: time.sleep(60)\ntrack('a')")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 30
    assert client._AT_EXIT == 1.0


# Beside the application's own


FULL = """
import logging, time
from vedette.instrument import JsonFormatter, TechnicalMetrics
handler = logging.FileHandler("/dev/full")
handler.setFormatter(JsonFormatter())
logging.basicConfig(level=logging.INFO, handlers=[handler])
nobody = TechnicalMetrics(host="127.0.0.1", port=1)
end = time.monotonic() + 30
while not nobody.stats().trouble and time.monotonic() < end:  # told in the log, which has no room for it
    nobody.track_message_queue(queue="q", depth=1)
    nobody.flush()
track("a")
logging.getLogger("shop").info("paid")
track("b")
assert business.flush(10)
print(nobody.stats().trouble, business.stats().failed + nobody.stats().failed, flush=True)
"""


class Broken(logging.Handler):
    """Raises what a file on a full disk does, against the rules of logging."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_log_that_raises(port: Port, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_POLLS", 0)
    handler = Broken()
    LOG.addHandler(handler)
    try:
        technical = made.technical(port)
        technical.queue_worker("jobs", depth=lambda: 1)
        read_settings(env={"DD_DOGSTATSD_PORT": "no"})
        nowhere = redis.asyncio.Redis(port=1)
        counters = RealtimeCounters(nowhere, timeout=0.05)
        assert await counters.record(transaction_id="t", amount=1, currency="QQQ") is Recorded.INVALID
        assert await counters.record(transaction_id="t", amount=1, currency="USD") is Recorded.FAILED
        await nowhere.aclose()
        nobody = made._keep(BusinessMetrics(host="127.0.0.1", port=1))
        _repeat(nobody, lambda: nobody.stats().trouble, "the trouble")
        assert (nobody.stats().failed, nobody.stats().waiting) == (0, 0)
    finally:
        LOG.removeHandler(handler)


def test_a_full_disk(port: Port) -> None:
    """Neither its own log nor the application's can be written, nor standard error: the metrics arrive all the same."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM + FULL, str(port.number)],
            stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.stdout == "127.0.0.1:1: Connection refused 0\n"
    until(lambda: len(port.lines) == 2, "the lines")
    assert port.lines == [one_line("a"), one_line("b")]


def test_imports_nothing_of_the_agent() -> None:
    code = (
        "import sys, vedette.instrument as i\n"
        "i.BusinessMetrics().track_user_event('x', user_id='u'); i.TechnicalMetrics(); i.JsonFormatter()\n"
        "print(sorted(name for name in sys.modules if name.startswith('vedette')))\n"
        "print(sorted({'pydantic', 'pluggy', 'anyio', 'starlette', 'redis', 'sqlalchemy', 'asyncpg', 'yaml', 'psutil',"
        " 'rich', 'msgspec', 'opentelemetry'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    ours, others = done.stdout.splitlines()
    assert {name for name in eval(ours) if name != "vedette"} == {
        name for name in eval(ours) if name.startswith("vedette.instrument")
    }
    assert others == "[]"


def test_the_librarys_own_tags_and_target_stay_out(port: Port, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DD_ENV": "prod", "DD_SERVICE": "pay", "DATADOG_TAGS": "a:b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DD_DOGSTATSD_URL", "udp://127.0.0.1:1")
    monkeypatch.setenv("DD_AGENT_HOST", "192.0.2.1")
    business = made.business(port)
    event(business)
    assert business.flush(10)
    until(lambda: len(port.lines) == 1, "the line")
    assert port.lines == [one_line() + ",environment:prod,service:pay,a:b"]


def test_a_name_is_looked_up_again_after_a_while(port: Port, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    business = made.business(port)
    event(business)
    assert business.flush(10)
    before = business._client._sender._client.socket  # type: ignore[union-attr]
    monkeypatch.setattr(sender, "_RESOLVE_AFTER", 0.0)
    event(business)
    assert business.flush(10)
    assert business._client._sender._client.socket is not before  # type: ignore[union-attr]
    assert before.fileno() == -1
    assert Settings(host="::1", port=1).target == "[::1]:1"
