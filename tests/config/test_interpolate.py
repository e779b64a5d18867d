"""`${…}` references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.parts import SECRET, ProbeConfig, lines, read, write
from vedette.config import Configuration
from vedette.config.interpolate import BadReference, Reference, parse_references


def config(configuration: Configuration, index: int = 0) -> ProbeConfig:
    assert lines(configuration) == []
    options = configuration.instances[index].config
    assert isinstance(options, ProbeConfig)
    return options


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("plain $5 }", ["plain $5 }"]),
        ("${env:A}", [Reference("env", "A")]),
        ("x${env:A:-}y", ["x", Reference("env", "A", ""), "y"]),
        ("${env:A:-b:-c}", [Reference("env", "A", "b:-c")]),
        ("${file:/run/x:y}", [Reference("file", "/run/x:y")]),
        ("${aws-sm:a/b#c}", [Reference("aws-sm", "a/b#c")]),
        ("$${env:A}", ["${", "env:A}"]),
        ("${env:A}${env:B}", [Reference("env", "A"), Reference("env", "B")]),
    ],
)
def test_grammar(text: str, pieces: list[Any]) -> None:
    assert parse_references(text) == pieces


@pytest.mark.parametrize("text", ["${", "${}", "${A}", "${env:}", "${env:A-B}", "${:x}", "${env:A:-${env:B}}"])
def test_malformed(text: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse_references(f"{SECRET}{text}")
    assert SECRET not in str(caught.value)


def test_env_and_file(tmp_path: Path) -> None:
    write(tmp_path, {"keys/pw.txt": f"{SECRET}\n\n"})
    text = (
        "instances:\n  - host: ${env:HOST}\n    port: ${env:PORT}\n    tls: ${env:TLS:-true}\n"
        "    password: ${file:keys/pw.txt}\n    tags: ['a:${env:HOST}', '$${env:HOST}']\n"
    )
    options = config(read(tmp_path, text, environ={"HOST": "db1.internal", "PORT": "8080"}))
    assert (options.host, options.port, options.tls) == ("db1.internal", 8080, True)
    assert options.password is not None
    assert options.password.reveal() == f"{SECRET}\n"  # one newline is stripped, not two
    assert options.tags == ("a:db1.internal", "${env:HOST}")


def test_a_result_is_not_parsed_again(tmp_path: Path) -> None:
    environ = {"A": "${env:B}", "B": "no", "C": "[x, 'y', *z]", "D": "true"}
    text = "instances: [{host: '${env:A}', dsn: 'db://${env:C}', headers: {x: '${env:D}'}}]\n"
    options = config(read(tmp_path, text, environ=environ))
    assert (options.host, options.dsn, options.headers) == ("${env:B}", "db://[x, 'y', *z]", {"x": "true"})


def test_keys_are_left_alone(tmp_path: Path) -> None:
    options = config(read(tmp_path, "instances: [{headers: {'${env:A}': b}}]\n"))
    assert options.headers == {"${env:A}": "b"}


def test_an_empty_variable_takes_the_default(tmp_path: Path) -> None:
    text = "instances: [{host: '${env:A:-fallback}', dsn: 'db://${env:A}'}]\n"
    options = config(read(tmp_path, text, environ={"A": ""}))
    assert (options.host, options.dsn) == ("fallback", "db://")


def test_relative_to_the_yaml_file(tmp_path: Path) -> None:
    write(tmp_path, {"probe.d/pw": "inner\n", "pw": "outer\n"})
    text = "instances: [{password: '${file:pw}'}]\n"
    configuration = read(tmp_path, {"probe.d/a.yaml": text, "probe.yaml": text})
    passwords = {
        i.id: i.config.password.reveal()
        for i in configuration.instances
        if isinstance(i.config, ProbeConfig) and i.config.password
    }
    assert passwords == {"probe/a": "inner", "probe/probe": "outer"}


def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    text = (
        "instances:\n  - password: ${env:PW}\n    port: ${env:PORT}\n  - password: ${file:none}\n"
        "  - password: ${file:folder}\n  - password: ${file:latin}\n  - {}\n"
    )
    configuration = read(tmp_path, text)
    assert lines(configuration) == [
        "probe.yaml:2: instances[0].password: environment variable PW is not set; set it, or write ${env:PW:-default}",
        "probe.yaml:3: instances[0].port: environment variable PORT is not set; set it, or write ${env:PORT:-default}",
        "probe.yaml:4: instances[1].password: file none cannot be read: No such file or directory",
        "probe.yaml:5: instances[2].password: file folder is not a regular file",
        "probe.yaml:6: instances[3].password: file latin is not UTF-8 text",
    ]
    assert [instance.id for instance in configuration.instances] == ["probe/probe-5"]


def test_lazy_goes_on_with_a_warning(tmp_path: Path) -> None:
    text = (
        "instances:\n  - password: ${env:PW}\n    port: ${env:PORT}\n    prot: 1\n"
        "  - port: ${env:PORT}\n    rules: [{key: '${vault:none}', read: '${env:READ}'}]\n"
        "  - password: ${evn:PW}\n"
    )
    configuration = read(tmp_path, text, secrets="lazy")
    unset = "environment variable {0} is not set; set it, or write ${{env:{0}:-default}}"
    assert lines(configuration) == [
        f"probe.yaml:2: instances[0].password: warning: {unset.format('PW')}",
        f"probe.yaml:3: instances[0].port: warning: {unset.format('PORT')}",
        "probe.yaml:4: instances[0].prot: unknown option; did you mean 'port'?",
        f"probe.yaml:5: instances[1].port: warning: {unset.format('PORT')}",
        f"probe.yaml:6: instances[1].rules[0].read: warning: {unset.format('READ')}",
        "probe.yaml:7: instances[2].password: a reference of an unknown kind; did you mean 'env'?",
    ]


def test_lazy_counts_an_instance_whose_port_is_not_known_yet(tmp_path: Path) -> None:
    configuration = read(tmp_path, "instances: [{port: '${env:PORT}'}]\n", secrets="lazy")
    assert [instance.id for instance in configuration.instances] == ["probe/probe"]
    configuration = read(tmp_path, "instances: [{port: '${env:PORT}'}]\n", secrets="resolve")
    assert configuration.instances == ()


def test_resolver_plugins(tmp_path: Path) -> None:
    text = (
        "instances:\n  - password: ${vault:ok}\n  - password: ${vault:none}\n  - password: ${vault:sick}\n"
        "  - password: ${vault:bug}\n"
    )
    configuration = read(tmp_path, text)
    assert lines(configuration) == [
        "probe.yaml:3: instances[1].password: vault: there is no such secret",
        "probe.yaml:4: instances[2].password: 'vault' did not answer with text",
        "probe.yaml:5: instances[3].password: 'vault' failed (RuntimeError)",
    ]
    [instance] = configuration.instances
    assert instance.content["password"] == f"{SECRET}-from-ok"
    assert configuration.masker(f"it is {SECRET}-from-ok") == "it is ****"


@pytest.mark.parametrize(
    ("option", "value", "masked"),
    [
        ("password", "abcd", True),  # short, but in a Secret
        ("host", "abcd", False),
        ("host", "abcdef", True),
        ("port", "12345", False),
        ("target", "1234567", False),
        ("password", "1234567", True),
    ],
)
def test_what_joins_the_mask_list(tmp_path: Path, option: str, value: str, masked: bool) -> None:
    configuration = read(tmp_path, f"instances: [{{{option}: '${{env:V}}'}}]\n", environ={"V": value})
    assert lines(configuration) == []
    assert configuration.masker(f"said {value} twice") == ("said **** twice" if masked else f"said {value} twice")


def test_secrets_written_down_are_masked_and_defaults_are_not(tmp_path: Path) -> None:
    text = f"instances: [{{password: {SECRET}, dsn: 'db://${{env:V:-fallback}}'}}]\n"
    configuration = read(tmp_path, text)
    assert configuration.masker(f"{SECRET} fallback") == "**** fallback"
    assert SECRET not in repr(configuration)


def test_agent_yaml_and_alerts(tmp_path: Path) -> None:
    files = {
        "agent.yaml": "hostname: ${env:NODE}\nsinks: [{type: file, path: x, token: '${env:T}'}]\n",
        "alerts.yaml": "heartbeat: {url: '${env:BEAT}', every: 1m}\n",
        "probe.yaml": "instances: [{}]\nalerts: [{name: '${env:UNSET}', when: no data for 1m}]\n",
    }
    configuration = read(tmp_path, files, environ={"NODE": "node-7", "T": SECRET, "BEAT": "https://beat/xyz"})
    assert configuration.agent.hostname == "node-7"
    assert configuration.masker("https://beat/xyz") == "****"
    assert configuration.rulebook is not None
    assert [rule.name for rule in configuration.rulebook.rules] == ["${env:UNSET}"]
    assert configuration.masker(SECRET) == "****"
    assert lines(configuration) == []
