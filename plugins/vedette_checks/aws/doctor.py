"""What every diagnosis of something at AWS begins and ends with: who calls, and what it must be allowed to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

from vedette import CheckError, Diagnosis
from vedette_checks.aws.account import Account
from vedette_checks.aws.policy import Grant, policy

PATIENCE = 5.0
"""Seconds for one call of a diagnosis."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose resources they are; a part of an ARN that is not known is `*`.

    Attributes:
        regions: where.
        account: number of the account.
        partition: such as `aws` or `aws-cn`.
        known: whether AWS has told.
    """

    regions: tuple[str, ...]
    account: str = "*"
    partition: str = "aws"
    known: bool = False


async def identify(account: Account, places: Sequence[str], diagnosis: Diagnosis) -> Identity:
    """Say where the credentials come from and whose they are.

    Args:
        account: AWS.
        places: the regions to ask; an empty name is the SDK's default.
        diagnosis: takes what was found.
    """
    try:
        await account.open(places[0])
        diagnosis.ok("credentials", await account.source() + (", role taken on" if account.access.role_arn else ""))
        regions = tuple(account.region(one) for one in places)
        who = await account.call("sts", "GetCallerIdentity", regions[0], until=monotonic() + PATIENCE)
    except CheckError as error:
        diagnosis.failed("credentials", error.message, error.hint)
        return Identity(tuple(one or "*" for one in places))
    diagnosis.ok("identity", str(who["Arn"]))
    return Identity(regions, str(who["Account"]), str(who["Arn"]).split(":")[1], known=True)


def print_policy(grants: Iterable[Grant], account: Account, diagnosis: Diagnosis, hint: str = "") -> None:
    """The smallest policy that allows these, and the one to take on the role, if there is one.

    Args:
        grants: what is called.
        account: AWS.
        diagnosis: takes it.
        hint: what to add or to put in place of something.
    """
    diagnosis.info("IAM policy", "the smallest that this configuration needs", hint, policy(grants))
    role = account.access.role_arn
    if role:
        base = policy([Grant("sts:AssumeRole", (role,))])
        diagnosis.info("IAM policy to take on the role", "of the credentials it is taken on with", "", base)
