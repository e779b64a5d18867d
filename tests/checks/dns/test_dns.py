"""A real dnsmasq, and peers that lie: other numbers, garbage, cut answers, refusals, silence."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from listening import listening
from servers import Server, eventually
from vedette import Diagnosis, Status
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.dns import Dns, DnsConfig, asking, system_servers

pytestmark = pytest.mark.anyio
DNSMASQ = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
RECORDS = (
    *("host-record=one.test,192.0.2.1,300", "host-record=two.test,192.0.2.2,2001:db8::2,60"),
    *("address=/many.test/192.0.2.3", "address=/many.test/192.0.2.4"),
    *("cname=alias.test,one.test", "mx-host=one.test,mx1.test,10", "mx-host=one.test,mx2.test,20"),
    *("srv-host=_pay._tcp.test,one.test,8443,1,2", 'txt-record=text.test,"v=spf1 -all"', "auth-ttl=60"),
    *(f"txt-record=long.test,{letter * 250}" for letter in "abcdefgh"),
    "caa-record=one.test,0,issue,ca.test",
)
Message = dns.message.QueryMessage
Lie = Callable[[bytes], list[bytes]]


class Dnsmasq(Server):
    """Knows the names of `.test`, and refuses all others."""

    def command_line(self) -> list[str]:
        (self.directory / "conf").write_text("\n".join(RECORDS))
        return [
            str(DNSMASQ), "--keep-in-foreground", "--conf-file=conf", f"--port={self.port}", "--bind-interfaces",
            "--listen-address=127.0.0.1", "--listen-address=127.0.0.2", "--no-hosts", "--no-resolv", "--local=/test/",
            "--local-ttl=120", "--pid-file=", "--user=root", "--log-facility=-",
        ]  # fmt: skip

    def ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dnsmasq]:
    if DNSMASQ is None:
        pytest.skip("needs dnsmasq (apt install dnsmasq-base)")
    one = Dnsmasq(tmp_path_factory.mktemp("dnsmasq"))
    one.start()
    yield one
    one.stop()


async def ask(port: int, hostname: str, **more: Any) -> CheckRun:
    options = {"hostname": hostname, "nameservers": ["127.0.0.1"], "nameserver_port": port, **more}
    return await run_check(Dns, options)


async def ask_briefly(port: int) -> CheckRun:
    """As `ask`, of a server that is awaited in vain; once more where the machine stood still when time was over."""
    while True:
        with suppress(TimeoutError):
            return await ask(port, "one.test", timeout="500ms")


class Liar(asyncio.DatagramProtocol):
    """Answers each question with what it is told to."""

    def __init__(self, lie: Lie) -> None:
        self.lie, self.asked = lie, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        for packet in self.lie(data):
            self.transport.sendto(packet, address)


@asynccontextmanager
async def liar(udp: Lie, tcp: Lie | None = None) -> AsyncIterator[tuple[int, Liar]]:
    """A peer on one port of UDP and of TCP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        for packet in (tcp or udp)(await reader.readexactly(size)):
            writer.write(packet)
        await writer.drain()
        writer.close()

    async with listening(serve) as port:
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Liar(udp), local_addr=("127.0.0.1", port)
        )
        try:
            yield port, protocol
        finally:
            transport.close()


def answer(question: bytes, *addresses: str, rcode: int = dns.rcode.NOERROR, **more: Any) -> dns.message.Message:
    query = dns.message.from_wire(question)
    made = dns.message.make_response(query)
    made.set_rcode(dns.rcode.Rcode(rcode))
    if addresses:
        made.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", *addresses))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def framed(made: dns.message.Message) -> bytes:
    wire = made.to_wire(max_size=65_535)
    return struct.pack("!H", len(wire)) + wire


@pytest.mark.parametrize(
    ("hostname", "record_type", "values", "ttl"),
    [
        ("one.test", "A", ["192.0.2.1"], 300),
        ("TWO.test.", "AAAA", ["2001:0db8::0002"], 60),
        ("many.test", "A", ["192.0.2.4", "192.0.2.3"], 120),
        ("alias.test", "A", ["192.0.2.1"], 120),
        ("alias.test", "CNAME", ["One.test."], 120),
        ("one.test", "MX", ["20 mx2.test", "10 mx1.test"], 120),
        ("_pay._tcp.test", "SRV", ["1 2 8443 one.test"], 120),
        ("text.test", "TXT", ["v=spf1 -all"], 120),
        ("one.test", "CAA", ['0 issue "ca.test"'], 120),
        ("192.0.2.1", "PTR", ["one.test"], 300),
        ("2001:db8::2", "PTR", ["two.test"], 60),
        ("no.test", "NXDOMAIN", [], None),
    ],
)
async def test_what_a_name_resolves_as(
    server: Dnsmasq, hostname: str, record_type: str, values: list[str], ttl: int | None
) -> None:
    expected = {"resolves_as": values} if values else {}
    found = await ask(server.port, hostname, record_type=record_type, **expected)
    assert found.error is None, found.error
    tags: dict[str, object] = {"nameserver": "127.0.0.1", "resolved_hostname": hostname, "record_type": record_type}
    assert found.status("dns.can_resolve", **tags) is Status.OK
    took = found.value("dns.response_time", instance="dns", **tags)
    assert isinstance(took, float)
    assert 0 < took < 9
    assert found.values("dns.answers", **tags) == ([len(values)] if values else [])
    assert found.values("dns.ttl", **tags) == ([] if ttl is None else [ttl])
    assert_declared(found)


@pytest.mark.parametrize(
    ("hostname", "options", "message"),
    [
        ("no.test", {}, "there is no such name (NXDOMAIN)"),
        ("one.test", {"record_type": "AAAA"}, "the name has no AAAA record"),
        ("elsewhere.example", {}, "the server says REFUSED"),
        ("elsewhere.example", {"record_type": "NXDOMAIN"}, "the server says REFUSED"),
        ("one.test", {"record_type": "NXDOMAIN"}, "the name is there: 192.0.2.1"),
        ("text.test", {"record_type": "NXDOMAIN"}, "the name is there"),
        ("one.test", {"resolves_as": ["192.0.2.9"]}, "resolves as 192.0.2.1, not as 192.0.2.9"),
        ("many.test", {"resolves_as": ["192.0.2.3"]}, "resolves as 192.0.2.3, 192.0.2.4, not as 192.0.2.3"),
        ("one.test", {"resolves_as": ["192.0.2.1", "192.0.2.3"]}, "resolves as 192.0.2.1, not as 192.0.2.1, 192.0.2.3"),
    ],
)
async def test_what_is_wrong_with_an_answer(
    server: Dnsmasq, hostname: str, options: dict[str, Any], message: str
) -> None:
    found = await ask(server.port, hostname, **options)
    assert found.status("dns.can_resolve") is Status.CRITICAL
    assert found.message("dns.can_resolve") == message
    assert found.error is not None
    assert found.error.message == f"{hostname}: 127.0.0.1: {message}"
    assert len(found.values("dns.response_time")) == ("resolves as" in message or "192" in message)


async def test_a_long_answer_comes_over_tcp(server: Dnsmasq) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # it does not fit into a packet
        probe.settimeout(20)
        probe.sendto(dns.message.make_query("long.test", "TXT").to_wire(), ("127.0.0.1", server.port))
        assert dns.message.from_wire(probe.recv(65_535)).flags & dns.flags.TC
    for transport in ("udp", "tcp"):
        found = await ask(server.port, "long.test", record_type="TXT", transport=transport)
        assert (found.error, found.value("dns.answers")) == (None, 8)
    over = await ask(server.port, "long.test", record_type="TXT", resolves_as=["x"])
    assert over.error is not None
    assert over.error.message.endswith(f"{'e' * 80} and 3 more, not as x")


async def test_each_server_is_measured(server: Dnsmasq, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# ours\nsearch test\nnameserver 127.0.0.1\nnameserver 127.0.0.2 # two\nnameserver 127.0.0.3\n")
    options = {"hostname": "one.test", "nameserver_port": server.port, "resolv_conf": str(file)}
    found = await run_check(Dns, {"name": "x", **options})
    for address in ("127.0.0.1", "127.0.0.2"):
        assert found.value("dns.answers", nameserver=address) == 1
        assert found.status("dns.can_resolve", nameserver=address) is Status.OK
    assert found.message("dns.can_resolve", nameserver="127.0.0.3") == "connection refused"
    assert found.error is not None
    assert found.error.message == "one.test: 127.0.0.3: connection refused"
    (estimate,) = await Dns(DnsConfig(name="x", interval=30, **options)).estimate()
    assert (estimate.what, estimate.value) == ("questions per day", 3 * 2_880)
    for content, message in (("nameserver nowhere\n", "names no server"), (None, "No such file or directory")):
        file.write_text(content) if content else file.unlink()
        found = await run_check(Dns, {"name": "x", **options})
        assert found.error is not None
        assert found.error.message.endswith(message)
        assert found.status("dns.can_resolve", resolved_hostname="one.test") is Status.CRITICAL


def test_servers_of_the_system(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_bytes(b"\xff\nnameserver\nnameserver fe80::1%eth0\n nameserver  ::1\nnameserver ::1\noptions ndots:5")
    assert system_servers(file) == ("fe80::1%eth0", "::1")


async def test_what_does_not_fit_the_question_is_passed_over() -> None:
    def several(question: bytes) -> list[bytes]:
        other = dns.message.make_query("other.test", "A", id=dns.message.from_wire(question).id).to_wire()
        return [
            b"", b"\0", os.urandom(300), question, question[:12],
            answer(question, "192.0.2.66", id=dns.message.from_wire(question).id ^ 1).to_wire(),
            answer(other, "192.0.2.66").to_wire(), answer(question, "192.0.2.1").to_wire(),
        ]  # fmt: skip

    async with liar(several) as (port, _):
        found = await ask(port, "one.test", resolves_as=["192.0.2.1"])
    assert found.error is None, found.error


async def test_what_comes_from_elsewhere_is_not_heard() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        ports: list[int] = []

        class Behind(Liar):
            def datagram_received(self, data: bytes, address: Any) -> None:
                ports.append(elsewhere.sendto(answer(data, "192.0.2.66").to_wire(), address))
                super().datagram_received(data, address)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Behind(lambda data: [answer(data, "192.0.2.1").to_wire()]), local_addr=("127.0.0.1", 0)
        )
        found = await ask(transport.get_extra_info("sockname")[1], "one.test", resolves_as=["192.0.2.1"])
        transport.close()
    assert (found.error, len(ports)) == (None, 1)


@pytest.mark.parametrize(
    ("udp", "tcp", "message"),
    [
        (lambda _: [], None, "no answer"),
        (lambda question: [os.urandom(4)], None, r"no answer, but \d packets that answer something else"),
        (lambda question: [b"x"] * 1_000, None, r"no answer, but \d+ packets that answer something else"),
        (lambda question: [answer(question, rcode=dns.rcode.SERVFAIL).to_wire()], None, "the server says SERVFAIL"),
        (lambda question: [answer(question, rcode=dns.rcode.REFUSED).to_wire()], None, "the server says REFUSED"),
        (lambda question: [answer(question, rcode=dns.rcode.NOTIMP).to_wire()], None, "the server says NOTIMP"),
        (lambda question: [answer(question, flags=0x8200).to_wire()], lambda _: [], "the server closed the connection "
         "without an answer"),
        (lambda question: [answer(question, flags=0x8200).to_wire()], lambda _: [b"\0\5hello"], "what came over TCP is "
         "no DNS message"),
        (lambda question: [answer(question, flags=0x8200).to_wire()], lambda _: [b"\xff\xffhello"], "the server closed "
         "the connection without an answer"),
        (lambda question: [answer(question, flags=0x8200).to_wire()], lambda question: [framed(answer(
            question, "192.0.2.1", id=1 ^ dns.message.from_wire(question).id))], "what came over TCP answers something "
         "else"),
    ],
)  # fmt: skip
async def test_peers_that_lie(udp: Lie, tcp: Lie | None, message: str) -> None:
    async with liar(udp, tcp) as (port, _):
        found = await (ask_briefly(port) if message.startswith("no answer") else ask(port, "one.test"))
        while found.message("dns.can_resolve") == "no answer" != message:  # it was over before the first packet came
            found = await ask_briefly(port)
    assert found.error is not None
    assert found.status("dns.can_resolve") is Status.CRITICAL
    assert found.values("dns.response_time") == []
    assert re.fullmatch(message, found.message("dns.can_resolve"))


async def test_a_lost_packet_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_AGAIN", 0.3)
    lost: list[bytes] = []

    def second(question: bytes) -> list[bytes]:
        lost.append(question)
        return [answer(question, "192.0.2.1").to_wire()] if len(lost) > 1 else []

    async with liar(second) as (port, peer):
        found = await ask(port, "one.test")
    assert (found.error, set(lost)) == (None, {lost[0]})
    assert peer.asked >= 2  # more only if it was in vain that the second was answered at once
    assert found.value("dns.response_time") > 0.29  # type: ignore[operator]


@pytest.mark.parametrize("cut", [0, 7])
async def test_cut_answers_and_huge_ones(cut: int) -> None:
    many = [f"10.{one >> 8}.{one & 255}.1" for one in range(4_000)]

    def short(question: bytes) -> list[bytes]:
        wire = answer(question, "192.0.2.66", flags=0x8200).to_wire()
        return [wire[: len(wire) - cut]]

    async with liar(short, lambda question: [framed(answer(question, *many))]) as (port, _):
        found = await ask(port, "one.test")
    assert (found.error, found.value("dns.answers")) == (None, 4_000)


async def test_aliases_in_a_ring() -> None:
    def ring(question: bytes) -> list[bytes]:
        made = answer(question)
        for name, target in (("one.test.", "two.test."), ("two.test.", "one.test.")):
            made.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
        return [made.to_wire()]

    async with liar(ring) as (port, _):
        found = await ask(port, "one.test")
    assert found.message("dns.can_resolve") == "its aliases lead nowhere"


async def test_a_run_that_is_cancelled_leaves_nothing_open() -> None:
    before = len(list(_open_files()))
    async with liar(lambda _: []) as (port, peer):
        running = asyncio.create_task(ask(port, "one.test"))
        await eventually(lambda: peer.asked > 0, "a question")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await asyncio.sleep(0)
    assert len(list(_open_files())) == before


def _open_files() -> Iterator[Path]:
    return Path("/proc/self/fd").iterdir()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_a_server_on_ipv6() -> None:
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Liar(lambda data: [answer(data, "192.0.2.1").to_wire()]), local_addr=("::1", 0)
        )
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    found = await ask(transport.get_extra_info("sockname")[1], "bücher.test", nameservers=["::1"])
    transport.close()
    assert found.error is None, found.error
    assert found.value("dns.answers", nameserver="::1", resolved_hostname="bücher.test") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hostname": ""}, "hostname"),
        ({"hostname": "a..b"}, "hostname cannot be a name in DNS"),
        ({"hostname": "x" * 64}, "hostname cannot be a name in DNS"),
        ({"nameservers": ["dns.internal"]}, "a server is given by its IP address"),
        ({"nameservers": ["10.0.0.1"] * 21}, "nameservers"),
        ({"record_type": "AXFR"}, "record_type"),
        ({"record_type": "NXDOMAIN", "resolves_as": ["10.0.0.1"]}, "a name that is not there has no resolves_as"),
        ({"resolves_as": ["2001:db8::1"]}, "resolves_as holds what is no address of this record_type"),
    ],
)
async def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await run_check(Dns, {"hostname": "one.test", **options})


def test_what_others_may_ask_for() -> None:
    assert list(Dns.reaches(DnsConfig(hostname="a", nameservers=("10.0.0.1",)))) == ["10.0.0.1"]
    for options in ({}, {"nameservers": ["10.0.0.1"], "resolv_conf": "/etc/shadow"}):
        with pytest.raises(ValueError, match=r"nameservers must be given|only the operator"):
            Dns.reaches(DnsConfig.model_validate({"hostname": "a", **options}))


async def test_what_doctor_says(server: Dnsmasq) -> None:
    diagnosis = Diagnosis()
    both = ("127.0.0.1", "127.0.0.3")
    options = {"hostname": "one.test", "nameservers": both, "nameserver_port": server.port}
    await Dns(DnsConfig.model_validate(options)).diagnose(diagnosis)
    said = [(one.what, str(one.grade), one.seen.partition(" in ")[0]) for one in diagnosis.symptoms]
    assert said == [
        ("127.0.0.1 UDP", "ok", "192.0.2.1"),
        ("127.0.0.1 TCP", "ok", "192.0.2.1"),
        ("127.0.0.3 UDP", "failed", "connection refused"),
        ("127.0.0.3 TCP", "warning", "connection refused"),
    ]
    diagnosis = Diagnosis()
    await Dns(DnsConfig(hostname="a", nameservers=("127.0.0.1",), nameserver_port=1)).diagnose(diagnosis)
    assert [str(one.grade) for one in diagnosis.symptoms] == ["failed", "warning"]
