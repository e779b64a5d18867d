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
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from listening import listening
from servers import Certificates
from vedette import Diagnosis, Status
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.tls import Tls, TlsConfig

pytestmark = pytest.mark.anyio


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


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

    async with listening(serve, tls=context) as port:
        yield port


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
    begins, ends = in_days(-30), in_days(days)
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


async def test_no_tls_and_no_server(closed_port: int) -> None:
    async with server(None) as port:
        run = await look(port, None)
        assert run.error is not None
        assert run.error.message == f"127.0.0.1 port {port}: wrong version number"
        assert said(run) == [Status.CRITICAL, None, None, None]
    port = closed_port
    run = await look(port, None)
    assert run.error is not None
    assert run.error.message.startswith(f"127.0.0.1 port {port}: connection refused")
    assert run.status("tls.can_connect") is Status.CRITICAL


async def test_a_file(tmp_path: Path) -> None:
    files = Certificates.make(tmp_path, not_after=in_days(10))
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
    assert [str(one.grade) for one in diagnosis.symptoms] == ["warning"]
    assert diagnosis.symptoms[0].seen.endswith(", 10 days left")


Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def signed(name: str, days: float, by: Signed | None, *, authority: bool) -> Signed:
    """A certificate for so many days from now on."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, hand = (by[0].subject, by[1]) if by else (subject, key)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(in_days(-30)).not_valid_after(in_days(days))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )  # fmt: skip
    return made.sign(hand, SHA256()), key


def chained(folder: Path, days: float) -> Certificates:
    """A server's certificate for 300 days, of an authority for so many, of a root for 3,000."""
    root = signed("root", 3_000, None, authority=True)
    between = signed("between", days, root, authority=True)
    leaf, key = signed("localhost", 300, between, authority=False)
    files = Certificates(folder / "root.pem", folder / "chain.pem", folder / "key.pem")
    files.ca.write_bytes(root[0].public_bytes(Encoding.PEM))
    files.cert.write_bytes(leaf.public_bytes(Encoding.PEM) + between[0].public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@pytest.mark.parametrize(("days", "ends"), [(2.5, "ends"), (-2.5, "ended")])
async def test_one_of_the_chain_that_ends_before_the_servers_own(days: float, ends: str, tmp_path: Path) -> None:
    files = chained(tmp_path, days)
    async with server(files) as port:
        run = await look(port, files, server_name="localhost")
    when = x509.load_pem_x509_certificates(files.cert.read_bytes())[1].not_valid_after_utc
    text = f"CN=between of the chain {ends} on {when:%Y-%m-%d %H:%M UTC}"
    assert (run.message("tls.cert_expiration") or "").startswith(text)
    validation = Status.OK if days > 0 else Status.CRITICAL
    assert said(run) == [Status.OK, Status.OK, validation, Status.CRITICAL]
    assert run.value("tls.days_left") == pytest.approx(300, abs=0.01)
    assert run.value("tls.chain.days_left") == pytest.approx(days, abs=0.01)
    run = await run_check(Tls, {"name": "x", "cert_path": str(files.cert)})
    assert (run.message("tls.cert_expiration") or "").startswith(text.replace("chain", "file"))
    assert said(run) == [None, None, validation, Status.CRITICAL]
    assert run.message("tls.cert_validation") == ("" if days > 0 else "CN=between has expired")


async def test_files_of_the_agents_own_are_not_the_servers_fault(tmp_path: Path) -> None:
    files, other = Certificates.make(tmp_path / "a"), Certificates.make(tmp_path / "b")
    (tmp_path / "text").write_text("hello")
    absent, text = tmp_path / "absent.pem", tmp_path / "text"
    wrong: list[tuple[dict[str, Path], str]] = [
        ({"ca_file": absent}, f"ca_file {absent}: no such file or directory"),
        ({"ca_file": text}, f"ca_file {text}: no certificate or crl found"),
        ({"cert_file": absent}, f"cert_file {absent}: no such file or directory"),
        ({"cert_file": files.cert, "key_file": other.key},
         f"cert_file {files.cert}, key_file {other.key}: key values mismatch"),
    ]  # fmt: skip
    async with server(files) as port:
        for options, says in wrong:
            run = await look(port, files, **{name: str(path) for name, path in options.items()})
            assert run.error is not None
            assert run.error.message == says
            assert (said(run), run.message("tls.can_connect")) == ([Status.UNKNOWN, None, None, None], says)
            diagnosis = Diagnosis()
            await Tls(TlsConfig(name="x", host="127.0.0.1", port=port, **options)).diagnose(diagnosis)  # type: ignore[arg-type]
            seen = [(one.what, str(one.grade), one.seen) for one in diagnosis.symptoms if one.what != "TCP"]
            assert seen == [("certificates", "failed", says)]


async def test_names_without_an_address() -> None:
    for host in ("no-such-host.invalid", f"{'a' * 70}.invalid"):
        run = await run_check(Tls, {"name": "x", "host": host})
        assert run.error is not None
        assert run.message("tls.can_connect") == run.error.message == f"{host} has no address"


async def test_doctor_asks_for_the_name_at_the_host(tmp_path: Path) -> None:
    files = Certificates.make(tmp_path, "pay.example.com")
    diagnosis = Diagnosis()
    async with server(files) as port:
        config = TlsConfig(name="x", host="127.0.0.1", port=port, server_name="pay.example.com", ca_file=files.ca)
        await Tls(config).diagnose(diagnosis)
    assert {one.what: str(one.grade) for one in diagnosis.symptoms} == {
        "TCP": "ok", "TLS": "ok", "certificate": "ok"
    }  # fmt: skip


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
