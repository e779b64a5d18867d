"""`password: ${aws-iam:}`: IAM authentication of RDS for PostgreSQL, Aurora and ElastiCache.

The password is a request that is signed but never sent, good for 15 minutes, made anew for each connection.
Source: Amazon RDS User Guide, "Connecting to your DB instance using IAM authentication"; Amazon ElastiCache User Guide,
"Authenticating with IAM"; AWS Signature Version 4, "Query parameters".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from vedette import CheckError, Diagnosis, Login, Resolver, SecretError, hookimpl
from vedette_checks.aws import Account, Grant, Identity, print_policy
from vedette_checks.aws_secrets.doctor import cache_grant, database_grant, introduced
from vedette_checks.aws_secrets.options import AwsSecretsConfig, spoken

GOOD_FOR = 900
"""Seconds that a token may be used to log in."""
_CONNECTION = 11 * 3600.0
"""Seconds: ElastiCache ends a connection 12 hours after it has logged in."""
_KEPT = 300.0
"""Seconds that credentials are used before they are looked for again."""
_REGION = r"[a-z]{2,4}(?:-[a-z]+)+-\d{1,2}"
_REFERENCE = re.compile(rf"(?P<region>{_REGION})?(?:/(?P<name>(?:serverless:)?[A-Za-z0-9.-]+)(?::(?P<port>\d+))?)?")
_RDS = re.compile(rf"\.(?P<region>{_REGION})\.rds\.amazonaws\.com(?:\.cn)?$")
_CACHE = re.compile(r"\.cache\.amazonaws\.com(?:\.cn)?$")
_SERVERLESS = "serverless:"
_RESOURCE_ID = "with the database's resource id (db-… or cluster-…) in place of `*` it is for that database only"


@dataclass(frozen=True, slots=True)
class Target:
    """What a token is for.

    Attributes:
        service: the service's name in signatures.
        host: what is signed as the host: with RDS host and port, with ElastiCache the cache's name.
        query: the request's parameters.
    """

    service: str
    host: str
    query: tuple[tuple[str, str], ...]


def target_of(login: Login, name: str = "", port: str = "") -> Target:
    """What to sign for a login.

    Args:
        login: where the connection goes, and as whom.
        name: host of the database, or name of the cache, where the connection goes by another way.
        port: port of the database, likewise.

    Raises:
        SecretError: the name of the cache is not in that of its host.
    """
    if login.protocol == "postgresql":
        host = f"{name or login.host}:{port or login.port}"
        return Target("rds-db", host, (("Action", "connect"), ("DBUser", login.username)))
    if login.protocol != "redis":
        raise SecretError(f"AWS makes no passwords for {login.protocol}")
    cache, serverless = (name.removeprefix(_SERVERLESS), name.startswith(_SERVERLESS)) if name else _cache(login.host)
    query = [("Action", "connect"), ("User", login.username)]
    if serverless:
        query.insert(1, ("ResourceType", "ServerlessCache"))
    return Target("elasticache", cache.lower(), tuple(query))


def _cache(host: str) -> tuple[str, bool]:
    """The name of the replication group or serverless cache that a host of ElastiCache belongs to.

    With encryption in transit: `master.NAME.abc123.use1.cache.amazonaws.com` (or replica, clustercfg, NAME-001), and
    `NAME-abc123.serverless.use1.cache.amazonaws.com`.
    """
    labels = _CACHE.sub("", host).split(".")
    if _CACHE.search(host) and len(labels) == 3 and labels[1] == "serverless":
        return labels[0].rpartition("-")[0], True
    if _CACHE.search(host) and len(labels) == 4:
        return labels[1], False
    raise SecretError(
        f"the name of the cache is not to be seen from {host}; write ${{aws-iam:/name}}, or "
        "${aws-iam:/serverless:name} for a serverless one"
    )


def sign(target: Target, region: str, credentials: Any) -> str:
    """The token: the URL of the signed request, without its scheme.

    Args:
        target: what it is for.
        region: of the database or cache.
        credentials: `access_key`, `secret_key` and `token`, as botocore has them.
    """
    request = AWSRequest("GET", f"https://{target.host}/", params=dict(target.query))
    SigV4QueryAuth(credentials, target.service, region, expires=GOOD_FOR).add_auth(request)
    return str(request.url).removeprefix("https://")


class IamPassword(Resolver[AwsSecretsConfig]):
    """Makes passwords for IAM authentication."""

    name = "aws-iam"
    on_demand = True
    needs_tls = True
    connection_lasts = _CONNECTION
    refused = (
        "does its policy allow rds-db:connect (elasticache:Connect), has the user IAM authentication (GRANT rds_iam; "
        "authentication mode iam), are region and clock right?"
    )

    def __init__(self, config: AwsSecretsConfig) -> None:
        super().__init__(config)
        self._identity: tuple[Any, str] | None = None
        self._until = 0.0
        self._lock = asyncio.Lock()

    @classmethod
    def objection(cls, reference: str) -> str:
        """See `Resolver`."""
        if _REFERENCE.fullmatch(reference):
            return ""
        return "not a region; write ${aws-iam:}, ${aws-iam:eu-central-1} or ${aws-iam:eu-central-1/host-or-cache}"

    async def mint(self, reference: str, login: Login) -> str:
        """See `Resolver`."""
        wanted = _REFERENCE.fullmatch(reference)
        if wanted is None:
            raise SecretError(self.objection(reference))
        target = target_of(login, wanted["name"] or "", wanted["port"] or "")
        try:
            credentials, default = await self._who()
            region = _named_region(wanted, target) or default
        except CheckError as error:
            raise SecretError(spoken(error)) from None
        if not region:
            raise SecretError("no region is given; write ${aws-iam:eu-central-1}, or set AWS_REGION")
        return sign(target, region, credentials)

    async def diagnose(self, references: Mapping[str, Sequence[Login]], diagnosis: Diagnosis) -> None:
        """See `Resolver`."""
        known = list(_known(references))
        regions = [region for _, _, region in known] or [""]
        async with introduced(self.config, regions, diagnosis) as (account, who):
            await super().diagnose(references, diagnosis)
            grants = [_grant(login, target, region or who.regions[0], who) for login, target, region in known]
            if not grants:
                diagnosis.info("IAM policy", "who logs in to what is known once a connection asks for a password")
                return
            hint = _RESOURCE_ID if any(grant.action == "rds-db:connect" for grant in grants) else ""
            print_policy(grants, account, diagnosis, hint)

    async def _who(self) -> tuple[Any, str]:
        """Credentials and the default region; kept for a while, so that many connections ask for them once.

        Raises:
            CheckError: there are none.
        """
        async with self._lock:
            if self._identity is None or monotonic() >= self._until:
                account = self.config.account()
                try:
                    credentials = await account.credentials()
                    self._identity = credentials, self._region(account)
                finally:
                    await account.close()
                self._until = monotonic() + _KEPT
            return self._identity

    def _region(self, account: Account) -> str:
        try:
            return self.config.region or account.region()
        except CheckError:  # the host or the reference may name one
            return ""


def _known(references: Mapping[str, Sequence[Login]]) -> Iterator[tuple[Login, Target, str]]:
    """Each login, what is signed for it, and the region that the reference or the host names."""
    for reference, logins in references.items():
        wanted = _REFERENCE.fullmatch(reference)
        if wanted is None:
            continue
        for login in logins:
            with suppress(SecretError):  # which asking for the password has told
                target = target_of(login, wanted["name"] or "", wanted["port"] or "")
                yield login, target, _named_region(wanted, target)


def _grant(login: Login, target: Target, region: str, who: Identity) -> Grant:
    if target.service == "rds-db":
        return database_grant(region, login.username, who)
    serverless = ("ResourceType", "ServerlessCache") in target.query
    return cache_grant(region, target.host, login.username, who, serverless=serverless)


def _named_region(wanted: re.Match[str], target: Target) -> str:
    """The region in the reference or in the host's name; empty if there is none."""
    return wanted["region"] or _region_of(target.host)


def _region_of(host: str) -> str:
    """The region in the name of a database's host."""
    found = _RDS.search(host.rpartition(":")[0])
    return found["region"] if found else ""


@hookimpl
def register_secrets(register: Callable[[type[IamPassword]], None]) -> None:
    """Offer the resolver to vedette."""
    register(IamPassword)
