"""AWS for the siblings that need it: options, credentials, calls that say what was refused, and who may call what.

No check of its own. Whoever imports it imports the SDK, which is why nothing does until a configuration names AWS.
"""

from __future__ import annotations

from vedette_checks.aws.account import Account
from vedette_checks.aws.doctor import Identity, identify, print_policy
from vedette_checks.aws.findings import Absent, Refused, Throttled, Unreachable
from vedette_checks.aws.options import Access, AwsConfig
from vedette_checks.aws.policy import Grant, policy

__all__ = [
    "Absent", "Access", "Account", "AwsConfig", "Grant", "Identity", "Refused", "Throttled", "Unreachable", "identify",
    "policy", "print_policy",
]  # fmt: skip
