"""IAM: which action an API call needs, and the smallest policy that allows a list of them.

Source: AWS Service Authorization Reference, "Actions, resources, and condition keys for AWS services".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

_PREFIXES = {"resourcegroupstaggingapi": "tag"}
"""IAM's name of a service where it is not the SDK's."""
_FREE = frozenset({"sts:GetCallerIdentity", "sts:AssumeRoleWithWebIdentity"})
"""Calls that need no permission."""


def action(service: str, operation: str) -> str:
    """The IAM action of an API call: `cloudwatch`, `GetMetricData` → `cloudwatch:GetMetricData`."""
    return f"{_PREFIXES.get(service, service)}:{operation}"


@dataclass(frozen=True, slots=True)
class Grant:
    """One action and what it is needed on.

    Attributes:
        action: such as `sqs:GetQueueAttributes`.
        resources: ARNs; `*` where the action knows no resources.
    """

    action: str
    resources: tuple[str, ...] = ("*",)


def policy(grants: Iterable[Grant]) -> str:
    """The IAM policy document, JSON, that allows exactly these: one statement for each set of resources."""
    statements: dict[tuple[str, ...], set[str]] = {}
    for grant in grants:
        if grant.action not in _FREE:
            statements.setdefault(tuple(sorted(grant.resources)), set()).add(grant.action)
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": sorted(actions),
                    "Resource": resources[0] if len(resources) == 1 else list(resources),
                }
                for resources, actions in sorted(statements.items())
            ],
        },
        indent=2,
    )
