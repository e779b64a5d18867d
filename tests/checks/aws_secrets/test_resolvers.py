"""`${aws-sm:…}` and `${aws-ssm:…}` in YAML files, against moto."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aws import REGION, AwsServer
from vedette.config import Configuration, load
from vedette.config.vault import Vault
from vedette.plugins import Registry
from vedette_checks.aws_secrets.manager import parse, value_of

PASSWORD = "s3cr3t-of-the-shop"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "agent.yaml").write_text("sinks: []\n")
    return tmp_path


@pytest.fixture
def shop(named: AwsServer) -> AwsServer:
    """AWS with a few secrets."""
    with named.making() as client:
        manager, parameters = client("secretsmanager"), client("ssm")
        manager.create_secret(
            Name="shop/db", SecretString=json.dumps({"password": PASSWORD, "port": 5433, "tls": True})
        )
        manager.create_secret(Name="plain", SecretString="old")
        manager.put_secret_value(SecretId="plain", SecretString="new")
        manager.create_secret(Name="picture", SecretBinary=b"\x00\x01")
        parameters.put_parameter(Name="/shop/cache/password", Value="from-the-store", Type="SecureString")
    return named


def read(conf: Path, *instances: str, **options: object) -> Configuration:
    (conf / "redis.yaml").write_text("instances:\n" + "".join(f"  - {one}\n" for one in instances))
    return load(conf, Registry(), environ={}, **options)  # type: ignore[arg-type]


def lines(configuration: Configuration, conf: Path) -> list[str]:
    return [str(problem).removeprefix(f"{conf}/") for problem in configuration.problems]


def test_values_of_every_kind_with_one_call_for_each_secret(shop: AwsServer, conf: Path) -> None:
    with shop.making() as client:
        arn = client("secretsmanager").describe_secret(SecretId="shop/db")["ARN"]
    configuration = read(
        conf,
        "{name: a, password: '${aws-sm:shop/db#password}', port: '${aws-sm:shop/db#port}', "
        "tls: '${aws-sm:shop/db#tls}'}",
        "{name: b, host: '${aws-sm:plain}.example.org', username: '${aws-sm:plain#@AWSPREVIOUS}', password: x-y-z}",
        "{name: c, password: '${aws-ssm:/shop/cache/password}'}",
        f"{{name: d, password: '${{aws-sm:{arn}#password}}'}}",
        *(f"{{name: e{n}, password: '${{aws-sm:shop/db#password}}'}}" for n in range(20)),
    )
    assert lines(configuration, conf) == []
    a, b, c, d, *others = [instance.config for instance in configuration.instances]
    assert (a.password.reveal(), a.port, a.tls) == (PASSWORD, 5433, True)
    assert (b.host, b.username) == ("new.example.org", "old")
    assert c.password.reveal() == "from-the-store"
    assert d.password.reveal() == PASSWORD
    assert {one.password.reveal() for one in others} == {PASSWORD}
    # Of one secret by name and by ARN, of the other two versions:
    assert shop.counts == {"secretsmanager:GetSecretValue": 4, "ssm:GetParameter": 1}
    assert configuration.masker(f"{PASSWORD} from-the-store") == "**** ****"


def test_answers_are_kept_over_reloads_until_their_time_is_over(shop: AwsServer, conf: Path) -> None:
    now = [1000.0]
    vault = Vault(lambda: now[0])
    (conf / "agent.yaml").write_text("sinks: []\nsecrets: {aws: {refresh: 60s}}\n")
    text = "{password: '${aws-sm:plain}', username: x}"
    for seconds, calls in ((0, 1), (59.9, 1), (0.2, 2), (0, 2)):
        now[0] += seconds
        configuration = read(conf, text, vault=vault)
        assert configuration.instances[0].config.password.reveal() == "new"
        assert shop.counts["secretsmanager:GetSecretValue"] == calls
    assert read(conf, "{}", vault=vault).vault.next_due == float("inf")  # what nobody names is not asked for again


def test_what_is_wrong_is_one_line_with_its_place(shop: AwsServer, conf: Path) -> None:
    configuration = read(
        conf,
        "{name: a, password: '${aws-sm:shop/nothing}'}",
        "{name: b, password: '${aws-sm:shop/db#pass}'}",
        "{name: c, password: '${aws-sm:plain#key}'}",
        "{name: d, password: '${aws-sm:picture}'}",
        "{name: e, password: '${aws-ssm:/nothing}'}",
        "{name: f, password: '${aws-sm:}'}",
        "{name: g, password: '${aws-ssm:a b}'}",
        "{name: h}",
    )
    found = lines(configuration, conf)
    assert found[0].startswith(
        f"redis.yaml:2: instances[0].password: secret shop/nothing: {REGION}: secretsmanager:GetSecretValue: there is "
        "none of that name"
    )
    assert found[1:4] == [
        "redis.yaml:3: instances[1].password: secret shop/db: has no key 'pass'; it has 3 others",
        "redis.yaml:4: instances[2].password: secret plain: is no JSON object, so there is no key 'key' in it",
        "redis.yaml:5: instances[3].password: secret picture: is binary, not text",
    ]
    assert found[4].startswith(
        f"redis.yaml:6: instances[4].password: parameter /nothing: {REGION}: ssm:GetParameter: there is none of that "
        "name"
    )
    assert [line.partition(": not ")[0] for line in found[5:]] == [
        "redis.yaml:7: instances[5].password",
        "redis.yaml:8: instances[6].password",
    ]
    assert [instance.id for instance in configuration.instances] == ["redis/h"]


def test_a_refusal_names_the_action(shop: AwsServer, conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop.making() as client:
        client("iam").create_user(UserName="watcher")
        key = client("iam").create_access_key(UserName="watcher")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    shop.demand_permissions(True)
    try:
        (problem,) = lines(read(conf, "{password: '${aws-sm:plain}'}"), conf)
    finally:
        shop.demand_permissions(False)
    assert problem == (
        f"redis.yaml:2: instances[0].password: secret plain: {REGION}: secretsmanager:GetSecretValue is refused to "
        "arn:aws:iam::123456789012:user/watcher; allow secretsmanager:GetSecretValue; `vedette doctor` prints the "
        "smallest policy"
    )


def test_validate_asks_nobody_and_still_sees_what_is_malformed(shop: AwsServer, conf: Path) -> None:
    texts = ("{name: a, password: '${aws-sm:plain}'}", "{name: b, password: '${aws-sm:a b}'}")
    configuration = read(conf, *texts, secrets="lazy")
    assert shop.calls == []
    assert [line.partition(";")[0] for line in lines(configuration, conf)] == [
        "redis.yaml:3: instances[1].password: not the name of a secret"
    ]
    assert [instance.id for instance in configuration.instances] == ["redis/a"]


def test_options_in_agent_yaml(shop: AwsServer, conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")
    store = f"aws-ssm: {{endpoint_url: '{shop.url}', region: {REGION}}}"
    text = f"secrets:\n  aws: {{endpoint_url: '{shop.url}'}}\n  {store}\n"
    (conf / "agent.yaml").write_text(f"sinks: []\n{text}")
    configuration = read(
        conf, "{name: a, password: '${aws-ssm:/shop/cache/password}'}", "{name: b, password: '${aws-sm:plain}'}"
    )
    assert [instance.id for instance in configuration.instances] == ["redis/a"]
    (problem,) = lines(configuration, conf)
    assert "secret plain: no region is given; set `region`" in problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{awz: {}}", "3: secrets.awz: no resolver has this name; did you mean 'aws'?"),
        ("{aws: {regoin: x}}", "3: secrets.aws.regoin: unknown option; did you mean 'region'?"),
        ("{aws: {region: Frankfurt}}", "3: secrets.aws.region: is not the name of a region, such as eu-central-1"),
        ("{aws: 5}", "3: secrets.aws: must be a mapping of options"),
        ("[aws]", "3: secrets: must be a mapping of resolvers to their options"),
        ("{aws: {profile: '${aws-sm:plain}'}}", "3: secrets.aws.profile: only ${env:…} and ${file:…} work here"),
    ],
)
def test_options_that_are_wrong(conf: Path, text: str, problem: str) -> None:
    (conf / "agent.yaml").write_text(f"sinks: []\n\nsecrets: {text}\n")
    found = lines(read(conf, "{}", secrets="lazy", thorough=True), conf)
    assert found == [f"agent.yaml:{problem}"]


def test_a_missing_extra_says_what_to_install(conf: Path) -> None:
    (conf / "redis.yaml").write_text("instances: [{password: '${aws-sm:plain}'}]\n")
    code = (
        "import sys; sys.modules['aiobotocore'] = sys.modules['botocore'] = None; "
        f"from vedette.cli import main; sys.exit(main(['validate', '--conf', {str(conf)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.splitlines()[0].endswith(": pip install 'vedette[aws]'")
    assert "redis.yaml:1: instances[0].password: aws-sm (of vedette) needs " in done.stderr


def test_nobody_loads_the_sdk_who_names_no_aws(conf: Path) -> None:
    (conf / "redis.yaml").write_text("instances: [{password: '${env:X:-y}'}]\n")
    (conf / "agent.yaml").write_text("sinks: []\nsecrets: {}\n")
    code = (
        "import sys; from vedette.cli import main; "
        f"assert main(['validate', '--conf', {str(conf)!r}]) == 0; "
        "sys.exit(any(name.partition('.')[0] in ('botocore', 'aiobotocore', 'boto3') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("shop/db", ("shop/db", "", "")),
        ("shop/db#a.b", ("shop/db", "a.b", "")),
        ("shop/db#key@AWSPENDING", ("shop/db", "key", "AWSPENDING")),
        ("who@example.org", ("who@example.org", "", "")),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/b-XyZ#k",
         ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/b-XyZ", "k", "")),
    ],
)  # fmt: skip
def test_references(reference: str, parts: tuple[str, str, str]) -> None:
    found = parse(reference)
    assert found is not None
    assert (found.secret, found.key, found.version) == parts


@pytest.mark.parametrize("reference", ["", "#key", "a b", "a#", "a#k@", "a#k@b c", "arn:aws:s3:::x"])
def test_no_references(reference: str) -> None:
    assert parse(reference) is None


def test_versions_by_id_and_the_region_of_an_arn() -> None:
    found = parse("arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-XyZ#k@EXAMPLE1-90ab-cdef-fedc-ba987EXAMPLE")
    assert found is not None
    assert found.region == "eu-west-1"
    assert found.parameters["VersionId"] == "EXAMPLE1-90ab-cdef-fedc-ba987EXAMPLE"
    assert parse("a#k@mine").parameters == {"SecretId": "a", "VersionStage": "mine"}  # type: ignore[union-attr]


def test_numbers_of_json_keep_their_digits() -> None:
    secret = {"SecretString": '{"a": 12345678901234567890, "b": null}'}
    assert [value_of(secret, "s", key) for key in "ab"] == ["12345678901234567890", "null"]
