"""Certificates of real servers and files: valid, soon over, over, of nobody known, for another name; TLS versions."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from servers import Certificates, free_port
from vedette import Diagnosis, Status
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.tls import Tls, TlsConfig

pytestmark = pytest.mark.anyio
NOW = datetime.now(UTC)


@asynccontextmanager
async def server(files: Certificates | None, *, highest: ssl.TLSVersion | None = None) -> AsyncIterator[int]:
    """A server on a free port, with TLS or without."""
    context = files.server_side() if files else None
    if context is not None and highest is not None:
        context.maximum_version = highest

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if context is None:
            writer.write(b"220 hello\r\n")
        await reader.read(1)
        writer.close()

    made = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()


async def look(port: int, files: Certificates | None, **options: Any) -> CheckRun:
    given = {"name": "x", "host": "127.0.0.1", "port": port, **({"ca_file": str(files.ca)} if files else {}), **options}
    return await run_check(Tls, given)


STATUSES = ("tls.can_connect", "tls.version", "tls.cert_validation", "tls.cert_expiration")


def said(run: CheckRun) -> list[Status | None]:
    found = {one.name: one.status for one in run.batch.statuses}
    return [found.get(name) for name in STATUSES]


@pytest.mark.parametrize(
    ("days", "expiration"),
    [(100.5, Status.OK), (13.5, Status.WARNING), (6.5, Status.CRITICAL), (-1.5, Status.CRITICAL)],
)
async def test_how_long_a_certificate_still_holds(days: float, expiration: Status, tmp_path: Path) -> None:
    begins, ends = NOW - timedelta(days=30), NOW + timedelta(days=days)
    files = Certificates.make(tmp_path, not_before=begins, not_after=ends)
    async with server(files) as port:
        run = await look(port, files)
    assert said(run) == [Status.OK, Status.OK, Status.CRITICAL if days < 0 else Status.OK, expiration]
    tags = {"server": "127.0.0.1", "server_hostname": "127.0.0.1", "port": str(port)}
    assert run.value("tls.days_left", **tags) == pytest.approx(days, abs=0.01)
    assert run.value("tls.seconds_left", **tags) == pytest.approx(days * 86_400, abs=600)
    assert run.value("tls.issued_days", **tags) == pytest.approx(30 + days, abs=0.001)
    when = ends.strftime("%Y-%m-%d %H:%M UTC")
    text = run.message("tls.cert_expiration")
    if days < 0:
        assert text == f"the certificate ended on {when}"
        assert run.message("tls.cert_validation") == "certificate has expired"
    else:
        assert text == ("" if days > 14 else f"the certificate ends on {when}, in {days:.1f} days")
    assert_declared(run)


async def test_one_of_nobody_known_and_one_for_another_name(tmp_path: Path) -> None:
    files, others = Certificates.make(tmp_path / "a"), Certificates.make(tmp_path / "b")
    async with server(files) as port:
        run = await look(port, others)
        assert said(run)[2:] == [Status.CRITICAL, Status.OK]
        assert run.message("tls.cert_validation") == "self-signed certificate in certificate chain"
        run = await look(port, files, server_name="pay.example.com")
        assert run.status("tls.cert_validation", server_hostname="pay.example.com") is Status.CRITICAL
        assert "pay.example.com" in (run.message("tls.cert_validation") or "")
        assert run.status("tls.cert_expiration") is Status.OK
        assert run.error is None


async def test_a_version_that_is_not_allowed(tmp_path: Path) -> None:
    files = Certificates.make(tmp_path)
    async with server(files, highest=ssl.TLSVersion.TLSv1_2) as port:
        run = await look(port, files, versions=["TLSv1.3"])
        assert run.status("tls.version") is Status.CRITICAL
        assert run.message("tls.version") == "the server speaks TLSv1.2, allowed is TLSv1.3"
        assert (await look(port, files)).status("tls.version") is Status.OK


async def test_no_tls_and_no_server() -> None:
    async with server(None) as port:
        run = await look(port, None)
        assert run.error is not None
        assert run.error.message == f"127.0.0.1 port {port}: wrong version number"
        assert said(run) == [Status.CRITICAL, None, None, None]
    port = free_port()
    run = await look(port, None)
    assert run.error is not None
    assert run.error.message.startswith(f"127.0.0.1 port {port}: connection refused")
    assert run.status("tls.can_connect") is Status.CRITICAL


async def test_a_file(tmp_path: Path) -> None:
    files = Certificates.make(tmp_path, not_after=NOW + timedelta(days=10))
    run = await run_check(Tls, {"name": "x", "cert_path": str(files.cert)})
    assert run.value("tls.days_left", path=str(files.cert)) == pytest.approx(10, abs=0.01)
    assert said(run) == [None, None, Status.OK, Status.WARNING]
    (tmp_path / "text").write_text("hello")
    run = await run_check(Tls, {"name": "x", "cert_path": str(tmp_path / "text")})
    assert run.error is not None
    assert run.error.message == f"{tmp_path}/text: it holds no certificate"
    run = await run_check(Tls, {"name": "x", "cert_path": str(tmp_path / "absent")})
    assert run.error is not None
    assert run.error.message == f"{tmp_path}/absent: No such file or directory"
    diagnosis = Diagnosis()
    await Tls(TlsConfig(name="x", cert_path=files.cert)).diagnose(diagnosis)
    assert [str(one.grade) for one in diagnosis.symptoms] == ["ok"]
    assert diagnosis.symptoms[0].seen.endswith(", 10 days left")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give either host or cert_path"),
        ({"host": "a", "cert_path": "/b"}, "give either host or cert_path"),
        ({"host": "a", "critical_days": 30}, "critical_days is more than warning_days"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TlsConfig(name="x", **options)


def test_what_a_pod_may_ask_for() -> None:
    assert list(Tls.reaches(TlsConfig(name="x", host="10.0.0.1"))) == ["10.0.0.1"]
    with pytest.raises(ValueError, match="only the operator may set cert_path"):
        Tls.reaches(TlsConfig(name="x", cert_path=Path("/etc/x.pem")))
