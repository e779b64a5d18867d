"""`vedette bundle`: secrets planted everywhere, and not one of them in any byte of the archive."""

from __future__ import annotations

import gzip
import stat
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from cli.process import vedette
from servers import RedisServer, free_port, valkey9
from vedette.config import load
from vedette.doctor.masking import Veil
from vedette.doctor.written import Text, read_all
from vedette.plugins import Registry

PLANTED = {
    "option": "wonder-option", "dsn": "p@ss/dsn", "url": "wonder-url", "env": "wonder-env", "short env": "q7x",
    "number": "48151623", "file": "wonder-file", "default": "wonder-default", "comment": "wonder-comment",
    "tag": "wonder-tag", "header": "wonder-header", "body": "wonder-body", "variable": "wonder-variable",
    "agent": "wonder-agent", "unread": "wonder-unread", "log": "wonder-log", "sink": "wonder-sink",
    "nested": "wonder-nested", "tail": "wonder-tail",
}  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> dict[str, str]:
    """The archive's texts by name, of a configuration full of secrets."""
    conf = tmp_path / "conf.d"
    conf.mkdir()
    server = RedisServer(valkey9(), tmp_path / "redis", requirepass=PLANTED["option"])
    server.start()
    (conf / "pw").write_text(PLANTED["file"] + "\n")
    (conf / "agent.yaml").write_text(
        f"""
tags: ["token:{PLANTED["agent"]}", "pin:${{env:PIN}}"]
sinks:
  - {{type: prometheus, listen: "127.0.0.1:{free_port()}", username: u, password: {PLANTED["sink"]}}}
"""
    )
    (conf / "redis.yaml").write_text(
        f"""
# the old password was {PLANTED["comment"]}
defaults: {{timeout: 2s}}
instances:
  - {{name: a, host: 127.0.0.1, port: {server.port}, password: {PLANTED["option"]}}}  # {PLANTED["comment"]}
  - {{name: b, url: "redis://u:{PLANTED["url"]}@127.0.0.1:{free_port()}/0", tags: ["owner:${{env:OWNER}}"]}}
  - {{name: c, port: {free_port()}, password: "${{file:pw}}", tags: ["x:{PLANTED["option"]}"]}}
  - {{name: d, port: {free_port()}, password: "${{env:UNSET:-{PLANTED["default"]}}}"}}
  - {{name: e, url: "redis://u:${{env:SHORT}}{PLANTED["tail"]}@127.0.0.1:{free_port()}/0"}}
  - {{name: "f-${{env:LONG}}", port: {free_port()}, password: "${{env:LONG}}"}}
"""
    )
    (conf / "postgres.yaml").write_text(
        f"""
instances:
  - dsn: postgresql://vedette:{quote(PLANTED["dsn"], safe="")}@127.0.0.1:{free_port()}/payments
    tags: ["secret={PLANTED["tag"]}"]
"""
    )
    (conf / "synthetic.yaml").write_text(
        f"""
instances:
  - base_url: http://127.0.0.1:{free_port()}
    variables: {{api_key: {PLANTED["variable"]}}}
    steps:
      - name: login
        request: POST /login
        headers: {{Authorization: "Bearer {PLANTED["header"]}"}}
        json: {{password: {PLANTED["body"]}, credentials: {{inner: {PLANTED["nested"]}}}}}
"""
    )
    (conf / "broken.yaml").write_text(f"instances: [{{password: {PLANTED['unread']}\n")
    (tmp_path / "agent.log").write_text(f"logged in with {PLANTED['file']} and password={PLANTED['log']}\n")
    try:
        done = vedette(
            "bundle", "--conf", "conf.d", "-o", "b.tar.gz", "--log", "agent.log", cwd=tmp_path, timeout=120,
            SHORT=PLANTED["short env"], LONG=PLANTED["env"], PIN=PLANTED["number"], OWNER=PLANTED["short env"],
        )  # fmt: skip
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("b.tar.gz: ")
    path = tmp_path / "b.tar.gz"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    plain = gzip.decompress(path.read_bytes())
    for what, value in PLANTED.items():
        for form in {value, quote(value, safe="")}:
            assert form.encode() not in plain, f"{what}: …{plain[plain.index(form.encode()) - 200 :][:300]!r}"
            assert form not in done.stdout + done.stderr
    with tarfile.open(path) as opened:
        found = {}
        for entry in opened:
            stream = opened.extractfile(entry)
            assert stream is not None
            found[entry.name.removeprefix("vedette-bundle/")] = stream.read().decode()
        return found


def test_no_secret_gets_into_the_archive_and_what_helps_does(archive: dict[str, str]) -> None:
    assert list(archive) == [
        "README.txt", "configuration/agent.yaml", "configuration/broken.yaml", "configuration/postgres.yaml",
        "configuration/redis.yaml", "configuration/synthetic.yaml", "effective.yaml", "environment.txt",
        "versions.txt", "machine.txt", "doctor.txt", "validate.txt", "log.txt",
    ]  # fmt: skip
    redis = archive["configuration/redis.yaml"]
    assert "password: '****'" in redis
    assert "url: redis://u:****@127.0.0.1:" in redis
    assert "password: ${file:pw}" in redis
    assert "password: ${env:UNSET:-****}" in redis
    assert "owner:${env:OWNER}" in redis
    assert "name: f-${env:LONG}" in redis
    assert archive["configuration/broken.yaml"].startswith("# it cannot be read as YAML")
    effective = archive["effective.yaml"]
    assert "timeout: 2.0" in effective
    assert "password: ${file:pw}" in effective
    assert "slowlog: null" in effective
    assert "conf.d/redis.yaml:5: instances[0].password" in archive["README.txt"]
    assert archive["environment.txt"] == "LONG: set\nOWNER: set\nPIN: set\nSHORT: set\nUNSET: not set\n"
    assert "pydantic " in archive["versions.txt"]
    assert "vedette 0.1.0" in archive["versions.txt"]
    assert "MemTotal" in archive["machine.txt"]
    assert "RLIMIT_NOFILE" in archive["machine.txt"]
    assert "redis/a" in archive["doctor.txt"]
    assert "as the user default" in archive["doctor.txt"]
    assert "conf.d/broken.yaml" in archive["validate.txt"]
    assert archive["log.txt"] == "logged in with **** and password=****\n"


def test_an_archive_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "host.yaml").write_text("instances: [{}]")
    (tmp_path / "there").write_text("mine")
    done = vedette("bundle", "-o", "there", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "vedette: File exists: there\n")
    assert (tmp_path / "there").read_text() == "mine"


def test_references_stay_and_what_stands_beside_them_is_masked(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text("instances: [{}]")
    veil = Veil(load(tmp_path, Registry()), read_all(tmp_path))
    for written, shown in {
        "redis://u:${env:PW}@h": "redis://u:${env:PW}@h",
        "redis://u:${env:PW}more@h": "redis://u:****@h",
        "redis://u:plain@${env:HOST}": "redis://u:****@${env:HOST}",
        "password=${file:x}": "password=${file:x}",
        "password=abc${file:x}": "password=****",
        "${env:A:-b}": "${env:A:-****}",
        "nothing": "nothing",
    }.items():
        assert veil.value(Text("f", 1, "p", "option", written)) == shown
