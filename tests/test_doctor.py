"""`vedette doctor` on real servers: its snippets, applied by who may, make it and the check content."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from cli.process import COMMAND, Running, environ, vedette, wait_until
from listening import listening
from postgres_servers import PostgresServer, postgres18
from servers import Certificates, RedisServer, free_port, redis62, valkey9
from vedette import Diagnosis
from vedette.advice import Grade
from vedette.kit import probe_clock, probe_tcp, probe_tls

pytestmark = pytest.mark.anyio

SERVERS: dict[str, Callable[[], Path]] = {"redis6.2": redis62, "valkey9": valkey9}


def conf(folder: Path, **files: str) -> Path:
    (folder / "conf.d").mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / "conf.d" / f"{name}.yaml"
        path.write_text(text)
        path.chmod(0o600)
    return folder / "conf.d"


def doctor(folder: Path, *more: str, **environment: str) -> tuple[int, dict[str, dict[str, list[dict[str, str]]]]]:
    """Exit status, and the symptoms by case and by what was looked at."""
    done = vedette("doctor", "--conf", "conf.d", "--json", *more, cwd=folder, **environment)
    assert done.stdout, done.stderr
    return done.returncode, cases_of(done.stdout)


def cases_of(text: str) -> dict[str, dict[str, list[dict[str, str]]]]:
    cases: dict[str, dict[str, list[dict[str, str]]]] = {}
    for case in json.loads(text):
        lines = cases.setdefault(case["name"], {})
        for symptom in case["symptoms"]:
            lines.setdefault(symptom["what"], []).append(symptom)
    return cases


def one(lines: dict[str, list[dict[str, str]]], what: str) -> dict[str, str]:
    (symptom,) = lines[what]
    return symptom


# Redis


@pytest.fixture(scope="module", params=[pytest.param("redis6.2", marks=pytest.mark.soak), "valkey9"])
def redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(SERVERS[request.param](), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


EVERYTHING = """
instances:
  - host: 127.0.0.1
    port: {port}
    db: {db}
    username: watcher
    password: wonderland
    command_stats: true
    latency_events: true
    slowlog: {{}}
    clients: true
    acl_log: true
    streams: ["mail events"]
    scan: {{by_prefix: ":"}}
    keys: [jobs, 'a "quoted" key']
    counters:
      - {{metric: shop.sales, key: "sales:{{%Y%m%d}}", read: get, missing: 0}}
      - {{metric: shop.users, key: users, read: zcount, window: 5m}}
"""


def apply(redis: RedisServer, snippet: str) -> None:
    """As an administrator at redis-cli."""
    with redis.client() as client:
        for line in snippet.splitlines():
            client.execute_command(*shlex.split(line))


@pytest.mark.parametrize("redis", ["valkey9", pytest.param("redis6.2", marks=pytest.mark.soak)], indirect=True)
def test_a_redis_user_without_any_rights(tmp_path: Path, redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()
        client.execute_command("ACL", "SETUSER", "watcher", "reset", "on", ">wonderland")
        client.rpush("jobs", 1)
        client.xadd("mail events", {"a": 1})
        client.xgroup_create("mail events", "readers", 0)
    conf(tmp_path, redis=EVERYTHING.format(port=redis.port, db=0))
    status, cases = doctor(tmp_path)
    assert status == 2
    lines = cases["redis/redis"]
    assert one(lines, "TCP")["grade"] == "ok"
    assert one(lines, "login")["grade"] == "ok"
    rights = one(lines, "rights")
    assert rights["grade"] == "failed"
    for word in ("+info", "+ping", "+slowlog|get", "+client|list", "+acl|log", "+latency|latest", "+scan", "+set"):
        assert word in rights["snippet"].split()
    assert "~sales:*" in rights["snippet"]
    apply(redis, rights["snippet"])
    status, cases = doctor(tmp_path, "redis")
    assert {one["grade"] for some in cases["redis/redis"].values() for one in some} == {"ok"}, cases["redis/redis"]
    assert status == 0
    assert vedette("check", "redis", "--conf", "conf.d", cwd=tmp_path).returncode == 0
    assert redis.command("EXISTS", "vedette:round_trip:doctor") == 0


def test_a_redis_user_that_lacks_a_key_only(tmp_path: Path, redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()
        client.execute_command(
            "ACL", "SETUSER", "watcher", "reset", "on", ">wonderland", "+@all", "~jobs", "~vedette:*"
        )
    text = "instances: [{host: 127.0.0.1, port: %d, username: watcher, password: wonderland, keys: [jobs, mail]}]"
    conf(tmp_path, redis=text % redis.port)
    status, cases = doctor(tmp_path, "redis")
    assert status == 2
    assert list(cases) == ["redis/redis"]
    rights = one(cases["redis/redis"], "rights")
    assert (rights["seen"], rights["snippet"]) == ("the user watcher may not access mail", "ACL SETUSER watcher ~mail")
    apply(redis, rights["snippet"])
    assert doctor(tmp_path, "redis/redis")[0] == 0


def test_a_redis_user_with_all_keys_is_not_given_patterns(tmp_path: Path, redis: RedisServer) -> None:
    with redis.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "watcher", "reset", "on", ">wonderland", "~*", "+info", "+ping", "+acl|getuser"
        )
    text = "instances: [{host: 127.0.0.1, port: %d, username: watcher, password: wonderland, keys: [jobs]}]"
    conf(tmp_path, redis=text % redis.port)
    snippet = one(doctor(tmp_path)[1]["redis/redis"], "rights")["snippet"]
    assert "~" not in snippet
    apply(redis, snippet)
    assert doctor(tmp_path, "redis")[0] == 0


def test_redis_logins_that_fail_are_told_apart(tmp_path: Path, redis: RedisServer) -> None:
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "watcher", "reset", "on", ">wonderland", "+@all", "~*")
        client.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">wonderland", "+info", "+ping")
    head = f"{{host: 127.0.0.1, port: {redis.port}, name: "
    conf(
        tmp_path,
        redis=f"instances:\n  - {head}wrong, username: watcher, password: rabbit-hole}}\n"
        f"  - {head}select, username: narrow, password: wonderland, db: 3, round_trip: false}}\n"
        f"  - {{host: 127.0.0.1, port: {free_port()}, name: down, tls: true}}\n"
        "  - {host: no-such-host.invalid, name: nowhere}\n",
    )
    status, cases = doctor(tmp_path, "redis")
    assert status == 2
    wrong = one(cases["redis/wrong"], "login")
    assert wrong["seen"] == f"127.0.0.1:{redis.port} refused the user name or the password"
    assert one(cases["redis/select"], "login")["snippet"] == "ACL SETUSER narrow +select"
    apply(redis, "ACL SETUSER narrow +select")
    assert doctor(tmp_path, "redis/select")[0] == 0
    down = {what: lines[0]["grade"] for what, lines in cases["redis/down"].items()}
    assert down == {"TCP": "failed", "TLS": "not reached", "login": "not reached", "rights": "not reached",
                    "run": "not reached"}  # fmt: skip
    assert one(cases["redis/nowhere"], "DNS")["seen"] == "no-such-host.invalid does not resolve"
    with redis.client() as client:
        client.config_set("requirepass", "open-sesame")
    try:
        conf(tmp_path, redis=f"instances: [{head}bare}}]")
        bare = one(doctor(tmp_path)[1]["redis/bare"], "login")
        assert (bare["seen"], bare["hint"]) == (
            f"127.0.0.1:{redis.port} wants a password", "set `password`, and `username` with ACL users",
        )  # fmt: skip
    finally:
        with redis.client(password="open-sesame") as client:
            client.config_set("requirepass", "")


# PostgreSQL


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = postgres18()
    assert binaries is not None
    server = PostgresServer(binaries, shared_preload_libraries="")
    server.start()
    yield server
    server.stop()


POSTGRES = """
instances:
  - host: 127.0.0.1
    port: {port}
    username: We"ird
    dbname: shop
    statements: {{}}
    databases: {{exclude: [postgres]}}
    queries:
      - name: orders
        sql: |
          SELECT o.status, count(*) FROM orders o JOIN "Sales".clients c ON c.id = o.client  -- FROM nothing
          WHERE o.note <> 'from pg_authid' GROUP BY 1
        columns: [{{name: status, type: tag}}, {{name: shop.orders, type: gauge}}]
      - name: wrong
        sql: SELECT nothing FROM nowhere
        columns: [{{name: shop.nothing, type: gauge}}]
"""


def test_a_postgres_role_without_any_rights(tmp_path: Path, postgres: PostgresServer) -> None:
    for statement in ('CREATE ROLE "We""ird" LOGIN', "CREATE DATABASE shop", "CREATE DATABASE vault"):
        postgres.sql(statement)
    postgres.sql("REVOKE CONNECT ON DATABASE shop, vault FROM PUBLIC")
    postgres.sql(
        'CREATE TABLE orders (status text, client int, note text); CREATE SCHEMA "Sales";'
        'CREATE TABLE "Sales".clients (id int); CREATE TABLE nothing (n int)',
        "shop",
    )
    conf(tmp_path, postgres=POSTGRES.format(port=postgres.port))
    status, cases = doctor(tmp_path, "postgres")
    login = one(cases["postgres/postgres"], "login")
    assert status == 2
    assert login["snippet"] == 'GRANT CONNECT ON DATABASE "shop" TO "We""ird";'
    postgres.sql(login["snippet"])

    status, cases = doctor(tmp_path, "postgres")
    lines = cases["postgres/postgres"]
    assert status == 2
    assert one(lines, "login")["grade"] == "ok"
    assert one(lines, "clock")["grade"] == "ok"
    assert one(lines, "pg_monitor")["snippet"] == 'GRANT pg_monitor TO "We""ird";'
    assert one(lines, "databases")["snippet"] == 'GRANT CONNECT ON DATABASE "vault" TO "We""ird";'
    orders = one(lines, "query orders")
    assert "permission denied for" in orders["seen"]
    assert orders["snippet"].splitlines() == [
        'GRANT SELECT ON public.orders TO "We""ird";',
        'GRANT USAGE ON SCHEMA "Sales" TO "We""ird";',
        'GRANT SELECT ON "Sales".clients TO "We""ird";',
    ]
    assert one(lines, "query wrong")["hint"] == "correct its `sql`"
    assert one(lines, "pg_stat_statements")["snippet"] == "CREATE EXTENSION pg_stat_statements;"
    for some in lines.values():
        for symptom in some:
            if symptom["snippet"] and symptom["grade"] == "failed":
                postgres.sql(symptom["snippet"], "shop")

    conf(tmp_path, postgres=POSTGRES.format(port=postgres.port).partition("      - name: wrong")[0])
    status, cases = doctor(tmp_path, "postgres")
    (unloaded,) = [one for some in cases["postgres/postgres"].values() for one in some if one["grade"] == "failed"]
    assert (unloaded["what"], unloaded["hint"]) == ("pg_stat_statements", "then restart the server")
    assert unloaded["snippet"] == "ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements;"
    postgres.sql(unloaded["snippet"])
    del postgres.settings["shared_preload_libraries"]  # which the tests give on the command line
    postgres.restart()

    status, cases = doctor(tmp_path, "postgres")
    grades = {one["grade"] for some in cases["postgres/postgres"].values() for one in some}
    assert grades == {"ok", "info"}, cases["postgres/postgres"]  # track_io_timing is off
    assert status == 0
    timing = one(cases["postgres/postgres"], "track_io_timing")
    assert timing["grade"] == "info"
    for line in timing["snippet"].splitlines():
        postgres.sql(line)
    assert vedette("check", "postgres", "--conf", "conf.d", cwd=tmp_path).returncode == 0
    assert "track_io_timing" not in doctor(tmp_path, "postgres")[1]["postgres/postgres"]


CALLS = """
instances:
  - host: 127.0.0.1
    port: {port}
    username: caller
    dbname: works
    queries:
      - name: due
        sql: |
          SELECT "Tool box".due(1, '{{}}', NULL), count(*), public.most(id), twice('harmless('), clear(2)
          FROM jobs WHERE id > once() GROUP BY 4
        columns:
          - {{name: works.due, type: gauge}}
          - {{name: works.jobs, type: gauge}}
          - {{name: works.most, type: gauge}}
          - {{name: twice, type: tag}}
          - {{name: works.clear, type: gauge}}
      - name: view
        sql: SELECT n FROM seen
        columns: [{{name: works.seen, type: gauge}}]
"""
FUNCTIONS = """
CREATE TABLE jobs (id int);
CREATE SCHEMA "Tool box"; CREATE SCHEMA hidden;
CREATE TYPE "Tool box"."Kind" AS ENUM ('a');
CREATE FUNCTION "Tool box".due(int, text[], "Tool box"."Kind") RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION once() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 0; END';
CREATE FUNCTION twice(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE FUNCTION clear(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE FUNCTION clear(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 0; END';
CREATE FUNCTION harmless(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 0; END';
CREATE FUNCTION hidden.inner(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE AGGREGATE most(int) (sfunc = int4larger, stype = int);
CREATE VIEW seen AS SELECT hidden.inner(7) AS n;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public, "Tool box", hidden FROM PUBLIC;
GRANT EXECUTE ON FUNCTION clear(int) TO PUBLIC;
GRANT SELECT ON seen TO caller;
INSERT INTO jobs VALUES (1), (3);
"""


def test_a_postgres_role_that_may_not_call_what_its_queries_call(tmp_path: Path, postgres: PostgresServer) -> None:
    postgres.sql("CREATE ROLE caller LOGIN IN ROLE pg_monitor")
    postgres.sql("CREATE DATABASE works")
    postgres.sql(FUNCTIONS, "works")
    conf(tmp_path, postgres=CALLS.format(port=postgres.port))
    status, cases = doctor(tmp_path, "postgres")
    due, view = (one(cases["postgres/postgres"], f"query {name}") for name in ("due", "view"))
    assert status == 2
    assert due["seen"] == "permission denied for schema Tool box"
    assert due["snippet"].splitlines() == [
        'GRANT SELECT ON public.jobs TO "caller";',
        'GRANT USAGE ON SCHEMA "Tool box" TO "caller";',
        'GRANT EXECUTE ON FUNCTION "Tool box".due(integer, text[], "Tool box"."Kind") TO "caller";',
        'GRANT EXECUTE ON FUNCTION public.most(integer) TO "caller";',
        'GRANT EXECUTE ON FUNCTION public.twice(text) TO "caller";',
        'GRANT EXECUTE ON FUNCTION public.once() TO "caller";',
    ]
    assert view["seen"] == "permission denied for function inner"
    assert due["hint"] == view["hint"] == "in the database works"
    assert view["snippet"] == 'GRANT EXECUTE ON FUNCTION hidden."inner"(integer) TO "caller";'
    told = vedette("check", "postgres", "--conf", "conf.d", cwd=tmp_path)
    assert "query due: permission denied for schema Tool box; GRANT USAGE to caller" in told.stdout
    assert "query view: permission denied for function inner; GRANT EXECUTE to caller" in told.stdout

    postgres.sql(due["snippet"], "works")
    postgres.sql(view["snippet"], "works")
    lines = doctor(tmp_path, "postgres")[1]["postgres/postgres"]
    assert one(lines, "query due")["grade"] == one(lines, "query view")["grade"] == "ok"
    assert {symptom["grade"] for some in lines.values() for symptom in some} <= {"ok", "info"}, lines
    done = vedette("check", "postgres", "--conf", "conf.d", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "works.seen" in done.stdout


def test_of_functions_that_share_a_name_all_are_named(tmp_path: Path, postgres: PostgresServer) -> None:
    postgres.sql("CREATE ROLE sharer LOGIN IN ROLE pg_monitor; CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql "
                 "AS 'BEGIN RETURN 1; END'; CREATE FUNCTION f(text) RETURNS int LANGUAGE plpgsql "
                 "AS 'BEGIN RETURN 2; END'; REVOKE EXECUTE ON FUNCTION f(int), f(text) FROM PUBLIC")  # fmt: skip
    conf(
        tmp_path,
        postgres=f"""
instances:
  - host: 127.0.0.1
    port: {postgres.port}
    username: sharer
    queries: [{{name: q, sql: "SELECT f('a'::text)", columns: [{{name: some.f, type: gauge}}]}}]
""",
    )
    query = one(doctor(tmp_path, "postgres")[1]["postgres/postgres"], "query q")
    assert query["seen"] == "permission denied for function f"
    assert query["hint"] == (
        "in the database postgres; of functions that share a name, only what the query calls is needed"
    )
    assert query["snippet"].splitlines() == [
        'GRANT EXECUTE ON FUNCTION public.f(integer) TO "sharer";',
        'GRANT EXECUTE ON FUNCTION public.f(text) TO "sharer";',
    ]


@contextmanager
def asked_for_tls(answer: bytes, context: ssl.SSLContext) -> Iterator[int]:
    """A port whose server answers PostgreSQL's SSLRequest, and speaks TLS if it said so."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), connection:
                if len(connection.recv(8)) == 8:
                    connection.sendall(answer)
                    if answer == b"S":
                        context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_postgres_asks_for_tls_in_the_clear(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "tls", not_after=datetime.now(UTC) + timedelta(days=400, hours=1))
    text = "instances: [{{host: 127.0.0.1, port: {}, username: x, sslmode: verify-full, ca_file: {}}}]"
    with asked_for_tls(b"S", certificates.server_side()) as port:
        conf(tmp_path, postgres=text.format(port, certificates.ca))
        lines = doctor(tmp_path, "postgres")[1]["postgres/postgres"]
        assert one(lines, "TLS")["grade"] == "ok"
        assert one(lines, "certificate")["seen"].startswith("valid for 400 more days, until ")
        assert one(lines, "login")["grade"] == "failed"
    with asked_for_tls(b"N", certificates.server_side()) as port:
        conf(tmp_path, postgres=text.format(port, certificates.ca))
        lines = doctor(tmp_path, "postgres")[1]["postgres/postgres"]
        assert (one(lines, "TLS")["grade"], one(lines, "login")["grade"]) == ("failed", "not reached")
        assert one(lines, "TLS")["seen"] == "the server does not speak TLS"


def test_a_server_that_hangs_ends_the_diagnosis_in_time(tmp_path: Path, redis: RedisServer) -> None:
    conf(tmp_path, redis=f"instances: [{{host: 127.0.0.1, port: {redis.port}, timeout: 1s}}]")
    redis.pause()
    try:
        status, cases = doctor(tmp_path, "redis")
    finally:
        redis.resume()
    lines = cases["redis/redis"]
    assert status == 2
    assert {what: lines[what][0]["grade"] for what in lines} == {
        "TCP": "ok", "login": "failed", "rights": "not reached", "run": "not reached",
    }  # fmt: skip
    assert one(lines, "login")["seen"] == f"no answer from 127.0.0.1:{redis.port} within 0.5s"


# What the page shows


PAGE = (Path(__file__).parents[1] / "docs" / "plan-and-doctor.md").read_text()


def shown(command: str) -> list[str]:
    """The lines that the page shows below a command."""
    return PAGE.split(f"```console\n$ {command}\n")[1].split("```")[0].splitlines()


def test_the_page_shows_what_redis_lacks(tmp_path: Path, redis: RedisServer) -> None:
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "vedette", "reset", "on", ">wonderland", "+info", "+ping")
    conf(
        tmp_path,
        redis=f"instances: [{{name: cache, host: 127.0.0.1, port: {redis.port}, username: vedette, slowlog: {{}}, "
        "password: wonderland, keys: [jobs]}]",
    )
    output = vedette("doctor", "redis", cwd=tmp_path).stdout.splitlines()
    assert [line for line in shown("vedette doctor redis") if line not in output] == []


def test_the_page_shows_what_postgres_lacks(tmp_path: Path) -> None:
    binaries = postgres18()
    assert binaries is not None
    server = PostgresServer(binaries)
    server.start()
    try:
        server.sql("CREATE ROLE vedette LOGIN")
        server.sql("CREATE DATABASE shop")
        server.sql("CREATE TABLE orders (status text)", "shop")
        conf(
            tmp_path,
            postgres=f"""
instances:
  - name: shop
    host: 127.0.0.1
    port: {server.port}
    username: vedette
    dbname: shop
    statements: {{}}
    queries:
      - name: open orders
        sql: SELECT status, count(*) FROM orders GROUP BY status
        columns: [{{name: status, type: tag}}, {{name: shop.orders, type: gauge}}]
""",
        )
        output = vedette("doctor", "postgres", cwd=tmp_path).stdout.splitlines()
    finally:
        server.stop()
    assert [line for line in shown("vedette doctor postgres") if line not in output] == []


# business_sql, synthetic, host


def test_a_business_user_without_select(tmp_path: Path, postgres: PostgresServer) -> None:
    postgres.sql("CREATE ROLE counter LOGIN; CREATE TABLE payments (amount int, created_at timestamptz)")
    conf(
        tmp_path,
        business_sql=f"""
instances:
  - url: postgresql+asyncpg://counter@127.0.0.1:{postgres.port}/postgres
    name: hourly
    window: {{every: 1h}}
    queries:
      - name: volume
        sql: SELECT sum(amount) AS n FROM payments WHERE created_at >= :start_time AND created_at < :end_time
        columns: {{n: {{metric: shop.n}}}}
  - url: sqlite+aiosqlite:///nowhere.db
    name: lite
    queries: [{{sql: SELECT 1 AS n, columns: {{n: {{metric: a.n}}}}}}]
""",
    )
    status, cases = doctor(tmp_path, "business_sql")
    assert status == 2
    volume = one(cases["business_sql/hourly"], "volume")
    assert volume["seen"] == "permission denied for table payments"
    assert volume["snippet"] == "GRANT SELECT ON public.payments TO counter;"
    lite = cases["business_sql/lite"]
    assert one(lite, "database")["seen"].endswith("nowhere.db cannot be read: No such file or directory")
    assert one(lite, "login")["grade"] == "not reached"
    postgres.sql(volume["snippet"])
    status, cases = doctor(tmp_path, "business_sql/hourly")
    assert status == 0, cases
    assert one(cases["business_sql/hourly"], "volume")["seen"] == "the database takes it, bounds are timestamptz"
    assert one(cases["business_sql/hourly"], "clock")["grade"] == "ok"


class Api(BaseHTTPRequestHandler):
    """Notes what it is asked; its clock is a minute ahead."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.requestline)
        self.send_response_only(404)
        self.send_header("Date", formatdate(time.time() + 60, usegmt=True))
        self.end_headers()

    do_GET = do_POST = do_HEAD


def test_a_flow_is_not_begun_and_its_servers_are_looked_at(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "tls", not_after=datetime.now(UTC) + timedelta(days=9, hours=1))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.socket = certificates.server_side().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    flow = """
instances:
  - base_url: https://127.0.0.1:{port}
    {ca}
    steps:
      - {{name: login, request: "POST /login/{{{{ now }}}}"}}
      - {{name: pay, request: "POST https://127.0.0.1:{port}/pay"}}
"""
    try:
        conf(tmp_path, synthetic=flow.format(port=server.server_port, ca=f"ca_file: {certificates.ca}"))
        status, cases = doctor(tmp_path, "synthetic")
        lines = cases["synthetic/synthetic"]
        assert status == 1
        assert one(lines, "TLS")["grade"] == "ok"
        assert one(lines, "certificate")["grade"] == "warning"
        assert one(lines, "certificate")["seen"].startswith("valid for 9 more days, until ")
        assert one(lines, "HTTP")["seen"] == "HEAD / is answered with 404"
        clock = one(lines, "clock")
        assert clock["grade"] == "warning"
        assert "ahead of this machine" in clock["seen"]
        assert one(lines, "run")["seen"] == "its runs change something at the target, so it is not run here"
        assert Api.asked == ["HEAD / HTTP/1.1"]
        conf(tmp_path, synthetic=flow.format(port=server.server_port, ca=""))
        status, cases = doctor(tmp_path, "synthetic")
        tls = one(cases["synthetic/synthetic"], "TLS")
        assert (status, tls["grade"]) == (2, "failed")
        assert tls["hint"] == "set `ca_file` to the authority that signed it"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_host_without_its_proc(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    conf(tmp_path, host=f"instances: [{{name: here}}, {{name: there, procfs_path: {tmp_path / 'proc'}, cpu: false}}]")
    status, cases = doctor(tmp_path, "host/there")
    assert status == 2
    memory = one(cases["host/there"], "memory")
    assert memory["seen"] == f"{tmp_path / 'proc' / 'meminfo'}: No such file or directory"
    status, cases = doctor(tmp_path, "host/here")
    assert one(cases["host/here"], "cpu")["seen"] == "/proc/stat"


# Sinks and the agent's own files


def test_sinks(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local,
    ):
        receiver.bind(("127.0.0.1", 0))
        local.bind(str(tmp_path / "dsd.socket"))
        ports = receiver.getsockname()[1], taken.getsockname()[1]
        conf(
            tmp_path,
            host="instances: [{}]",
            agent=f"""
sinks:
  - {{type: dogstatsd, name: heard, port: {ports[0]}}}
  - {{type: dogstatsd, name: unheard, port: {free_udp_port()}}}
  - {{type: dogstatsd, name: elsewhere, host: 192.0.2.1}}
  - {{type: dogstatsd, name: unix, socket: {tmp_path / "dsd.socket"}}}
  - {{type: dogstatsd, name: stream, socket: "unixstream://{tmp_path / "dsd.socket"}"}}
  - {{type: dogstatsd, name: no-socket, socket: /nowhere/dsd.socket}}
  - {{type: prometheus, listen: "127.0.0.1:{free_port()}"}}
  - {{type: prometheus, name: taken, listen: "127.0.0.1:{ports[1]}"}}
  - {{type: file, path: ../nowhere/out.jsonl}}
  - {{type: file, name: fine, path: ../out.jsonl, max_bytes: 1KB}}
""",
        )
        taken.settimeout(0)
        status, cases = doctor(tmp_path)
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(1)  # a diagnosis sends nothing
    assert status == 2
    found = {name: [(one["what"], one["grade"]) for some in lines.values() for one in some]
             for name, lines in cases.items() if name.startswith("sink ")}  # fmt: skip
    assert found == {
        "sink heard": [("UDP", "ok")],
        "sink unheard": [("UDP", "failed")],
        "sink elsewhere": [("UDP", "info")],
        "sink unix": [("socket", "ok")],
        "sink stream": [("socket", "failed")],
        "sink no-socket": [("socket", "failed")],
        "sink prometheus": [("address", "ok")],
        "sink taken": [("address", "failed")],
        "sink file": [("folder", "failed")],
        "sink fine": [("folder", "ok")],
    }


def test_a_page_that_an_agent_serves_is_no_trouble(tmp_path: Path) -> None:
    port = free_port()
    conf(tmp_path, host="instances: [{}]", agent=f"sinks: [{{type: prometheus, listen: '127.0.0.1:{port}'}}]")
    with Running("--conf", "conf.d", cwd=tmp_path) as agent:
        agent.wait_for("serving http")
        seen = one(wait_until(lambda: served(tmp_path), "the page")["sink prometheus"], "address")["seen"]
        agent.end(15)
    assert seen == f"an agent serves its page on 127.0.0.1:{port}"


def served(folder: Path) -> dict[str, dict[str, list[dict[str, str]]]] | None:
    cases = doctor(folder)[1]
    return cases if one(cases["sink prometheus"], "address")["grade"] == "ok" else None


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_who_may_read_what(tmp_path: Path) -> None:
    directory = conf(
        tmp_path,
        agent="state_directory: pw/state",
        host="instances: [{}]",
        redis=f"instances:\n  - name: written\n    port: {free_port()}\n    password: wonderland\n"
        f"  - {{name: referred, port: {free_port()}, password: '${{file:pw}}'}}\n",
        synthetic="instances:\n  - base_url: http://127.0.0.1:1\n"
        "    steps:\n      - {name: login, request: POST /, json: {password: rabbit, user: alice}}\n"
        '      - {name: token, request: POST /, headers: {Authorization: "Bearer {{ now }}"}}\n',
    )
    (directory / "pw").write_text("hush-hush\n")
    (directory / "pw").chmod(0o644)
    (directory / "redis.yaml").chmod(0o644)
    (directory / "host.yaml").chmod(0o666)
    status, cases = doctor(tmp_path)
    lines = cases["agent"]
    assert status == 2
    assert [(one["seen"], one["snippet"]) for one in lines["plain text"]] == [
        (
            "conf.d/redis.yaml:4: instances[0].password is a secret written down",
            'password: "${file:/run/secrets/password}"',
        ),
        (
            "conf.d/synthetic.yaml:4: instances[0].steps[0].json.password is a secret written down",
            'password: "${file:/run/secrets/password}"',
        ),
    ]
    assert [(one["seen"], one["snippet"]) for one in lines["permissions"]] == [
        ("conf.d/host.yaml can be changed by everybody", "chmod o-w conf.d/host.yaml"),
        ("conf.d/redis.yaml holds secrets and can be read by everybody", "chmod o-rwx conf.d/redis.yaml"),
    ]
    secret = one(lines, "secret file")
    assert (secret["grade"], secret["snippet"]) == ("warning", "chmod o-rwx conf.d/pw")
    assert one(lines, "state")["grade"] == "failed"
    shown = vedette("doctor", cwd=tmp_path).stdout
    assert "> chmod o-rwx conf.d/redis.yaml" in shown
    for value in ("wonderland", "rabbit", "hush-hush"):
        assert value not in shown


@pytest.mark.parametrize("kubelet", [False, True], ids=["bind mount", "kubelet"])
def test_only_of_what_a_kubelet_brought_is_not_said_who_may_read_it(tmp_path: Path, kubelet: bool) -> None:
    """Its names are links through `..data`, and no chmod mends them. It does a folder that is mounted read-only."""
    instances = [f"{{port: {free_port()}, password: '${{file:pw}}'}}", f"{{port: {free_port()}, password: rabbit}}"]
    directory = conf(tmp_path, redis=f"instances: [{', '.join(instances)}]\n")
    (directory / "pw").write_text("hush-hush\n")
    for path in list(directory.iterdir()):
        path.chmod(0o444)
        if kubelet:
            version = directory / "..2026_11_27"
            version.mkdir(exist_ok=True)
            path.rename(version / path.name)
            path.symlink_to(f"..data/{path.name}")
    if kubelet:
        (directory / "..data").symlink_to("..2026_11_27")
    _, cases = doctor(tmp_path)
    assert one(cases["agent"], "secret file")["grade"] == "warning"
    assert cases["agent"].keys() >= {"plain text", "permissions"}
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    fixed = ["unshare", "-rm", "sh", "-c", mount, str(directory)]
    if shutil.which("unshare") is None or subprocess.run([*fixed, "true"], check=False).returncode:
        pytest.skip("needs a mount namespace, for a folder that is read-only")
    command = [*fixed, *COMMAND, "doctor", "--conf", "conf.d", "--json"]
    env = environ(tmp_path / "state")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    lines = cases_of(done.stdout)["agent"]
    assert "plain text" in lines
    secret = one(lines, "secret file")
    if kubelet:
        assert (secret["grade"], secret["seen"]) == ("ok", "conf.d/pw can be read")
        assert "permissions" not in lines
    else:
        assert (secret["grade"], secret["seen"]) == ("warning", "conf.d/pw can be read by everybody")
        assert secret["hint"] == "it holds a secret; it is mounted read-only here: change it where it comes from"
        permissions = one(lines, "permissions")
        assert permissions["grade"] == "failed"
        assert permissions["hint"] == "it is mounted read-only here: change it where it comes from"
        assert (secret["snippet"], permissions["snippet"]) == ("", "")


def test_options_of_resolvers_are_no_secrets(tmp_path: Path) -> None:
    """The example of docs/secrets.md; a secret among them is still one."""
    block = (Path(__file__).parents[1] / "docs/secrets.md").read_text().partition("# conf.d/agent.yaml\n")[2]
    block = block.partition("```")[0]
    assert "role_arn:" in block
    conf(tmp_path, agent=f"sinks: []\n{block}", host="instances: [{}]\n")
    status, cases = doctor(tmp_path)
    assert "plain text" not in cases["agent"]
    assert status == 0
    conf(tmp_path, agent=f"sinks: []\n{block}    endpoint_url: http://me:hunter2@127.0.0.1\n")
    (found,) = doctor(tmp_path)[1]["agent"]["plain text"]
    assert "secrets.aws.endpoint_url is a secret written down" in found["seen"]


def test_a_check_without_needs_and_an_instance_that_is_not_there(tmp_path: Path) -> None:
    conf(tmp_path, host="instances: [{}]")
    done = vedette("doctor", "hosst", "--conf", "conf.d", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "no valid instance is called 'hosst'; there are: host/host\n")


# The layers themselves


async def test_clocks() -> None:
    diagnosis = Diagnosis()
    probe_clock(diagnosis, 1000.5, 1000.0, 1000.2)
    probe_clock(diagnosis, 1003.0, 1000.0, 1000.2)
    probe_clock(diagnosis, 995.0, 1000.0, 1000.2)
    probe_clock(diagnosis, 1002.0, 1000.0, 1000.1, resolution=1.0)  # may be 1002.9 or 1002.0
    assert [(one.grade, one.seen) for one in diagnosis.symptoms] == [
        (Grade.OK, "within 400ms of this machine's"),
        (Grade.WARNING, "the server is 2.9s ahead of this machine"),
        (Grade.WARNING, "the server is 5.1s behind this machine"),
        (Grade.OK, "within 2.45s of this machine's"),
    ]


async def test_tls_where_there_is_none() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(mute) as port:
        diagnosis = Diagnosis()
        assert await probe_tcp(diagnosis, "127.0.0.1", port)
        assert not await probe_tls(diagnosis, "127.0.0.1", port, ssl.create_default_context())
    assert [(one.what, one.grade) for one in diagnosis.symptoms] == [("TCP", Grade.OK), ("TLS", Grade.FAILED)]
    assert diagnosis.symptoms[1].hint == "does the server speak TLS on this port?"
