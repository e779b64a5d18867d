"""`password: ${aws-iam:}`: tokens as AWS documents them, made anew for each connection, on real servers over TLS."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import pickle
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from aws import REGION, AwsServer, clean_environment
from listening import listening
from postgres_servers import PostgresServer, postgres18
from servers import Certificates, RedisServer, pump, relay, valkey9
from vedette import CheckError, Login, SecretError
from vedette.config import Configuration, load
from vedette.config.changes import compare
from vedette.config.values import lend
from vedette.emit import Channel, Emit
from vedette.metrics import Batch
from vedette.passwords import Password
from vedette.plugins import Registry
from vedette.secrets import Masker
from vedette_checks.aws_secrets.iam import IamPassword, sign, target_of
from vedette_checks.aws_secrets.options import AwsSecretsConfig

pytestmark = pytest.mark.anyio

KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
START = datetime(2026, 9, 21, 13, 33, 20, tzinfo=UTC)
RDS_HOST = "shop.abc123.eu-central-1.rds.amazonaws.com"


def token(
    host: str, service: str, query: dict[str, str], when: datetime, session: str = "", region: str = REGION
) -> str:
    """Signature Version 4 in the query, from AWS' description of it: no code of the SDK."""
    day, stamp = f"{when:%Y%m%d}", f"{when:%Y%m%dT%H%M%SZ}"
    scope = f"{day}/{region}/{service}/aws4_request"
    parameters = {
        **query,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{KEY}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": "900",
        "X-Amz-SignedHeaders": "host",
        **({"X-Amz-Security-Token": session} if session else {}),
    }
    encoded = {quote(name, safe="-_.~"): quote(value, safe="-_.~") for name, value in parameters.items()}
    canonical = "&".join(f"{name}={encoded[name]}" for name in sorted(encoded))
    request = f"GET\n/\n{canonical}\nhost:{host}\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{SECRET_KEY}".encode()
    for word in (day, region, service, "aws4_request"):
        key = hmac.new(key, word.encode(), "sha256").digest()
    return f"{host}/?{canonical}&X-Amz-Signature={hmac.new(key, text.encode(), 'sha256').hexdigest()}"


def parts(made: str) -> tuple[str, set[str]]:
    """Host, and the parameters: their order in a URL does not matter."""
    host, _, query = made.partition("/?")
    return host, set(query.split("&"))


@dataclass
class Clock:
    """What the SDK takes for the time."""

    now: datetime = START

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clean_environment(monkeypatch, "/nonexistent")
    for name, value in (("ACCESS_KEY_ID", KEY), ("SECRET_ACCESS_KEY", SECRET_KEY), ("REGION", REGION)):
        monkeypatch.setenv(f"AWS_{name}", value)
    made = Clock()
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: made.now)
    return made


def credentials(session: str = "") -> Any:
    return SimpleNamespace(access_key=KEY, secret_key=SECRET_KEY, token=session or None)


@pytest.mark.parametrize("session", ["", "FwoGZXIvYXdzEXAMPLE//token+with=signs"])
@pytest.mark.parametrize(
    ("login", "name", "host", "service", "query"),
    [
        (Login("postgresql", RDS_HOST, 5432, "vedette"), "", f"{RDS_HOST}:5432", "rds-db",
         {"Action": "connect", "DBUser": "vedette"}),
        (Login("postgresql", "127.0.0.1", 6543, "ve dette@x"), "db.internal", "db.internal:6543", "rds-db",
         {"Action": "connect", "DBUser": "ve dette@x"}),
        (Login("redis", "master.shop-cache.abc123.use1.cache.amazonaws.com", 6379, "vedette"), "", "shop-cache",
         "elasticache", {"Action": "connect", "User": "vedette"}),
        (Login("redis", "shop-cache-0001-001.shop-cache.abc123.use1.cache.amazonaws.com", 6379, "vedette"), "",
         "shop-cache", "elasticache", {"Action": "connect", "User": "vedette"}),
        (Login("redis", "shop-store-x1y2z3.serverless.use1.cache.amazonaws.com", 6379, "vedette"), "", "shop-store",
         "elasticache", {"Action": "connect", "User": "vedette", "ResourceType": "ServerlessCache"}),
        (Login("redis", "127.0.0.1", 1, "vedette"), "serverless:Shop-Store", "shop-store", "elasticache",
         {"Action": "connect", "User": "vedette", "ResourceType": "ServerlessCache"}),
    ],
)  # fmt: skip
def test_tokens_are_signed_as_documented(
    clock: Clock, login: Login, name: str, host: str, service: str, query: dict[str, str], session: str
) -> None:
    made = sign(target_of(login, name), REGION, credentials(session))
    assert parts(made) == parts(token(host, service, query, START, session))


def test_the_token_of_rds_is_that_of_the_sdk(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    client = boto3.client("rds", region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=SECRET_KEY)
    theirs = client.generate_db_auth_token(DBHostname=RDS_HOST, Port=5432, DBUsername="vedette", Region=REGION)
    made = sign(target_of(Login("postgresql", RDS_HOST, 5432, "vedette")), REGION, credentials())
    assert parts(made) == parts(theirs)


@pytest.mark.parametrize(
    "host", ["cache.example.org", "a.b.cache.amazonaws.com", "shop.abc.ng.0001.use1.cache.amazonaws.com"]
)
def test_a_cache_that_cannot_be_named(host: str) -> None:
    with pytest.raises(SecretError, match=r"name of the cache is not to be seen .*\$\{aws-iam:/name\}"):
        target_of(Login("redis", host, 6379, "vedette"))


@pytest.mark.parametrize(
    ("reference", "host", "region"),
    [
        ("", RDS_HOST.replace(REGION, "us-west-2"), "us-west-2"),
        ("ap-south-1", RDS_HOST, "ap-south-1"),
        ("", "db.internal", REGION),
        ("us-gov-west-1/db9.x.rds:6000", "127.0.0.1", "us-gov-west-1"),
    ],
)
async def test_which_region(clock: Clock, reference: str, host: str, region: str) -> None:
    made = await IamPassword(AwsSecretsConfig()).mint(reference, Login("postgresql", host, 5432, "vedette"))
    signed = "db9.x.rds:6000" if "/" in reference else f"{host}:5432"
    assert parts(made) == parts(
        token(signed, "rds-db", {"Action": "connect", "DBUser": "vedette"}, START, region=region)
    )


async def test_without_credentials(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SecretError, match=r"^no AWS credentials are found: .*; set `profile`, or give"):
        await IamPassword(AwsSecretsConfig()).mint("", Login("postgresql", RDS_HOST, 5432, "vedette"))


# --- in YAML files ---


def configured(folder: Path, check: str, text: str) -> Configuration:
    folder.mkdir(exist_ok=True)
    (folder / "agent.yaml").write_text("sinks: []\n")
    (folder / f"{check}.yaml").write_text(f"instances:\n  - {text}\n")
    return load(folder, Registry(), environ={})


TLS_PG, TLS_REDIS = "sslmode: verify-full", "tls: true"


@pytest.mark.parametrize(
    ("check", "text", "problem"),
    [
        ("postgres", "{username: v, password: '${aws-iam:}'}",
         "instances[0]: this password only goes over TLS: say `sslmode: verify-full` (or require), in `dsn` too"),
        ("postgres", "{username: v, password: '${aws-iam:}', host: /run/pg, sslmode: require}",
         "instances[0]: this password only goes over TLS: say `sslmode: verify-full` (or require), in `dsn` too"),
        ("postgres", f"{{password: '${{aws-iam:}}', {TLS_PG}}}",
         "instances[0]: this password is made for a user: give `username`"),
        ("redis", "{username: v, password: '${aws-iam:}'}",
         "instances[0]: this password only goes over TLS: set `tls: true`"),
        ("redis", f"{{password: '${{aws-iam:}}', {TLS_REDIS}}}",
         "instances[0]: this password is made for a user: give `username`"),
        ("redis", "{url: 'rediss://v:${aws-iam:}@h'}",
         "instances[0].url: ${aws-iam:} cannot be part of a text; it is made for each connection: make it the whole of "
         "`password`"),
        ("redis", "{host: '${aws-iam:}'}",
         "instances[0].host: cannot be ${aws-iam:}; it is made for each connection, as a password"),
        ("redis", "{url: '${aws-iam:}'}",
         "instances[0].url: cannot be ${aws-iam:}; it is made for each connection, as a password"),
        ("redis", f"{{username: v, password: '${{aws-iam:frankfurt}}', {TLS_REDIS}}}",
         "instances[0].password: not a region; write ${aws-iam:}, ${aws-iam:eu-central-1} or "
         "${aws-iam:eu-central-1/host-or-cache}"),
        ("business_sql", "{url: 'postgresql://v@h/db', password: '${aws-iam:}', queries: [{sql: SELECT 1 AS n, "
         "columns: {n: {metric: a.b}}}]}",
         "instances[0]: this password only goes over TLS: end `url` in `?ssl=verify-full`"),
        ("business_sql", "{url: 'sqlite:///x.db', password: '${aws-iam:}', queries: [{sql: SELECT 1 AS n, "
         "columns: {n: {metric: a.b}}}]}",
         "instances[0]: a password that is made for each connection goes with PostgreSQL"),
    ],
)  # fmt: skip
def test_where_it_cannot_be(tmp_path: Path, clock: Clock, check: str, text: str, problem: str) -> None:
    (found,) = configured(tmp_path, check, text).problems
    assert str(found).removeprefix(f"{tmp_path}/") == f"{check}.yaml:2: {problem}"


def test_nothing_is_made_at_a_load_and_a_reload_leaves_the_instance_alone(tmp_path: Path, clock: Clock) -> None:
    text = f"{{host: {RDS_HOST}, username: v, password: '${{aws-iam:}}', {TLS_PG}}}"
    one, other = (configured(tmp_path, "postgres", text) for _ in range(2))
    assert one.problems == ()
    assert not compare(one, other)
    changed = configured(tmp_path, "postgres", text.replace("aws-iam:", "aws-iam:us-east-1"))
    assert [str(change.what) for change in compare(one, changed).changed] == ["('password',)"]


async def test_what_is_made_is_masked_and_stays_out_of_pickles(tmp_path: Path, clock: Clock) -> None:
    text = f"{{host: {RDS_HOST}, username: v, password: '${{aws-iam:}}', {TLS_PG}}}"
    configuration = configured(tmp_path, "postgres", text)
    config: Any = configuration.instances[0].config
    made = []
    for _ in range(4):
        made.append(await config.target.new_password())
        clock.advance(minutes=20)
    assert len(set(made)) == 4
    assert configuration.masker(f"it was {made[3]}!") == "it was ****!"
    assert configuration.masker(f"and {quote(made[2], safe='')}") == "and ****"  # as a driver may quote it
    assert configuration.masker(made[0]) == made[0]  # no list that grows for ever: that one has expired
    assert repr(config.password) == str(config.password) == "****"
    packed = pickle.dumps(configuration.instances[0])
    assert made[3].encode() not in packed
    child, masker = pickle.loads(packed), Masker()
    lend(child.config, masker)
    again = await child.config.target.new_password()
    assert parts(again)[0] == f"{RDS_HOST}:5432"
    assert masker(again) == "****"
    assert child.config == config


# --- on real servers ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    binaries = postgres18()
    assert binaries is not None
    made = PostgresServer(binaries)
    made.give("pg_hba.conf", b"host all vedette all password\nhost all all all trust\nlocal all all trust\n")
    made.start()
    made.sql("CREATE ROLE vedette LOGIN IN ROLE pg_monitor")
    yield made
    made.stop()


@asynccontextmanager
async def tls_for_postgres(port: int, certificates: Certificates) -> AsyncIterator[int]:
    """A port that speaks PostgreSQL's TLS and passes on to a server that is built without."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == struct.pack("!ii", 8, 80877103)  # SSLRequest
        writer.write(b"S")
        await writer.start_tls(certificates.server_side())
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))
        finally:
            back_writer.transport.abort()

    async with listening(serve) as at:
        yield at


@dataclass
class Instance:
    """One instance whose runs the test starts one by one."""

    configuration: Configuration
    masked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.configuration.problems == ()
        (instance,) = self.configuration.instances
        self.check: Any = instance.plugin(instance.config)
        self.channel = Channel(
            instance.id, instance.check, instance.plugin.declare(instance.config), instance.plugin.statuses
        )

    async def run(self) -> tuple[Batch, str]:
        """What came out, and the finding that ended the run, if one did."""
        emit = Emit(self.channel, START.timestamp())
        try:
            await self.check.run(emit)
        except CheckError as error:
            return emit.batch(), f"{error.message}; {error.hint}"
        return emit.batch(), ""


def status(batch: Batch, name: str) -> str:
    (found,) = {one.status.name for one in batch.statuses if one.name == name}
    return str(found)


async def test_postgres_logs_in_anew_with_a_new_token(
    tmp_path: Path, clock: Clock, database: PostgresServer, certificates: Certificates
) -> None:
    async with tls_for_postgres(database.port, certificates) as port:

        def expect(when: datetime) -> None:
            made = token(f"127.0.0.1:{port}", "rds-db", {"Action": "connect", "DBUser": "vedette"}, when)
            database.sql(f"ALTER ROLE vedette PASSWORD '{ordered(made)}'")

        text = (
            f"{{host: 127.0.0.1, port: {port}, username: vedette, password: '${{aws-iam:}}', sslmode: verify-full, "
            f"ca_file: {certificates.ca}}}"
        )
        instance = Instance(configured(tmp_path, "postgres", text))
        await asyncio.to_thread(expect, START)
        batch, finding = await instance.run()
        assert (finding, status(batch, "postgres.can_connect")) == ("", "OK")
        clock.advance(hours=1)
        assert (await instance.run())[1] == ""  # the connection stands: nobody asks for a token
        await asyncio.to_thread(
            database.sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'vedette'"
        )
        batch, finding = await instance.run()
        assert finding == f"127.0.0.1:{port} refused the password that was made for vedette; {IamPassword.refused}"
        assert status(batch, "postgres.can_connect") == "CRITICAL"
        await asyncio.to_thread(expect, START + timedelta(hours=1))
        batch, finding = await instance.run()
        assert (finding, status(batch, "postgres.can_connect")) == ("", "OK")
        await instance.check.close()


def ordered(made: str) -> str:
    """The token as this SDK writes it: what is asked for first, then the signature's own parameters."""
    host, _, query = made.partition("/?")
    names = ("Action", "DBUser", "ResourceType", "User", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date",
             "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")  # fmt: skip
    pairs = dict(pair.split("=", 1) for pair in query.split("&"))
    return f"{host}/?" + "&".join(f"{name}={pairs[name]}" for name in names if name in pairs)


async def test_a_database_whose_token_cannot_be_made_is_a_finding(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    text = "{host: 127.0.0.1, port: 1, username: vedette, password: '${aws-iam:}', sslmode: require}"
    async with relay(1) as port:
        instance = Instance(configured(tmp_path, "postgres", text.replace("port: 1", f"port: {port}")))
        batch, finding = await instance.run()
    assert finding.startswith(f"no password for 127.0.0.1:{port}: half of the credentials is missing: ")
    assert status(batch, "postgres.can_connect") == "CRITICAL"


async def test_business_sql_does_the_same(
    tmp_path: Path, clock: Clock, database: PostgresServer, certificates: Certificates
) -> None:
    async with tls_for_postgres(database.port, certificates) as port:
        made = token(f"127.0.0.1:{port}", "rds-db", {"Action": "connect", "DBUser": "vedette"}, START)
        await asyncio.to_thread(database.sql, f"ALTER ROLE vedette PASSWORD '{ordered(made)}'")
        text = (
            f"{{url: 'postgresql://vedette@127.0.0.1:{port}/postgres?ssl=require', password: '${{aws-iam:}}', "
            "queries: [{sql: SELECT 42 AS n, columns: {n: {metric: shop.answer}}}]}"
        )
        instance = Instance(configured(tmp_path, "business_sql", text))
        await instance.check.open()
        batch, finding = await instance.run()
        assert finding == ""
        assert [sample.value for sample in batch.samples if sample.name == "shop.answer"] == [42]
        await instance.check.close()
        clock.advance(minutes=1)
        assert "refused the login" in (await instance.run())[1]  # a new connection, a new token
        await instance.check.close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(valkey9(), tmp_path_factory.mktemp("valkey"))
    made.start()
    yield made
    made.stop()


async def test_redis_logs_in_anew_with_a_new_token(
    tmp_path: Path, clock: Clock, cache: RedisServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expect(when: datetime) -> None:
        made = token("shop-cache", "elasticache", {"Action": "connect", "User": "vedette"}, when)
        cache.command("ACL", "SETUSER", "vedette", "reset", "on", f">{ordered(made)}", "~*", "+@all")

    async with relay(cache.port, tls=certificates.server_side()) as port:
        text = (
            f"{{host: 127.0.0.1, port: {port}, username: vedette, password: '${{aws-iam:/shop-cache}}', tls: true, "
            f"ca_file: {certificates.ca}}}"
        )
        instance = Instance(configured(tmp_path, "redis", text))
        expect(START)
        await instance.check.open()
        assert (await instance.run())[1] == ""
        clock.advance(hours=1)
        expect(START + timedelta(hours=1))
        before = cache.info()["total_connections_received"]
        assert (await instance.run())[1] == ""
        assert cache.info()["total_connections_received"] == before + 1  # ours alone: the connection stands
        cache.command("CLIENT", "KILL", "USER", "vedette")
        clock.advance(hours=1)
        batch, finding = await instance.run()
        assert finding == f"127.0.0.1:{port} refused the password that was made for vedette; {IamPassword.refused}"
        assert status(batch, "redis.can_connect") == "CRITICAL"
        expect(START + timedelta(hours=2))
        assert (await instance.run())[1] == ""
        await instance.check.close()


async def test_a_redis_connection_is_made_anew_before_elasticache_ends_it(
    tmp_path: Path, clock: Clock, cache: RedisServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [50_000.0]
    monkeypatch.setattr("vedette_checks.redis.session.monotonic", lambda: seconds[0])

    def connections() -> int:
        return int(cache.info()["total_connections_received"])

    async with relay(cache.port, tls=certificates.server_side()) as port:
        made = token("shop-cache", "elasticache", {"Action": "connect", "User": "vedette"}, START)
        cache.command("ACL", "SETUSER", "vedette", "reset", "on", f">{ordered(made)}", "~*", "+@all")
        text = (
            f"{{host: 127.0.0.1, port: {port}, username: vedette, password: '${{aws-iam:/shop-cache}}', tls: true, "
            f"ca_file: {certificates.ca}}}"
        )
        instance = Instance(configured(tmp_path, "redis", text))
        await instance.check.open()
        assert (await instance.run())[1] == ""
        for later, more in ((10.9, 0), (0.2, 1), (10.9, 0)):
            seconds[0] += later * 3600
            before = connections()
            assert (await instance.run())[1] == ""
            assert connections() - before - 1 == more
        await instance.check.close()


def test_it_lasts_less_than_twelve_hours() -> None:
    assert 3600 < IamPassword.connection_lasts < 12 * 3600
    assert Password("x").lasts == float("inf")


async def test_credentials_of_a_role_are_used(aws: AwsServer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    config = AwsSecretsConfig(role_arn="arn:aws:iam::123456789012:role/vedette", endpoint_url=aws.url)
    resolver = IamPassword(config)
    made, _ = [await resolver.mint("", Login("postgresql", RDS_HOST, 5432, "vedette")) for _ in range(2)]
    assert "X-Amz-Security-Token=" in made
    assert f"X-Amz-Credential={KEY}" not in made
    assert aws.counts == {"sts:AssumeRole": 1}
