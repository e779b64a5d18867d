"""For `vedette doctor`: who asks for secrets, and on what it must be allowed to.

Source: AWS Service Authorization Reference, "AWS Secrets Manager", "AWS Systems Manager", "Amazon RDS IAM
Authentication" and "Amazon ElastiCache".
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from vedette import Diagnosis
from vedette_checks.aws import Account, Grant, Identity, identify
from vedette_checks.aws_secrets.options import AwsSecretsConfig

KMS = "what is encrypted under a KMS key of your own needs kms:Decrypt on that key too"
_SUFFIX = re.compile(r"-[A-Za-z0-9]{6}$")


@asynccontextmanager
async def introduced(
    config: AwsSecretsConfig, regions: Iterable[str], diagnosis: Diagnosis
) -> AsyncIterator[tuple[Account, Identity]]:
    """Who asks, said; and whose the resources are, with one region: that of what names none itself.

    Args:
        config: the options.
        regions: of each thing that is asked for; empty where it is the default.
        diagnosis: takes what was found.
    """
    wanted = list(regions)
    place = config.region or ("" if "" in wanted else wanted[0])
    account = config.account()
    try:
        yield account, await identify(account, (place,), diagnosis)
    finally:
        await account.close()


def secret_grant(secrets: Iterable[str], who: Identity) -> Grant:
    """To read secrets, by name or ARN. Secrets Manager ends each ARN in six characters of its own choice."""
    head = f"arn:{who.partition}:secretsmanager:{who.regions[0]}:{who.account}:secret:"
    arns = (secret if secret.startswith("arn:") else f"{head}{secret}-??????" for secret in secrets)
    whole = (arn if _SUFFIX.search(arn) or arn.endswith("?") else f"{arn}-??????" for arn in arns)
    return Grant("secretsmanager:GetSecretValue", tuple(dict.fromkeys(whole)))


def parameter_grant(parameters: Iterable[str], who: Identity) -> Grant:
    """To read parameters, by name or ARN; a version or label is no part of either."""
    head = f"arn:{who.partition}:ssm:{who.regions[0]}:{who.account}:parameter"
    arns = []
    for parameter in parameters:
        before, mark, name = parameter.partition(":parameter/") if parameter.startswith("arn:") else ("", "", parameter)
        path = name.partition(":")[0].removeprefix("/")
        arns.append(f"{before}{mark}{path}" if mark else f"{head}/{path}")
    return Grant("ssm:GetParameter", tuple(dict.fromkeys(arns)))


def database_grant(region: str, username: str, who: Identity) -> Grant:
    """To log in to databases of RDS; which one only its resource id would say, that its host does not tell."""
    return Grant("rds-db:connect", (f"arn:{who.partition}:rds-db:{region}:{who.account}:dbuser:*/{username}",))


def cache_grant(region: str, cache: str, username: str, who: Identity, *, serverless: bool) -> Grant:
    """To log in to a cache of ElastiCache: it is asked for on the cache and on the user."""
    head = f"arn:{who.partition}:elasticache:{region}:{who.account}"
    kind = "serverlesscache" if serverless else "replicationgroup"
    return Grant("elasticache:Connect", (f"{head}:{kind}:{cache}", f"{head}:user:{username}"))
