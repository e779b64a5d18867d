"""`vedette import datadog`: published shapes of conf.yaml become files in which `validate` finds nothing wrong."""

from __future__ import annotations

import re
import stat
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.process import vedette
from vedette.cli.moving import import_
from vedette.config import load
from vedette.moving import move
from vedette.moving.foreign import code_of
from vedette.moving.values import names, status_codes
from vedette.plugins import Registry

FILES = {
    "postgres.d/conf.yaml": r"""
init_config:
  service: payments
instances:
  - host: db1.internal
    port: 5433
    username: datadog
    password: "ENC[pg_password]"
    dbname: shop
    ssl: verify-full
    ssl_root_cert: /etc/ssl/ca.pem
    min_collection_interval: 30
    tags: ["env:prod", "team:payments"]
    dbm: true
    relations:
      - orders
      - {relation_name: users, schemas: [public, audit]}
      - relation_regex: .*
    custom_queries:
      - metric_prefix: shop
        query: SELECT status, count(*) FROM orders GROUP BY status
        columns:
          - {name: status, type: tag}
          - {name: orders.open, type: gauge}
    pgbouncer_something: 1
  - {host: db1.internal, port: 5433, username: datadog}
""",
    "redisdb.d/conf.yaml": """
init_config:
instances:
  - host: cache.internal
    port: 6379
    password: hunter2
    keys: [queue, backlog]
    command_stats: true
    ssl: true
    ssl_cert_reqs: 0
    socket_timeout: 5
    warn_on_missing_keys: true
  - {host: "%%host%%", port: 6379}
""",
    "http_check.d/conf.yaml": r"""
init_config: {}
instances:
  - name: Payments API
    url: https://pay.example.com/health
    timeout: 3
    method: post
    http_response_status_code: (1|2|3)\d\d
    content_match: '"status": *"ok"'
    headers: {X-Probe: vedette}
    days_warning: 14
    tls_verify: true
    tls_ca_cert: /etc/ssl/ca.pem
    collect_response_time: true
    ssl_server_name: pay
""",
    "openmetrics.d/conf.yaml": """
init_config:
instances:
  - openmetrics_endpoint: http://ledger:9100/metrics
    namespace: ledger
    metrics:
      - "^go_.+"
      - http_requests_total
      - process_cpu_seconds: cpu
      - "a(b+|c)"
    exclude_labels: [pod_uid]
""",
    "disk.d/conf.yaml": """
init_config:
instances: [{use_mount: false, file_system_exclude: [tmpfs], tags: [a:b]}]
""",
    "network.d/conf.yaml": """
init_config:
instances: [{excluded_interfaces: [lo, lo0], collect_connection_state: true, tags: [c:d]}]
""",
    "dns_check.d/conf.yaml": """
init_config: {default_timeout: 4}
instances:
  - hostname: www.example.org
    nameserver: 127.0.0.1
    nameserver_port: 5353
    record_type: mx
    resolves_as: 10 a, 20 b
  - {name: own, hostname: a.b, timeout: 3, nameserver:}
""",
    "process.d/conf.yaml": """
init_config: {pid_cache_duration: 30, shared_process_list_cache_duration: 20, procfs_path: /host/proc}
instances:
  - {name: ssh, search_string: [ssh, sshd], exact_match: "no", thresholds: {critical: [1, 7], warning: [3, 5]}}
  - {name: pg, pid_file: /run/pg.pid, user: postgres, collect_children: true, try_sudo: true}
""",
    "tcp_check.d/conf.yaml": "instances:\n  - {name: My Service, host: gw, port: 22, multiple_ips: true}\n",
    "tls.d/conf.yaml": "init_config:\ninstances:\n  - {server: https.internal, days_warning: 30, days_critical: 10}\n",
    "rabbitmq.d/conf.yaml": """
init_config:
instances:
  - rabbitmq_api_url: mq1:15672/api/
    rabbitmq_user: dd
    rabbitmq_pass: "ENC[mq]"
    ssl_verify: false
    vhosts: [/]
    queues_regexes: ["^shop-(.*)"]
    tag_families: true
    max_detailed_queues: 300
    nodes: [rabbit@mq1]
""",
    "cpu.d/conf.yaml.default": "init_config:\ninstances:\n  - {}\n",
    "nagios.d/conf.yaml": "instances:\n  - nagios_conf: /etc/nagios/nagios.cfg\n",
    "haproxy.yaml": "init_config:\ninstances:\n  - {url: http://localhost/}\n",
    "broken.d/conf.yaml": "instances: [\n  {a: b\n",
    "odd.d/conf.yaml": "just text",
}
WRITTEN = ("dns", "host", "openmetrics", "postgres", "process", "rabbitmq", "redis", "synthetic", "tcp", "tls")
NOTES = [
    "broken.d/conf.yaml:3: is not YAML",
    "http_check.d/conf.yaml: instances[0].ssl_server_name: there is nothing like it in check synthetic",
    "nagios.d/conf.yaml: there is no check nagios here; check exec runs the plugins themselves",
    "odd.d/conf.yaml: has no list of instances",
    "process.d/conf.yaml: instances[1].try_sudo: there is nothing like it in check process",
    "openmetrics.d/conf.yaml: instances[0].metrics: 'a(b+|c)' is a regular expression that no pattern here (a "
    "glob) stands for",
    "disk.d/conf.yaml: instances[0]: tags: check host is one for all its parts, so it is not written",
    "network.d/conf.yaml: instances[0]: tags: check host is one for all its parts, so it is not written",
    "postgres.d/conf.yaml: instances[0].password: was a handle of the secret backend: set $PG_PASSWORD, or see "
    "docs/secrets.md",
    "postgres.d/conf.yaml: instances[0].dbm: there is nothing like it in check postgres",
    "postgres.d/conf.yaml: instances[0].pgbouncer_something: there is nothing like it in check postgres",
    "rabbitmq.d/conf.yaml: instances[0].nodes: there is nothing like it in check rabbitmq",
    "rabbitmq.d/conf.yaml: instances[0].rabbitmq_pass: was a handle of the secret backend: set $MQ, or see "
    "docs/secrets.md",
    "redisdb.d/conf.yaml: instances[0].password: stands in the clear: ${env:…} or ${file:…} keeps it out of the file",
    "redisdb.d/conf.yaml: instances[1].host: holds a template of Autodiscovery; see docs/autodiscovery.md: "
    "the instance is left out",
    "haproxy.yaml: there is no check haproxy here; exec, openmetrics, datadog_check (once its package is installed "
    "here) or a plugin of your own may do it (vedette new-plugin)",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "datadog"
    for name, text in FILES.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def test_what_becomes_of_each_option(folder: Path) -> None:
    moved = move(folder)
    assert sorted(moved.notes) == sorted(NOTES)
    files = {check: content["instances"] for check, content in moved.files.items()}
    first, second = files["postgres"]
    assert first == {
        "name": "db1.internal-5433", "host": "db1.internal", "port": 5433, "username": "datadog",
        "password": "${env:PG_PASSWORD}", "dbname": "shop", "sslmode": "verify-full", "ca_file": "/etc/ssl/ca.pem",
        "relations": [
            {"name": "orders"}, {"name": "users", "schema": "public"}, {"name": "users", "schema": "audit"}, {},
        ],
        "queries": [{
            "name": "shop 1", "sql": "SELECT status, count(*) FROM orders GROUP BY status",
            "columns": [{"name": "status", "type": "tag"}, {"name": "shop.orders.open", "type": "gauge"}],
        }],
        "interval": "30s", "tags": ["env:prod", "team:payments", "service:payments"],
    }  # fmt: skip
    assert second["name"] == "db1.internal-5433-2"
    assert files["redis"] == [{
        "name": "cache.internal-6379", "host": "cache.internal", "port": 6379, "password": "hunter2",
        "keys": ["queue", "backlog"], "command_stats": True, "tls": True, "verify": False, "timeout": "5s",
    }]  # fmt: skip
    assert files["synthetic"] == [{
        "name": "Payments-API", "url": "https://pay.example.com/health", "timeout": "3s", "method": "POST",
        "expect": {"status": ["1xx", "2xx", "3xx"], "regex": '"status": *"ok"', "certificate_days": 14},
        "headers": {"X-Probe": "vedette"}, "verify": True, "ca_file": "/etc/ssl/ca.pem",
    }]  # fmt: skip
    assert files["openmetrics"] == [{
        "name": "ledger-9100", "url": "http://ledger:9100/metrics", "namespace": "ledger",
        "exclude_labels": ["pod_uid"],
        "metrics": {
            "include": [
                "ledger.go_?*", "ledger.http_requests", "ledger.http_requests.*", "ledger.process_cpu_seconds",
                "ledger.process_cpu_seconds.*",
            ],
            "rename": {
                f"ledger.process_cpu_seconds{suffix}": f"ledger.cpu{suffix}"
                for suffix in ("", ".count", ".sum", ".bucket", ".quantile")
            },
        },
    }]  # fmt: skip
    assert files["dns"] == [
        {
            "name": "www.example.org", "hostname": "www.example.org", "nameservers": ["127.0.0.1"],
            "nameserver_port": 5353, "record_type": "MX", "resolves_as": ["10 a", "20 b"], "timeout": "4s",
        },
        {"name": "own", "hostname": "a.b", "timeout": "3s"},
    ]  # fmt: skip
    assert files["process"] == [
        {
            "name": "ssh", "search_string": ["ssh", "sshd"], "exact_match": False, "list_age": "20s",
            "thresholds": {"critical": [1, 7], "warning": [3, 5]}, "procfs_path": "/host/proc",
        },
        {
            "name": "pg", "pid_file": "/run/pg.pid", "user": "postgres", "collect_children": True, "list_age": "20s",
            "procfs_path": "/host/proc",
        },
    ]  # fmt: skip
    assert files["tcp"] == [{"name": "My-Service", "host": "gw", "port": 22, "all_addresses": True}]
    assert files["rabbitmq"] == [{
        "name": "mq1-15672-api", "url": "http://mq1:15672/api/", "username": "dd", "password": "${env:MQ}",
        "verify": False, "vhosts": ["/"], "queues_regex": ["^shop-(.*)"], "tag_families": True, "max_queues": 300,
    }]  # fmt: skip
    assert files["tls"] == [
        {"name": "https.internal", "host": "https.internal", "warning_days": 30, "critical_days": 10}
    ]
    assert files["host"] == [{
        "filesystems": {"exclude": ["tmpfs*"]}, "interfaces": {"exclude": ["lo", "lo0"]}, "connections": True,
    }]  # fmt: skip


def test_the_files_are_valid_and_nothing_is_overwritten(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "redisdb.d" / "conf.yaml").write_text("instances: [{host: a, password: s3cret}]")
    target = tmp_path / "conf.d"
    done = vedette("import", "datadog", folder, "--to", target, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.split() == [f"{target}/{name}.yaml" for name in WRITTEN]
    assert stat.S_IMODE((target / "redis.yaml").stat().st_mode) == 0o640
    configuration = load(target, Registry(), secrets="lazy", environ={"PG_PASSWORD": "x", "MQ": "x"})
    mistakes = [str(one) for one in configuration.problems if "ca.pem" not in str(one)]  # no such file on this machine
    assert mistakes == []
    assert {one.id for one in configuration.instances} >= {"redis/a", "postgres/db1.internal-5433", "host/host"}
    assert import_(Namespace(folder=folder, to=target)) == 1
    again = capsys.readouterr()
    assert again.out == ""
    assert f"{target}/redis.yaml is there already and stays as it is" in again.err
    assert import_(Namespace(folder=folder, to=None)) == 1
    shown = capsys.readouterr()
    printed: list[Any] = [
        yaml.safe_load(part) for part in re.split(r"^# .*$", shown.out, flags=re.MULTILINE) if part.strip()
    ]
    assert len(printed) == len(WRITTEN)


def test_a_folder_without_checks(tmp_path: Path) -> None:
    done = vedette("import", "datadog", tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"vedette: {tmp_path} holds no checks: is it the conf.d of a Datadog Agent, with <check>.d/conf.yaml?\n"
    )


def test_a_datadog_file_in_conf_d_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "redis.yaml").write_text("init_config:\ninstances: [{host: a}]\n")
    done = vedette("validate", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == (
        "conf.d/redis.yaml:1: init_config: unknown key; this is a file of the Datadog Agent: "
        "`vedette import datadog DIR` translates its conf.d\n"
    )


def test_all_processes_are_asked_for_otherwise_here() -> None:
    assert names("nginx") == ["nginx"]
    with pytest.raises(ValueError, match=r"'All' processes: `search_string: \[\.\]` with `exact_match: false`"):
        names(["ssh", "All"])


@pytest.mark.parametrize(
    ("pattern", "codes"),
    [
        (r"(1|2|3)\d\d", ["1xx", "2xx", "3xx"]),
        (r"2\d\d", ["2xx"]),
        ("200", ["200"]),
        (200, ["200"]),
        ("^(200|204)$", ["200", "204"]),
    ],
)
def test_status_codes(pattern: Any, codes: list[str]) -> None:
    assert status_codes(pattern) == codes


def test_a_pattern_that_is_none_of_these_is_said() -> None:
    with pytest.raises(ValueError, match=r"^is a pattern; name the codes, such as \[200, 3xx\]$"):
        status_codes("[23]0[0-4]")


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A conf.d with checks that only their authors have, and a checks.d beside it."""
    files = {
        "conf.d/mine.yaml": "init_config: {proxy: http://proxy}\ninstances:\n"
        "  - {url: 'http://a/${b}', password: 'ENC[mine]', tags: [a:b], min_collection_interval: 30, service: shop}\n"
        "  - {url: 'http://%%host%%/'}\n"
        "  - {name: second, empty_default_hostname: true, nested: [{token: open}]}\n"
        "  - 7\n",
        "conf.d/base.d/conf.yaml": "instances: [{}, {}]\n",
        "conf.d/not-one.yaml": "instances: [{}]\n",
        "checks.d/mine.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_check_whose_code_is_at_hand_runs_as_it_is(others: Path) -> None:
    moved = move(others / "conf.d")
    assert moved.files["datadog_check"]["instances"] == [
        {"name": "base", "module": "datadog_checks.base"},
        {"name": "base-2", "module": "datadog_checks.base"},
        {
            "name": "mine-a",
            "path": str(others / "checks.d" / "mine.py"),
            "interval": "30s",
            "init_config": {"proxy": "http://proxy"},
            "instance": {
                "url": "http://a/$${b}",
                "password": "${env:MINE}",
                "tags": ["a:b"],
                "min_collection_interval": 30,
                "service": "shop",
            },
        },
        {
            "name": "mine-second",
            "path": str(others / "checks.d" / "mine.py"),
            "init_config": {"proxy": "http://proxy"},
            "instance": {"name": "second", "empty_default_hostname": True, "nested": [{"token": "open"}]},
        },
    ]
    assert sorted(moved.notes) == [
        "mine.yaml: instances[0].password: was a handle of the secret backend: set $MINE, or see docs/secrets.md",
        "mine.yaml: instances[1]: holds a template of Autodiscovery; see docs/autodiscovery.md: the instance is left "
        "out",
        "mine.yaml: instances[2].nested[0].token: stands in the clear: ${env:…} or ${file:…} keeps it out of the file",
        "mine.yaml: instances[3]: is not a mapping of options",
        "not-one.yaml: there is no check not-one here; exec, openmetrics, datadog_check (once its package is installed "
        "here) or a plugin of your own may do it (vedette new-plugin)",
    ]


def test_it_is_valid_and_lasts(others: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    vedette("import", "datadog", others / "conf.d", "--to", target, cwd=tmp_path)
    configuration = load(target, Registry(), secrets="lazy", environ={"MINE": "x"})
    assert [str(one) for one in configuration.problems] == []
    mine = {one.config.name: one.config for one in configuration.instances}
    assert (mine["mine-a"].interval, mine["mine-a"].host_bound, mine["mine-second"].host_bound) == (30.0, True, False)


def test_a_check_of_a_datadog_agent_runs_with_its_python(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    python = agent / "embedded" / "bin" / "python3"
    package = agent / "embedded" / "lib" / "python3.13" / "site-packages" / "datadog_checks" / "haproxy"
    for folder in (python.parent, package):
        folder.mkdir(parents=True)
    assert code_of("haproxy", tmp_path / "conf.d", agent) is None
    python.touch()
    (package / "__init__.py").touch()
    found = {"module": "datadog_checks.haproxy", "python": str(python)}
    assert code_of("haproxy", tmp_path / "conf.d", agent) == found
