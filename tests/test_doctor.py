"""`vedette doctor` on real servers: its snippets, applied by who may, make it and the check content."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.process import vedette
from postgres_servers import PostgresServer, postgres18, remove_folders
from servers import RedisServer, free_port, redis62, valkey9

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
    cases: dict[str, dict[str, list[dict[str, str]]]] = {}
    for case in json.loads(done.stdout):
        lines = cases.setdefault(case["name"], {})
        for symptom in case["symptoms"]:
            lines.setdefault(symptom["what"], []).append(symptom)
    return done.returncode, cases


def one(lines: dict[str, list[dict[str, str]]], what: str) -> dict[str, str]:
    (symptom,) = lines[what]
    return symptom


# Redis


@pytest.fixture(scope="module", params=sorted(SERVERS))
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
    remove_folders()


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
