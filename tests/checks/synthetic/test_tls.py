"""TLS as it goes wrong in the world, client certificates, HTTP/2 and proxies: all over real sockets."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import trustme

from listening import listening
from vedette import Status
from vedette.testing import assert_declared, run_check
from vedette_checks.synthetic import Synthetic

from .api import PaymentsApi, payment_flow, reply

pytestmark = pytest.mark.anyio

DAY = 86_400


class Authority:
    """A throw-away certificate authority."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.file))
        self.folder = folder

    def server(self, name: str = "localhost", days: float = 30, *, clients: bool = False) -> ssl.SSLContext:
        """The context of a server with a certificate for this name."""
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name, not_after=until, not_before=until - datetime.timedelta(days=90)).configure_cert(
            context
        )
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def health(api: Any, authority: Authority, **options: Any) -> dict[str, Any]:
    return {"name": "x", "url": f"{api.url}/health", "ca_file": str(authority.file), **options}


OK = {"/health": lambda _: reply(200, b"ok")}


async def test_the_flow_over_tls(authority: Authority) -> None:
    async with PaymentsApi().running(authority.server()) as api:
        run = await run_check(Synthetic, payment_flow(api, ca_file=str(authority.file)))
    assert run.message("synthetic.flow") == ""
    for step in ("login", "balance", "payment", "verify"):
        assert run.value("synthetic.step.tls_time", step=step) > 0  # type: ignore[operator]
        assert run.value("synthetic.step.certificate_days", step=step) == pytest.approx(30, abs=0.1)


async def test_an_address_and_its_certificate_under_datadogs_names(authority: Authority) -> None:
    async with PaymentsApi(extra=OK).running(authority.server()) as api:
        run = await run_check(Synthetic, health(api, authority, expect={"regex": "^ok$"}))
        assert_declared(run)
        url = f"{api.url}/health"
        assert run.value("network.http.can_connect", url=url) == 1
        assert run.value("network.http.cant_connect", url=url) == 0
        seconds = run.value("network.http.response_time", url=url)
        assert seconds * 1000 == pytest.approx(run.value("synthetic.request.response_time"))  # type: ignore[operator]
        assert run.value("http.ssl.days_left") == pytest.approx(30, abs=0.1)
        assert run.value("http.ssl.seconds_left") == pytest.approx(30 * DAY, abs=DAY / 10)
        assert run.status("http.can_connect") is Status.OK
        assert run.status("http.ssl_cert") is Status.OK
        soon = await run_check(Synthetic, health(api, authority, expect={"certificate_days": 40}))
        assert soon.status("http.ssl_cert") is Status.WARNING
        assert soon.message("synthetic.flow").startswith(
            "request: the certificate ends in 30.0 days, expected at least 40"
        )
        wrong = await run_check(
            Synthetic, {**health(api, authority), "url": f"{api.url}/health?key=s3cret-key", "expect": {"status": 204}}
        )
        assert wrong.value("network.http.can_connect", url=url) == 0
        assert wrong.value("network.http.cant_connect", url=url) == 1
        assert wrong.message("http.can_connect").startswith("request: expected status 204, got 401")
        assert "s3cret" not in wrong.message("http.can_connect")


@pytest.mark.parametrize(
    ("name", "days", "said"),
    [
        ("localhost", -1, "the certificate is not valid: certificate has expired; renew it"),
        ("other.example", 30, "the certificate is not valid: Hostname mismatch, certificate is not valid for"),
    ],
)  # fmt: skip
async def test_a_bad_certificate(authority: Authority, name: str, days: float, said: str) -> None:
    async with PaymentsApi(extra=OK).running(authority.server(name, days)) as api:
        run = await run_check(Synthetic, health(api, authority))
        careless = await run_check(Synthetic, health(api, authority, verify=False))
    assert run.message("synthetic.flow").startswith(f"request: {said}")
    assert run.status("http.ssl_cert") is Status.CRITICAL
    assert run.status("http.can_connect") is Status.CRITICAL
    assert run.values("http.ssl.days_left") == []
    assert run.values("network.http.response_time") == []
    assert api.requests == [api.requests[0]]  # only the careless one
    assert careless.message("synthetic.flow") == ""
    assert careless.values("http.ssl.days_left") == []


async def test_an_authority_that_is_not_trusted(authority: Authority) -> None:
    async with PaymentsApi(extra=OK).running(authority.server()) as api:
        run = await run_check(Synthetic, {"name": "x", "url": f"{api.url}/health"})
    assert "the certificate is not valid: " in run.message("synthetic.flow")
    assert "see `ca_file` and the host name" in run.message("synthetic.flow")


async def test_no_tls_where_it_is_expected(authority: Authority) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(refuse) as port:
        run = await run_check(Synthetic, health(PaymentsApi(port=port, scheme="https"), authority))
    assert run.message("synthetic.flow").startswith("request: no TLS connection: ")


async def test_a_client_certificate(authority: Authority, tmp_path: Path) -> None:
    mine = authority.ca.issue_cert("vedette@example.com")
    mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "mine.pem"))
    async with PaymentsApi(extra=OK).running(authority.server(clients=True)) as api:
        without = await run_check(Synthetic, health(api, authority))
        run = await run_check(Synthetic, health(api, authority, cert_file=str(tmp_path / "mine.pem")))
    assert without.status("synthetic.flow") is Status.CRITICAL
    assert run.message("synthetic.flow") == ""


async def test_files_that_cannot_be_used(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for file, why in (("bad.pem", "no certificate or crl found"), ("none.pem", "no such file")):
        run = await run_check(Synthetic, {"name": "x", "url": "https://localhost:1/", "ca_file": str(tmp_path / file)})
        assert run.error is not None
        assert str(run.error).lower().startswith(f"the certificate files cannot be used: {why}")
        assert run.error.hint == "see ca_file, cert_file and key_file"


class Http2Server:
    """Answers every request of HTTP/2 with `h2`."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext) -> AsyncIterator[Http2Server]:
        tls.set_alpn_protocols(["h2", "http/1.1"])
        async with listening(self._serve, tls=tls) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        while data := await reader.read(65536):
            try:
                events = connection.receive_data(data)
            except h2.exceptions.ProtocolError:
                break
            for event in events:
                if isinstance(event, h2.events.RequestReceived):
                    self.paths.append(dict(event.headers)[b":path"].decode())  # type: ignore[arg-type, index]
                    connection.send_headers(event.stream_id, [(":status", "200")])  # type: ignore[arg-type]
                    connection.send_data(event.stream_id, b"two", end_stream=True)  # type: ignore[arg-type]
            writer.write(connection.data_to_send())
            await writer.drain()
        writer.close()


async def test_http2_by_option(authority: Authority) -> None:
    server = Http2Server()
    async with server.running(authority.server()):
        run = await run_check(Synthetic, health(server, authority, http2=True, expect={"regex": "^two$"}))
        plain = await run_check(Synthetic, health(server, authority, timeout="2s"))
    assert run.message("synthetic.flow") == ""
    assert server.paths == ["/health"]
    assert plain.status("synthetic.flow") is Status.CRITICAL  # HTTP/1.1 was offered alone


class Proxy:
    """An HTTP proxy: forwards plain requests, tunnels the others."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.heads: list[str] = []
        self.port = 0
        self.refuse = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        async with listening(self._serve) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line = head.partition("\r\n")[0]
        self.lines.append(line)
        self.heads.append(head)
        if self.refuse:
            writer.write(b"HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        method, target, _ = line.split(" ")
        place = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = place.partition(":")
        there, out = await asyncio.open_connection("127.0.0.1" if host == "localhost" else host, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 X\r\n\r\n")
        else:
            out.write(head.replace(f"http://{place}", "").encode())
        try:
            await asyncio.gather(self._pump(reader, out), self._pump(there, writer))
        finally:
            out.close()

    async def _pump(self, one: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
        try:
            while data := await one.read(65536):
                other.write(data)
                await other.drain()
        except OSError:
            pass
        other.close()


async def test_through_a_proxy(authority: Authority) -> None:
    proxy = Proxy()
    async with proxy.running(), PaymentsApi(extra=OK).running() as plain:
        options = {"proxy": f"http://me:s3cret-pw@127.0.0.1:{proxy.port}"}
        run = await run_check(Synthetic, {"name": "x", "url": f"{plain.url}/health", **options})
        assert run.message("synthetic.flow") == ""
        assert proxy.lines == [f"GET {plain.url}/health HTTP/1.1"]
        assert "Proxy-Authorization: Basic bWU6czNjcmV0LXB3" in proxy.heads[0]
        async with PaymentsApi(extra=OK).running(authority.server()) as secure:
            run = await run_check(Synthetic, health(secure, authority, **options))
            assert run.message("synthetic.flow") == ""
            assert proxy.lines[1] == f"CONNECT localhost:{secure.port} HTTP/1.1"
            assert secure.requests[0].headers.get("proxy-authorization") is None
            assert run.value("http.ssl.days_left") == pytest.approx(30, abs=0.1)
            proxy.refuse = True
            run = await run_check(Synthetic, health(secure, authority, **options))
    assert run.message("synthetic.flow").startswith("request: the proxy refused the connection; see `proxy`")
    assert "s3cret" not in str(run.batch)
