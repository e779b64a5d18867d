"""What `vedette doctor` says of secrets from AWS: who asks, what has a value, and the policy that all of it needs."""

from __future__ import annotations

import asyncio
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from aws import ACCOUNT, REGION, AwsServer
from cli.process import vedette
from vedette import Diagnosis, Login
from vedette.advice import Symptom
from vedette.config import Configuration, load
from vedette.doctor import examine
from vedette.plugins import Registry
from vedette.secrets import Masker
from vedette_checks.aws_secrets.iam import IamPassword
from vedette_checks.aws_secrets.options import AwsSecretsConfig
from vedette_checks.aws_secrets.parameters import ParameterStore

pytestmark = pytest.mark.anyio

ROLE = f"arn:aws:iam::{ACCOUNT}:role/vedette"
HEAD = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
RDS_HOST = "shop.abc123.us-west-2.rds.amazonaws.com"


def write(folder: Path, agent: str, *instances: str) -> None:
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / "conf.d/agent.yaml").write_text(f"sinks: []\n{agent}")
    (folder / "conf.d/redis.yaml").write_text("instances:\n" + "".join(f"  - {one}\n" for one in instances))


async def read(folder: Path, agent: str, *instances: str) -> Configuration:
    write(folder, agent, *instances)
    return await asyncio.to_thread(load, folder / "conf.d", Registry(), environ={})


def policies(symptoms: tuple[Symptom, ...]) -> list[dict[str, list[str]]]:
    """For each document what is allowed on what, by action."""
    found = []
    for symptom in symptoms:
        if symptom.what.startswith("IAM policy") and symptom.snippet:
            allowed: dict[str, list[str]] = {}
            for statement in json.loads(symptom.snippet)["Statement"]:
                on = statement["Resource"]
                allowed |= dict.fromkeys(statement["Action"], [on] if isinstance(on, str) else on)
            found.append(allowed)
    return found


async def test_done_means_4_the_policies_are_what_secrets_really_call(named: AwsServer, tmp_path: Path) -> None:
    with named.making() as client:
        manager, parameters = client("secretsmanager"), client("ssm")
        made = [
            manager.create_secret(Name=name, SecretString=f'{{"password": "{value}", "user": "u"}}')["ARN"]
            for name, value in (("shop/db", "pass-of-shop"), ("shop/cache", "pass-of-cache"), ("other", "of-nobody"))
        ]
        parameters.put_parameter(Name="/shop/password", Value="pass-of-the-store", Type="SecureString")
    configuration = await read(
        tmp_path,
        f"secrets: {{aws: {{role_arn: '{ROLE}'}}}}\n",
        "{name: a, port: 1, username: '${aws-sm:shop/db#user}', password: '${aws-sm:shop/db#password}'}",
        f"{{name: b, host: 127.0.0.1, port: 1, password: '${{aws-sm:{made[1]}#password}}'}}",
        "{name: c, host: 127.0.0.1, port: 1, password: '${aws-ssm:/shop/password:1}'}",
    )
    assert configuration.problems == ()
    loaded = set(named.actions)
    cases = {case.name: case.symptoms for case in await examine(configuration, [])}

    manager_says, store_says = cases["secrets aws-sm"], cases["secrets aws-ssm"]
    assert [(one.what, str(one.grade)) for one in manager_says] == [
        ("credentials", "ok"),
        ("identity", "ok"),
        (f"${{aws-sm:{made[1]}#password}}", "ok"),
        ("${aws-sm:shop/db#password}", "ok"),
        ("${aws-sm:shop/db#user}", "ok"),
        ("IAM policy", "info"),
        ("IAM policy to take on the role", "info"),
    ]
    (reading, base), (reading_too, base_too) = policies(manager_says), policies(store_says)
    assert base == base_too == {"sts:AssumeRole": [ROLE]}
    assert set(reading) | set(reading_too) | set(base) == loaded, "what a load calls"
    assert named.actions - loaded == {"sts:GetCallerIdentity"}, "which needs no permission"
    # By the name in the reference, with AWS' own six characters at the end; just what is read:
    assert reading == {"secretsmanager:GetSecretValue": sorted([made[1], f"{HEAD}shop/db-??????"])}
    allowed = reading["secretsmanager:GetSecretValue"]
    assert [any(fnmatchcase(arn, one) for one in allowed) for arn in made] == [True, True, False]
    assert reading_too == {"ssm:GetParameter": [f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/shop/password"]}
    assert "kms:Decrypt" in next(one.hint for one in manager_says if one.what == "IAM policy")
    assert "pass-of" not in str(cases)


def test_a_secret_that_is_refused_gets_its_policy_though_nothing_can_start(
    named: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with named.making() as client:
        client("secretsmanager").create_secret(Name="plain", SecretString="pass-of-shop")
        client("iam").create_user(UserName="watcher")
        key = client("iam").create_access_key(UserName="watcher")["AccessKey"]
    write(tmp_path, "", "{name: a, host: 127.0.0.1, port: 1, password: '${aws-sm:plain}'}")
    named.demand_permissions(True)
    try:
        done = vedette(
            "doctor",
            "--json",
            cwd=tmp_path,
            AWS_ACCESS_KEY_ID=key["AccessKeyId"],
            AWS_SECRET_ACCESS_KEY=key["SecretAccessKey"],
            AWS_ENDPOINT_URL=named.url,
            AWS_REGION=REGION,
        )
    finally:
        named.demand_permissions(False)
    cases = {case["name"]: case["symptoms"] for case in json.loads(done.stdout)}
    assert done.returncode == 2
    assert list(cases) == ["secrets aws-sm", "agent"]
    lines = {one["what"]: one for one in cases["secrets aws-sm"]}
    assert lines["${aws-sm:plain}"]["grade"] == "failed"
    assert "secretsmanager:GetSecretValue is refused to" in lines["${aws-sm:plain}"]["seen"]
    statement = {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": f"{HEAD}plain-??????"}
    if lines["identity"]["grade"] == "ok":
        assert json.loads(lines["IAM policy"]["snippet"])["Statement"] == [statement]


async def test_without_credentials_the_policy_says_what_is_known(
    named: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    resolver, diagnosis = ParameterStore(AwsSecretsConfig(region=REGION)), Diagnosis()
    arn = f"arn:aws:ssm:eu-west-1:{ACCOUNT}:parameter/there"
    await resolver.diagnose({"plain": (), arn: ()}, diagnosis)
    await resolver.close()
    assert [str(one.grade) for one in diagnosis.symptoms] == ["failed", "failed", "failed", "info"]
    assert policies(tuple(diagnosis.symptoms)) == [
        {"ssm:GetParameter": [f"arn:aws:ssm:{REGION}:*:parameter/plain", arn]}
    ]


def test_the_arn_of_a_secret_is_no_secret() -> None:
    masker = Masker()
    text = f"{HEAD}shop/db-?????? password=hunter2 1:secret:hunter3 arn:aws:iam::1:secret:hunter4"
    assert masker(text) == f"{HEAD}shop/db-?????? password=**** 1:secret:**** arn:aws:iam::1:secret:****"


# --- passwords that are made for each connection ---


async def test_what_a_database_or_a_cache_is_logged_in_to_with(named: AwsServer) -> None:
    cache = "master.shop-cache.abc123.use1.cache.amazonaws.com"
    references = {
        "": (Login("postgresql", RDS_HOST, 5432, "vedette"), Login("redis", cache, 6379, "watcher")),
        "eu-west-1/serverless:shop-store": (Login("redis", "127.0.0.1", 6379, "watcher"),),
        "/elsewhere": (),
    }
    resolver, diagnosis = IamPassword(AwsSecretsConfig()), Diagnosis()
    await resolver.diagnose(references, diagnosis)
    await resolver.close()
    assert [(one.what, str(one.grade)) for one in diagnosis.symptoms[2:-1]] == [
        ("${aws-iam:/elsewhere}", "info"),
        (f"${{aws-iam:}} for vedette at {RDS_HOST}:5432", "ok"),
        (f"${{aws-iam:}} for watcher at {cache}:6379", "ok"),
        ("${aws-iam:eu-west-1/serverless:shop-store} for watcher at 127.0.0.1:6379", "ok"),
    ]
    (symptom,) = [one for one in diagnosis.symptoms if one.what == "IAM policy"]
    statements: list[Any] = json.loads(symptom.snippet)["Statement"]
    assert [(one["Action"], one["Resource"]) for one in statements] == [
        (
            ["elasticache:Connect"],
            [
                f"arn:aws:elasticache:{REGION}:{ACCOUNT}:replicationgroup:shop-cache",
                f"arn:aws:elasticache:{REGION}:{ACCOUNT}:user:watcher",
            ],
        ),
        (
            ["elasticache:Connect"],
            [
                f"arn:aws:elasticache:eu-west-1:{ACCOUNT}:serverlesscache:shop-store",
                f"arn:aws:elasticache:eu-west-1:{ACCOUNT}:user:watcher",
            ],
        ),
        (["rds-db:connect"], f"arn:aws:rds-db:us-west-2:{ACCOUNT}:dbuser:*/vedette"),
    ]
    assert "resource id" in symptom.hint
    assert "X-Amz-Signature" not in str(diagnosis.symptoms)


async def test_doctor_knows_the_logins_from_what_the_instances_did(named: AwsServer, tmp_path: Path) -> None:
    configuration = await read(
        tmp_path, "", "{name: a, host: 127.0.0.1, port: 1, username: v, password: '${aws-iam:/shop-cache}', tls: true}"
    )
    config: Any = configuration.instances[0].config
    (case, _) = await examine(configuration, [])
    assert [str(one.grade) for one in case.symptoms] == ["ok", "ok", "info", "info"]
    await config.password.of(Login("redis", "127.0.0.1", 1, "v"))
    case = next(one for one in await examine(configuration, configuration.instances) if one.name == "secrets aws-iam")
    head = f"arn:aws:elasticache:{REGION}:{ACCOUNT}"
    assert policies(case.symptoms) == [
        {"elasticache:Connect": [f"{head}:replicationgroup:shop-cache", f"{head}:user:v"]}
    ]
