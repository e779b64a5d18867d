"""TLS: what `sslmode` and the certificate files ask for, against servers with certificates of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from postgres_servers import PostgresServer
from vedette.testing import run_check
from vedette_checks.postgres import Postgres

from .conftest import run

pytestmark = pytest.mark.anyio


class Authority:
    """A certificate authority and a server that has a certificate of it for 127.0.0.1."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.ca = trustme.CA()
        self.server = PostgresServer(binaries)
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)
        own = self.ca.issue_cert("127.0.0.1")
        self.server.give("server.crt", b"".join(blob.bytes() for blob in own.cert_chain_pems))
        self.server.give("server.key", own.private_key_pem.bytes())
        self.server.give("ca.crt", self.ca.cert_pem.bytes())
        self.server.give("pg_hba.conf", b"hostssl all guest all cert\nhost all all all trust\n")
        self.server.settings |= {"ssl": "on", "ssl_ca_file": "ca.crt"}

    def client(self, folder: Path, name: str) -> dict[str, str]:
        """Options with a client certificate for this role."""
        issued = self.ca.issue_cert(f"{name}@example.org", common_name=name)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return {"username": name, "cert_file": str(certificate), "key_file": str(key)}


@pytest.fixture(scope="module")
def authority(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    made = Authority(binaries, tmp_path_factory.mktemp("ca"))
    try:
        made.server.start()
    except RuntimeError:
        pytest.skip("this PostgreSQL is built without TLS")
    made.server.sql("CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE guest LOGIN IN ROLE pg_monitor")
    yield made
    made.server.stop()


ENCRYPTED = {
    "name": "tls", "sql": "SELECT count(*) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl",
    "columns": [{"name": "tls.on", "type": "gauge"}],
}  # fmt: skip


async def ask(authority: Authority, **options: Any) -> Any:
    return await run(authority.server, queries=[ENCRYPTED], **options)


@pytest.mark.parametrize(
    ("sslmode", "on"),
    [("disable", 0), ("allow", 0), ("prefer", 1), ("require", 1), ("verify-ca", 1), ("verify-full", 1)],
)
async def test_each_mode(authority: Authority, sslmode: str, on: int) -> None:
    trust = {"ca_file": str(authority.file)} if sslmode.startswith("verify") else {}
    outcome = await ask(authority, sslmode=sslmode, **trust)
    assert outcome.error is None
    assert outcome.value("tls.on") == on


async def test_a_dsn_says_the_same(authority: Authority) -> None:
    dsn = f"postgresql://watcher@127.0.0.1:{authority.server.port}/postgres?sslmode=verify-full&sslrootcert="
    config = {"dsn": dsn + str(authority.file).replace("/", "%2F")}
    outcome = await run_check(Postgres, {**config, "queries": [ENCRYPTED]})
    assert outcome.error is None
    assert outcome.value("tls.on") == 1


async def test_a_certificate_that_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for options in ({}, {"ca_file": str(tmp_path / "other.pem")}):
        outcome = await ask(authority, sslmode="verify-full", **options)
        assert str(outcome.error).startswith(f"the certificate of 127.0.0.1:{authority.server.port} is not valid: ")
        assert outcome.error.hint == "set `ca_file` to the authority that signed it"


async def test_a_certificate_for_another_name(authority: Authority) -> None:
    trust = {"ca_file": str(authority.file)}
    outcome = await ask(authority, sslmode="verify-full", host="localhost", **trust)
    assert str(outcome.error).startswith(f"the certificate of localhost:{authority.server.port} is not valid: ")
    assert outcome.error.hint == "set `host` to a name in the certificate"
    outcome = await ask(authority, sslmode="verify-ca", host="localhost", **trust)
    assert outcome.error is None


async def test_login_by_client_certificate(authority: Authority, tmp_path: Path) -> None:
    options = {"sslmode": "verify-full", "ca_file": str(authority.file)}
    outcome = await ask(authority, **options, **authority.client(tmp_path, "guest"))
    assert outcome.error is None
    assert outcome.value("tls.on") == 1
    outcome = await ask(authority, **options, username="guest")
    assert str(outcome.error) == f"127.0.0.1:{authority.server.port} refused guest"
    stranger = {**authority.client(tmp_path, "stranger"), "username": "guest"}
    outcome = await ask(authority, **options, **stranger)
    assert str(outcome.error) == f"127.0.0.1:{authority.server.port} refused guest"


async def test_certificate_files_that_cannot_be_read(authority: Authority, tmp_path: Path) -> None:
    outcome = await ask(authority, sslmode="verify-full", ca_file=str(tmp_path / "missing.pem"))
    assert str(outcome.error) == "the certificate files cannot be used: No such file or directory"
    assert outcome.error.hint == "check ca_file, cert_file and key_file"
    (tmp_path / "junk.pem").write_text("junk")
    outcome = await ask(authority, sslmode="verify-full", ca_file=str(tmp_path / "junk.pem"))
    assert str(outcome.error) == "the certificate files cannot be used: no certificate or crl found"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # a socket that is collected here now and then
async def test_a_password(servers: Callable[..., PostgresServer]) -> None:
    server = await asyncio.to_thread(servers)
    await asyncio.to_thread(server.sql, "CREATE ROLE watcher LOGIN PASSWORD 's3cret' IN ROLE pg_monitor")
    server.give("pg_hba.conf", b"host all watcher all scram-sha-256\nhost all all all trust\n")
    await asyncio.to_thread(server.sql, "SELECT pg_reload_conf()")
    assert (await run(server, password="s3cret")).error is None
    for options, said, hint in (
        ({"password": "wr0ng"}, "refused the password of watcher", "check `username` and `password`"),
        ({}, "wants a password of watcher", "set `password`"),
    ):
        outcome = await run(server, **options)
        assert str(outcome.error) == f"127.0.0.1:{server.port} {said}"
        assert outcome.error is not None
        assert outcome.error.hint == hint
