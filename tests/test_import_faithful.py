"""`vedette import datadog`: what is written is valid and means the same, and all that is left out is said."""

from __future__ import annotations

import stat
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette.cli.moving import import_
from vedette.config import load
from vedette.moving import Moved, move
from vedette.moving import datadog as datadog_module
from vedette.moving.foreign import code_of
from vedette.moving.patterns import globs
from vedette.moving.rules import ELSEWHERE, TRANSLATIONS
from vedette.moving.values import seconds, sslmode, status_codes
from vedette.moving.writing import to_yaml
from vedette.plugins import Registry
from vedette.units import parse_duration

OUT = ": the instance is left out"
CLEAR = "stands in the clear: ${env:…} or ${file:…} keeps it out of the file"
TEMPLATE = "holds a template of Autodiscovery; see docs/autodiscovery.md"


def moved_from(folder: Path, **files: str) -> Moved:
    """What becomes of `instances:` of each check, or of a whole file's text."""
    for check, text in files.items():
        (folder / f"{check}.yaml").write_text(text if ":" in text.partition("{")[0] else f"instances: {text}")
    return move(folder)


def instances(moved: Moved, check: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = moved.files.get(check, {"instances": []})["instances"]
    return found


@pytest.mark.parametrize(
    ("check", "instance", "note"),
    [
        ("redisdb", "{host: '%%host%%', port: 6379}", f".host: {TEMPLATE}{OUT}"),
        ("redisdb", "{host: a, password: '%%env_PW%%'}", f".password: {TEMPLATE}{OUT}"),
        ("redisdb", "{url: 'redis://x'}", f": has none of host, unix_socket_path{OUT}"),
        (
            "rabbitmq",
            "{rabbitmq_api_url: 'http://a', prometheus_plugin: {url: 'http://a'}}",
            f".prometheus_plugin: there is nothing like it in check rabbitmq{OUT}",
        ),
        (
            "http_check",
            "{name: a, url: 'http://a', content_match: error, reverse_content_match: true}",
            f".reverse_content_match: there is nothing like it in check synthetic{OUT}",
        ),
        (
            "http_check",
            "{name: a, url: 'http://a', method: post, data: {a: 1}}",
            f".data: there is nothing like it in check synthetic{OUT}",
        ),
        ("http_check", "{name: a, url: 'http://a', headers: {X: ['%%env_X%%']}}", f".headers: {TEMPLATE}{OUT}"),
        ("tls", "{server: a, tls_verify: false}", f".tls_verify: there is nothing like it in check tls{OUT}"),
        ("process", "{name: a, pid: 0}", ": check process would not take it: pid: must be at least 1: left out"),
        (
            "http_check",
            "{name: a, url: 'http://a', content_match: 'a(?!b)'}",
            ": check synthetic would not take it: expect.regex: is no valid pattern (RE2 has no look-around and no "
            "back references): left out",
        ),
        (
            "openmetrics",
            "{openmetrics_endpoint: 'http://a', namespace: x, metrics: ['a+b']}",
            f": names no metric that could be kept, and here all would be{OUT}",
        ),
    ],
)
def test_an_instance_that_would_mean_something_else_is_not_written(
    check: str, instance: str, note: str, tmp_path: Path
) -> None:
    moved = moved_from(tmp_path, **{check: f"[{instance}]"})
    assert moved.notes == [f"{check}.yaml: instances[0]{note}"]
    assert moved.files == {}


@pytest.mark.parametrize(
    ("check", "instance", "made"),
    [
        ("tls", "{server: 'https://a:8443'}", {"host": "a", "port": 8443}),
        ("redisdb", "{unix_socket_path: /r.sock, host: a, port: 1}", {"unix_socket_path": "/r.sock"}),
        ("postgres", "{host: a, port: 1, ssl: 'true', username: 5}", {"sslmode": "require", "username": "5"}),
        (
            "http_check",
            "{name: a, url: 'http://a', days_warning: 9, check_certificate_expiration: false, content_match: x}",
            {"expect": {"regex": "x"}},
        ),
        ("tcp_check", "{name: a, host: 0o17, port: 1, min_collection_interval: 0}", {"host": "0o17"}),
        ("tcp_check", "{name: a, host: a, port: 1, min_collection_interval: 5400}", {"interval": "5400s"}),
    ],
)
def test_what_is_said_in_another_way(check: str, instance: str, made: dict[str, Any], tmp_path: Path) -> None:
    moved = moved_from(tmp_path, **{check: f"[{instance}]"})
    assert moved.notes == []
    (found,) = instances(moved, TRANSLATIONS[check].check)
    assert {key: found[key] for key in made} == made
    assert not {"host", "port"} & set(found) or check != "redisdb"


def test_a_login_in_an_address_goes_where_it_belongs(tmp_path: Path) -> None:
    moved = moved_from(
        tmp_path,
        http_check="[{name: a, url: 'http://u:p%40ss@a/x'}]",
        openmetrics="[{openmetrics_endpoint: 'http://u:s3cr3t@l:9/m', namespace: x, metrics: ['.*']}]",
    )
    assert moved.notes == [
        f"http_check.yaml: instances[0].url: {CLEAR}",
        f"openmetrics.yaml: instances[0].openmetrics_endpoint: {CLEAR}",
    ]
    assert instances(moved, "synthetic") == [
        {"name": "a", "url": "http://a/x", "auth": {"username": "u", "password": "p@ss"}}
    ]
    assert instances(moved, "openmetrics") == [
        {"name": "l-9", "url": "http://l:9/m", "namespace": "x", "username": "u", "password": "s3cr3t"}
    ]


@pytest.mark.parametrize("value", [75, 90, 100, 3700, 90_000, 0.001, 3.333, 12.345, 1234.5, 1e-7, "5", 1e6])
def test_durations_are_read_back_to_the_last_figure(value: float | str) -> None:
    assert parse_duration(seconds(value)) == float(value)


@pytest.mark.parametrize("value", ["abc", True, None, [], -1, 0, float("nan"), float("inf")])
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^is not a number of seconds above 0$"):
        seconds(value)


def test_odd_values_and_files_keep_nothing_else_out(tmp_path: Path) -> None:
    (tmp_path / "tls.d" / "conf.yaml").mkdir(parents=True)
    (tmp_path / "dns_check.yaml").write_text("instances: [{hostname: 2024-13-45}]")
    (tmp_path / "process.yaml").write_text("instances: [{name: x, search_string: &a [*a]}]")
    moved = moved_from(
        tmp_path,
        tcp_check="[{name: a, host: h, port: 1, min_collection_interval: abc}, {name: b, host: h, port: 1, tags: 7},"
        " {name: c, host: h, port: 1, tags: 'env:prod'}, {name: d, host: h, port: 1, tags: [{a: b}, 2024-01-01]}]",
    )
    assert moved.notes == [
        "dns_check.yaml: is not YAML",
        f"process.yaml: instances[0]: is not of the shape that Datadog documents{OUT}",
        "tcp_check.yaml: instances[0].min_collection_interval: is not a number of seconds above 0: left out",
        "tcp_check.yaml: instances[1].tags: is not a list",
        "tcp_check.yaml: instances[2].tags: is not a list",
        "tcp_check.yaml: instances[3].tags[0]: is not text: left out",
        "tls.d/conf.yaml: cannot be read: Is a directory",
    ]
    assert [one["name"] for one in instances(moved, "tcp")] == ["a", "b", "c", "d"]
    assert instances(moved, "tcp")[3]["tags"] == ["2024-01-01"]


@pytest.mark.parametrize(
    ("pattern", "made"),
    [
        ("tmpfs$", ["tmpfs"]),
        ("tmpfs", ["tmpfs*"]),
        ("/$", ["/"]),
        ("/data.*", ["/data*"]),
        ("/var/lib/docker/.+", ["/var/lib/docker/?*"]),
        ("(overlay|squashfs)$", ["overlay", "squashfs"]),
        ("^a$|b[0-9]", ["a", "b[0-9]*"]),
        (r"/mnt/a\.b\d$", ["/mnt/a.b[0-9]"]),
        (r"a\*$", ["a[*]"]),
    ],
)
def test_regular_expressions_as_globs(pattern: str, made: list[str]) -> None:
    assert globs(pattern) == made


@pytest.mark.parametrize("pattern", ["a+", "ab?", "[^a]b", "a{2}", "(a|b)+", "(?!x)y", "a^b", r"\wx", "", "(a", "a$b"])
def test_regular_expressions_that_are_none(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is a regular expression that no pattern here \(a glob\) stands for$"):
        globs(pattern)


def test_disks_and_networks(tmp_path: Path) -> None:
    moved = moved_from(
        tmp_path,
        disk="[{mount_point_include: ['/data.*', '/x+'], device_exclude: ['/dev/loop.*', 'a+'], use_mount: true,"
        " min_collection_interval: 300}, {file_system_exclude: [overlay]}]",
        network="[{excluded_interfaces: [lo], service: s}]",
        cpu="[{}]",
    )
    one = "check host is one for all its parts, so it is not written"
    regular = "is a regular expression that no pattern here (a glob) stands for"
    assert moved.notes == [
        f"disk.yaml: instances[0].mount_point_include: '/x+' {regular}",
        f"disk.yaml: instances[0].device_exclude: 'a+' {regular}",
        "disk.yaml: instances[0].use_mount: there is nothing like it in check host",
        f"disk.yaml: instances[0]: interval: {one}",
        f"disk.yaml: instances[1]: check host is one for all its parts{OUT}",
        f"network.yaml: instances[0]: tags: {one}",
    ]
    assert instances(moved, "host") == [{"devices": {"exclude": ["/dev/loop*"]}, "interfaces": {"exclude": ["lo"]}}]


def test_handles_templates_and_secrets_anywhere(tmp_path: Path) -> None:
    moved = moved_from(
        tmp_path,
        http_check="[{name: a, url: 'http://a', headers: {Authorization: 'ENC[tok]', X-Token: abc, X: 'a${b}'},"
        " tags: ['pod:%%kube_pod_name%%', 'y:${z}']}]",
        rabbitmq="[{rabbitmq_api_url: 'http://a', rabbitmq_pass: guest, vhosts: ['ENC[v]']}]",
    )
    where = "http_check.yaml: instances[0]"
    assert moved.notes == [
        f"{where}.headers.Authorization: was a handle of the secret backend: set $TOK, or see docs/secrets.md",
        f"{where}.headers.X-Token: {CLEAR}",
        f"{where}.tags[0]: {TEMPLATE}: left out",
        f"rabbitmq.yaml: instances[0].rabbitmq_pass: {CLEAR}",
        "rabbitmq.yaml: instances[0].vhosts[0]: was a handle of the secret backend: set $V, or see docs/secrets.md",
    ]
    (made,) = instances(moved, "synthetic")
    assert made["headers"] == {"Authorization": "${env:TOK}", "X-Token": "abc", "X": "a$${b}"}
    assert made["tags"] == ["y:$${z}"]
    assert instances(moved, "rabbitmq")[0]["vhosts"] == ["${env:V}"]


def test_options_that_ask_for_what_is_not_here_are_said(tmp_path: Path) -> None:
    moved = moved_from(
        tmp_path,
        postgres="[{host: a, dbm: true, collect_wal_metrics: true, collect_bloat_metrics: false, relations: "
        "[{relation_name: r, relkind: [r]}], custom_queries: [{metric_prefix: s, query: SELECT 1, tags: [a:b], columns:"
        " [{name: n, type: gauge}]}, {metric_prefix: s, query: SELECT 1, columns: [{name: n, type: monotonic_gauge}]}, "
        "{query: SELECT 1, columns: [{name: n}]}]}]",
    )
    where, missing = "postgres.yaml: instances[0]", "there is nothing like it in"
    assert moved.notes == [
        f"{where}.dbm: {missing} check postgres",
        f"{where}.collect_wal_metrics: {missing} check postgres",
        f"{where}.relations[0].relkind: there is nothing like it here",
        f"{where}.custom_queries[0].tags: {missing} a query here",
        f"{where}.custom_queries[1]: has a column of type monotonic_gauge, which there is none of: left out",
        f"{where}.custom_queries[2]: needs a metric_prefix, since names that begin with 'postgresql.' are the check's "
        "own: left out",
    ]
    (made,) = instances(moved, "postgres")
    assert [one["name"] for one in made["queries"]] == ["s 1"]
    assert made["relations"] == [{"name": "r"}]


def test_families_are_kept_by_their_whole_name(tmp_path: Path) -> None:
    moved = moved_from(
        tmp_path,
        openmetrics="[{openmetrics_endpoint: 'http://a', namespace: n, metrics: [http, {foo: {name: bar, type: gauge}}]"
        ", exclude_metrics: ['^go_']}, {prometheus_url: 'http://b', namespace: m, metrics: ['x_*', y_total]}]",
    )
    assert moved.notes == ["openmetrics.yaml: instances[0].metrics: 'foo': only its name can be changed"]
    first, second = (one["metrics"] for one in instances(moved, "openmetrics"))
    assert first["include"] == ["n.http", "n.http.*", "n.foo", "n.foo.*"]
    assert first["exclude"] == ["n.go_*"]
    assert (first["rename"]["n.foo"], first["rename"]["n.foo.count"]) == ("n.bar", "n.bar.count")
    assert second == {"include": ["m.x_*", "m.y", "m.y.*"]}


def test_files_that_are_no_checks_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = tmp_path / "agent"
    package = agent / "embedded/lib/python3.12/site-packages/datadog_checks/kafka"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (agent / "embedded/bin").mkdir()
    (agent / "embedded/bin/python3").touch()
    monkeypatch.setattr(datadog_module, "code_of", lambda check, folder: code_of(check, folder, agent))
    moved = moved_from(
        tmp_path,
        redisdb="ad_identifiers: [redis]\ninit_config:\ninstances: [{host: a}]",
        python="logs: [{type: file, path: /a}]",
        kafka="init_config: {is_jmx: true}\ninstances: [{host: a, port: 9999}]",
        metrics="jmx_metrics: [{include: {domain: x}}]",
    )
    jmx = "is a JMX check: run Prometheus' JMX exporter beside the program, and check openmetrics reads it"
    assert moved.notes == [
        f"kafka.yaml: {jmx}",
        f"metrics.yaml: {jmx}",
        "python.yaml: logs: check log_file follows files; see its README",
        "redisdb.yaml: is a template of Autodiscovery (ad_identifiers): left out; see docs/autodiscovery.md",
    ]
    assert moved.files == {}


@pytest.mark.parametrize("text", ["1e5", "0o17", "0x1F", "+5", ".inf", "nan", "yes", "1:30", "a: b", "x\ny"])
def test_texts_are_texts_when_they_are_read(text: str, tmp_path: Path) -> None:
    written = to_yaml({"instances": [{"name": "a", "host": "h", "port": 1, "tags": [text]}]})
    (tmp_path / "tcp.yaml").write_text(written)
    configuration = load(tmp_path, Registry(), environ={})
    assert [one.config.tags for one in configuration.instances] == [(text,)]


def test_anchors_are_written_out() -> None:
    same = {"critical": [1, 2]}
    assert to_yaml({"a": same, "b": same}) == "a:\n  critical:\n  - 1\n  - 2\nb:\n  critical:\n  - 1\n  - 2\n"


def test_secrets_are_neither_printed_nor_opened_to_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "dd"
    source.mkdir()
    file = source / "redisdb.yaml"
    file.write_text("instances: [{host: a, password: 'hunter${2}'}]")
    file.chmod(0o600)
    assert import_(Namespace(folder=source, to=None)) == 1
    shown = capsys.readouterr()
    assert "password: '****'" in shown.out
    assert "hunter" not in shown.out + shown.err
    assert shown.err.endswith("secrets are shown as ****; --to FOLDER writes files that have them\n")
    assert import_(Namespace(folder=source, to=tmp_path / "to")) == 1
    made = tmp_path / "to" / "redis.yaml"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert yaml.safe_load(made.read_text())["instances"][0]["password"] == "hunter$${2}"


HINT = "this is a file of the Datadog Agent: `vedette import datadog DIR` translates its conf.d"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("python", "logs: [{type: file}]", "logs: unknown key; " + HINT),
        ("redis", "ad_identifiers: [a]\ninstances: [{host: a, prot: 1}]", "ad_identifiers: unknown key; " + HINT),
        ("kafka", "jmx_metrics: []", "jmx_metrics: unknown key; " + HINT),
        ("http_check", "instances: [{url: 'http://a'}]", "the file's name is no known check; " + HINT),
        (
            "redis",
            "instances: [{host: a, min_collection_interval: 9}]",
            "instances[0].min_collection_interval: unknown option; here it is `interval`; `vedette import datadog DIR` "
            "translates a Datadog Agent's conf.d",
        ),
    ],
)
def test_a_dropped_file_gets_the_hint(name: str, text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.yaml").write_text(text)
    (found,) = load(tmp_path, Registry()).problems
    place = f"{found.path}: " if found.path else ""
    assert f"{place}{found.message}; {found.hint}" == problem


def test_every_check_of_datadog_that_has_another_name_here_is_known_in_our_folder(tmp_path: Path) -> None:
    other = (set(TRANSLATIONS) | set(ELSEWHERE)) - set(Registry().names("checks"))
    for name in other:
        (tmp_path / f"{name}.yaml").write_text("instances: [{}]")
    assert {problem.hint for problem in load(tmp_path, Registry()).problems} == {HINT}


def test_words_of_modes() -> None:
    assert (sslmode("True"), sslmode("false"), sslmode("verify_full")) == ("require", "disable", "verify-full")
    assert status_codes("(2|3)\\d\\d") == ["2xx", "3xx"]
