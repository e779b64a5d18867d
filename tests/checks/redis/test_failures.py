"""Whatever goes wrong is one plain sentence with a hint; never a traceback, never a password."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from listening import listening
from servers import Certificates, RedisServer, redis62, relay, until
from vedette import CheckError, Status
from vedette_checks.redis.address import Address
from vedette_checks.redis.findings import Advisor

from .driver import Servers, Watches

pytestmark = pytest.mark.anyio

PASSWORD = "hunter2-is-secret"


@asynccontextmanager
async def silent_port(greeting: bytes = b"") -> AsyncIterator[int]:
    """A port that accepts, says at most a greeting, and never answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()

    async with listening(serve) as port:
        yield port


async def test_refused(watch: Watches, closed_port: int) -> None:
    port = closed_port
    outcome = await watch(host="127.0.0.1", port=port).run()
    assert outcome.refused() == (
        f"nothing listens on 127.0.0.1:{port}; is the server running, and is this its address?"
    )
    assert not outcome.batch.samples
    assert set(outcome.status("redis.can_connect").tags) == {
        "instance:test",
        "redis_host:127.0.0.1",
        f"redis_port:{port}",
    }


async def test_refused_on_every_address_of_a_name(watch: Watches, closed_port: int) -> None:
    port = closed_port
    text = (await watch(host="localhost", port=port).run()).refused()
    assert text.startswith(f"nothing listens on localhost:{port}; ")


@pytest.mark.parametrize("host", [".".join(["a" * 60] * 5), "a..b"])
async def test_name_that_does_not_resolve(watch: Watches, host: str) -> None:
    """Both are refused before anything is asked of a name server."""
    text = (await watch(host=host).run()).refused()
    assert text == f"the host name {host} does not resolve; check `host`, and the machine's DNS"


async def test_no_such_socket(watch: Watches, tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    text = (await watch(unix_socket_path=str(path)).run()).refused()
    assert text == f"there is no socket {path}; is the server running, with this `unixsocket`?"


async def test_silent_port(watch: Watches) -> None:
    async with silent_port() as port:
        outcome = await watch(host="127.0.0.1", port=port, timeout="200ms").run()
    assert outcome.refused() == (
        f"no answer from 127.0.0.1:{port} within 0.18s; "
        "if it expects TLS, set `tls: true`; else it hangs, or a firewall drops the packets"
    )


async def test_silent_port_with_tls(watch: Watches, certificates: Certificates) -> None:
    async with silent_port() as port:
        outcome = await watch(host="127.0.0.1", port=port, timeout="200ms", tls=True, ca_file=certificates.ca).run()
    assert outcome.refused().startswith(f"no answer from 127.0.0.1:{port} within 0.18s; if it does not")


async def test_not_redis(watch: Watches) -> None:
    async with silent_port(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        text = (await watch(host="127.0.0.1", port=port).run()).refused()
    assert text == f"127.0.0.1:{port} answers, but does not speak the Redis protocol; check the port"


async def test_hung_server_and_its_recovery(servers: Servers, watch: Watches) -> None:
    server = servers()
    watched = watch(server, timeout="300ms")
    await watched.well()
    server.pause()
    outcome = await watched.run()
    server.resume()
    assert outcome.refused() == (
        f"127.0.0.1:{server.port} did not answer within 0.27s; it hangs or is busy: see SLOWLOG on the server"
    )
    assert not outcome.batch.samples
    until(server.ready, "the server to go on")
    assert (await watched.well()).status("redis.can_connect").status is Status.OK


async def test_killed_and_started_again(servers: Servers, watch: Watches) -> None:
    server = servers()
    watched = watch(server)
    assert (await watched.run()).error is None
    server.kill()
    assert (await watched.run()).refused().startswith("nothing listens on")
    server.start()
    again = await watched.run()
    assert again.error is None
    assert again.value("redis.net.clients") == server.info()["connected_clients"] - 1


async def test_restart_between_two_runs_goes_unnoticed(servers: Servers, watch: Watches) -> None:
    server = servers()
    watched = watch(server)
    await watched.run()
    server.restart()
    outcome = await watched.run()
    assert outcome.error is None
    assert outcome.value("redis.net.total_connections_received") == server.info()["total_connections_received"] - 1


async def test_connection_that_the_server_closed(server: RedisServer, watch: Watches) -> None:
    watched = watch(server)
    await watched.run()
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert (await watched.run()).error is None


async def test_killed_while_it_answers(servers: Servers, watch: Watches) -> None:
    server = servers()
    watched = watch(server, timeout="60s")
    await watched.run()
    server.pause()
    running = asyncio.create_task(watched.run())
    await asyncio.to_thread(until, lambda: _unread(server.port), "the pipeline to arrive")
    await asyncio.to_thread(server.kill)
    place = f"127.0.0.1:{server.port}"  # its port may outlive its connections by a moment
    assert (await running).refused().startswith((f"nothing listens on {place}; ", f"{place} closed the connection; "))


def _unread(port: int) -> bool:
    """Whether bytes wait for the server in its socket's receive queue."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, _, _, queues = line.split()[1:5]
        if local == f"0100007F:{port:04X}" and int(queues.partition(":")[2], 16) > 0:
            return True
    return False


async def test_wrong_password(servers: Servers, watch: Watches) -> None:
    server = servers(requirepass="right")
    text = (await watch(server, password=PASSWORD).run()).refused()
    assert text == (f"127.0.0.1:{server.port} refused the user name or the password; check `username` and `password`")


async def test_wrong_password_in_a_url(servers: Servers, watch: Watches) -> None:
    server = servers(requirepass="right")
    text = (await watch(url=f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0").run()).refused()
    assert text.startswith(f"127.0.0.1:{server.port} refused the user name or the password; ")
    assert PASSWORD not in text


async def test_no_password(servers: Servers, watch: Watches) -> None:
    server = servers(requirepass="right")
    text = (await watch(server).run()).refused()
    assert text == f"127.0.0.1:{server.port} wants a password; set `password`, and `username` with ACL users"


async def test_password_that_the_server_does_not_know_of(server: RedisServer, watch: Watches) -> None:
    text = (await watch(server, password=PASSWORD).run()).refused()
    assert text == f"127.0.0.1:{server.port} has no password, but one is configured; leave out `password`"


async def test_no_such_database(servers: Servers, watch: Watches) -> None:
    server = servers(databases=4)
    text = (await watch(server, db=4).run()).refused()
    assert text == f"127.0.0.1:{server.port} has no database 4; check `db`"


async def test_no_room_for_another_client(servers: Servers, watch: Watches) -> None:
    server = servers(maxclients=1)
    held: list[socket.socket] = []

    def take_the_place() -> bool:
        """Fails while the connection that found the server ready still has it."""
        one = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        one.sendall(b"PING\r\n")
        if one.recv(1) == b"+":
            held.append(one)
        else:
            one.close()
        return bool(held)

    until(take_the_place, "the only place")
    with held[0]:
        text = (await watch(server).run()).refused()
    assert text == (
        f"127.0.0.1:{server.port} has reached its limit of clients; raise maxclients, or close idle clients"
    )


async def test_loading(servers: Servers, watch: Watches) -> None:
    server = servers(rdbcompression="no")

    def restart_with_much_to_load() -> None:
        with server.client() as client:
            for n in range(25):  # it serves clients after every two megabytes
                client.set(f"key{n}", b"x" * 2_100_000)
            client.save()
        server.stop()
        server.options["key-load-delay"] = 200_000
        server.start()

    await asyncio.to_thread(restart_with_much_to_load)
    outcome = await watch(server).run()
    server.kill()
    assert outcome.refused() == (f"127.0.0.1:{server.port} is still loading its dataset; it answers once that is done")
    total = outcome.value("redis.aof.loading_total_bytes")
    assert 25 * 2_100_000 < total < 26 * 2_100_000  # type: ignore[operator]
    assert 0 < outcome.value("redis.aof.loading_loaded_bytes") < total  # type: ignore[operator]


async def test_cannot_save(servers: Servers, watch: Watches) -> None:
    server = servers(save="3600 1")
    (server.directory / "dump.rdb").mkdir()  # the snapshot cannot be renamed to this
    with server.client() as client:
        client.set("a", 1)
        client.bgsave()
    until(lambda: server.info()["rdb_last_bgsave_status"] == "err", "the snapshot to fail")
    outcome = await watch(server).run()
    sentence = (
        "the server refuses commands because it cannot save its data to disk; "
        "see rdb_last_bgsave_status and the server's log; mend the disk"
    )
    if outcome.error is None:  # Valkey still answers PING then
        status = outcome.status("redis.round_trip")
        assert (status.status, status.message) == (Status.CRITICAL, f"round trip: {sentence}")
    else:
        assert outcome.refused() == sentence
    assert outcome.value("redis.rdb.changes_since_last") == 1


async def test_primary_down(servers: Servers, watch: Watches) -> None:
    gone = servers()
    gone.kill()
    server = servers(replica_of=gone, replica_serve_stale_data="no")
    outcome = await watch(server, counters=[{"metric": "app.total", "key": "total"}]).run()
    sentence = "the replica has lost its primary and replica-serve-stale-data is off; see the link to the primary"
    if outcome.error is None:
        status = outcome.status("redis.reads")
        assert (status.status, status.message) == (Status.WARNING, f"app.total (get total): {sentence}")
    else:
        assert outcome.refused() == sentence
    assert outcome.status("redis.replication.master_link_status").status is Status.CRITICAL
    assert "redis.mem.used" in outcome.names


async def test_out_of_memory(servers: Servers, watch: Watches) -> None:
    server = servers()
    with server.client() as client:
        client.config_set("maxmemory", 1)
    outcome = await watch(server).run()
    assert outcome.error is None
    status = outcome.status("redis.round_trip")
    assert (status.status, status.message) == (
        Status.CRITICAL,
        "round trip: the server is out of memory; raise maxmemory, or set an eviction policy",
    )
    assert outcome.value("redis.mem.maxmemory") == 1


async def test_protected_mode(watch: Watches, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Only Redis 6.2 takes an address like 127.0.0.5 for a foreign one; with it the test stays on this machine."""
    server = RedisServer(redis62(), tmp_path, bind=None)
    request.addfinalizer(server.kill)
    server.start()
    async with relay(server.port, source="127.0.0.5") as port:
        text = (await watch(host="127.0.0.1", port=port).run()).refused()
    assert text.startswith(f"127.0.0.1:{port} is in protected mode and takes only local connections; set a password")


async def test_plain_to_a_tls_port(server: RedisServer, watch: Watches, certificates: Certificates) -> None:
    async with relay(server.port, tls=certificates.server_side()) as port:
        text = (await watch(host="127.0.0.1", port=port).run()).refused()
    assert text == (
        f"127.0.0.1:{port} closed the connection; "
        "if it expects TLS, set `tls: true`; else it is shutting down, or a proxy is in between"
    )


async def test_tls_to_a_plain_port(server: RedisServer, watch: Watches, certificates: Certificates) -> None:
    text = (await watch(server, tls=True, ca_file=certificates.ca, timeout="500ms").run()).refused()
    # it waits for the end of a line; some hellos hold one, and then it answers in the clear
    assert "; if it does not speak TLS, set `tls: false`" in text
    assert text.startswith(
        (f"no answer from 127.0.0.1:{server.port} ", f"no TLS connection to 127.0.0.1:{server.port}: ")
    )


async def test_unknown_authority(
    server: RedisServer, watch: Watches, certificates: Certificates, tmp_path: Path
) -> None:
    other = Certificates.make(tmp_path)
    async with relay(server.port, tls=certificates.server_side()) as port:
        text = (await watch(host="127.0.0.1", port=port, tls=True, ca_file=other.ca).run()).refused()
    assert text.startswith(f"the certificate of 127.0.0.1:{port} is not valid: ")
    assert text.endswith("; set `ca_file` to the authority that signed it")


async def test_expired_certificate(server: RedisServer, watch: Watches, tmp_path: Path) -> None:
    old = Certificates.make(tmp_path, not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    async with relay(server.port, tls=old.server_side()) as port:
        text = (await watch(host="127.0.0.1", port=port, tls=True, ca_file=old.ca).run()).refused()
    assert text == (
        f"the certificate of 127.0.0.1:{port} is not valid: certificate has expired; renew it on the server"
    )


async def test_certificate_of_another_name(server: RedisServer, watch: Watches, tmp_path: Path) -> None:
    other = Certificates.make(tmp_path, "redis.example")
    async with relay(server.port, tls=other.server_side()) as port:
        options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls": True, "ca_file": other.ca}
        text = (await watch(**options).run()).refused()
        trusting = watch(**options, verify=False)
        assert (await trusting.run()).error is None
        await trusting.check.close()
    assert text.startswith(f"the certificate of 127.0.0.1:{port} is not valid: IP address mismatch")
    assert text.endswith("; set `host` to a name in the certificate")


async def test_client_certificate(server: RedisServer, watch: Watches, certificates: Certificates) -> None:
    async with relay(server.port, tls=certificates.server_side(ask_client=True)) as port:
        options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls": True, "ca_file": certificates.ca}
        watched = watch(**options, cert_file=certificates.cert, key_file=certificates.key)
        assert (await watched.run()).error is None
        await watched.check.close()


async def test_no_client_certificate(watch: Watches, certificates: Certificates) -> None:
    """Not with the relay: asyncio hangs up before its alert is sent, unlike OpenSSL in a server."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    context = certificates.server_side(ask_client=True)

    def refuse() -> None:
        with listener, listener.accept()[0] as raw:
            raw.settimeout(20)
            with context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as guest:
                with pytest.raises(ssl.SSLError):
                    guest.do_handshake()
                socket.socket.shutdown(guest, socket.SHUT_WR)
                while socket.socket.recv(guest, 65536):  # closing with data unread would throw the alert away
                    pass

    watched = watch(host="127.0.0.1", port=port, tls=True, ca_file=certificates.ca)
    refusing = asyncio.create_task(asyncio.to_thread(refuse))
    outcome = await watched.run()
    await refusing
    assert outcome.refused() == (
        f"no TLS connection to 127.0.0.1:{port}: tlsv13 alert certificate required; "
        "it asks for a client certificate: set cert_file and key_file"
    )


@pytest.mark.parametrize("content", [None, "nonsense"])
async def test_unusable_certificate_file(watch: Watches, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    outcome = await watch(host="127.0.0.1", tls=True, ca_file=path).run()
    assert outcome.error is not None
    assert outcome.error.message.startswith("the certificate files cannot be used: ")
    assert outcome.error.hint == "check ca_file, cert_file and key_file"


async def test_hung_server_behind_tls(servers: Servers, watch: Watches, certificates: Certificates) -> None:
    server = servers()
    async with relay(server.port, tls=certificates.server_side()) as port:
        watched = watch(host="127.0.0.1", port=port, tls=True, ca_file=certificates.ca, timeout="300ms")
        await watched.well()
        server.pause()
        text = (await watched.run()).refused()
    assert text.startswith(f"127.0.0.1:{port} did not answer within 0.27s; ")


async def test_no_goodbye_to_a_peer_that_hangs(watch: Watches, certificates: Certificates) -> None:
    """A TLS goodbye waits for an answer: half a minute with a socket open, where no answer comes."""
    listener = socket.create_server(("127.0.0.1", 0))
    port, context = listener.getsockname()[1], certificates.server_side()

    def greet_and_hang() -> bool:
        """Whether the client hung up within twenty seconds, if need be before they have greeted each other."""
        with listener, listener.accept()[0] as raw:
            raw.settimeout(20)
            try:
                with context.wrap_socket(raw, server_side=True) as guest:
                    while socket.socket.recv(guest, 65536):
                        pass
            except TimeoutError:
                return False
            except (ConnectionError, ssl.SSLError):
                pass
            return True

    watched = watch(host="127.0.0.1", port=port, tls=True, ca_file=certificates.ca, timeout="500ms")
    hanging = asyncio.create_task(asyncio.to_thread(greet_and_hang))
    assert (await watched.run()).refused().startswith(f"no answer from 127.0.0.1:{port} within 0.45s; ")
    assert await hanging


async def test_tls(server: RedisServer, watch: Watches, certificates: Certificates) -> None:
    """Both packaged servers are built without TLS: something ends it in front of them, as stunnel would."""
    async with relay(server.port, tls=certificates.server_side()) as port:
        places: list[dict[str, Any]] = [
            {"host": "127.0.0.1", "port": port, "tls": True},
            {"host": "localhost", "port": port, "tls": True},
            {"url": f"rediss://127.0.0.1:{port}/3"},
        ]
        for options in places:
            watched = watch(**options, ca_file=certificates.ca)
            outcome = await watched.run()
            await watched.check.close()
            assert outcome.status("redis.can_connect").status is Status.OK
            assert outcome.status("redis.round_trip").status is Status.OK
            assert outcome.value("redis.net.maxclients") == server.info()["maxclients"]


async def test_a_cancelled_run_closes_its_connection(servers: Servers, watch: Watches) -> None:
    server = servers()
    watched = watch(server, timeout="10s")
    await watched.run()
    server.pause()
    running = asyncio.create_task(watched.run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    server.resume()
    await asyncio.to_thread(until, lambda: server.info()["connected_clients"] == 1, "the check's connection to be gone")
    assert (await watched.run()).error is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"ERR unknown command 'AUTH', with args beginning with: '{PASSWORD}'", "ERR unknown command 'AUTH'"),
        (f"ERR something quotes {PASSWORD}", "ERR something quotes ****"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_an_unknown_error_is_said_without_the_password(text: str, expected: str) -> None:
    advisor = Advisor(Address(password=PASSWORD), 1.0)
    finding = advisor.failure(redis.ResponseError(text), greeted=True)
    assert finding.message == f"the server said: {expected}"
    assert isinstance(finding.error(), CheckError)
    assert PASSWORD not in repr(advisor)
