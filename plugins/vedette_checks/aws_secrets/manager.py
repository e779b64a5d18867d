"""`${aws-sm:name}`, `${aws-sm:name#key}`, `${aws-sm:name#key@version}`: secrets of AWS Secrets Manager.

Source: AWS Secrets Manager API Reference, GetSecretValue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vedette import Diagnosis, Login, SecretError, hookimpl
from vedette_checks.aws import print_policy
from vedette_checks.aws_secrets.doctor import KMS, introduced, secret_grant
from vedette_checks.aws_secrets.options import Kept

_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:\S+")
_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_STAGE = re.compile(r"[A-Za-z0-9_+=.-]{1,256}")
_VERSION_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-zA-Z-]{32,64}")
_SHAPE = "write ${aws-sm:name}, ${aws-sm:name#key} or ${aws-sm:name#key@AWSPREVIOUS}; a name may be an ARN"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A reference, taken apart.

    Attributes:
        secret: name or ARN.
        key: key of a JSON secret; empty for all of it.
        version: staging label or version id; empty for the current one.
    """

    secret: str
    key: str = ""
    version: str = ""

    @property
    def region(self) -> str:
        """That of the ARN; empty with a name."""
        found = _ARN.fullmatch(self.secret)
        return found["region"] if found else ""

    @property
    def parameters(self) -> dict[str, str]:
        """Of the call."""
        given = {"SecretId": self.secret}
        if self.version:
            given["VersionId" if _VERSION_ID.fullmatch(self.version) else "VersionStage"] = self.version
        return given


def parse(reference: str) -> _Wanted | None:
    """The reference taken apart, or None if it is none."""
    secret, hash_, rest = reference.partition("#")
    key, at, version = rest.partition("@")
    if (hash_ and not rest) or (at and not _STAGE.fullmatch(version)):
        return None
    if not _NAME.fullmatch(secret) and not _ARN.fullmatch(secret):
        return None
    return _Wanted(secret, key, version)


class SecretsManager(Kept):
    """Reads secrets of AWS Secrets Manager."""

    name = "aws-sm"
    service = "secretsmanager"
    operation = "GetSecretValue"

    @classmethod
    def objection(cls, reference: str) -> str:
        """See `Resolver`."""
        return "" if parse(reference) else f"not the name of a secret; {_SHAPE}"

    async def resolve(self, reference: str) -> str:
        """See `Resolver`."""
        wanted = parse(reference)
        if wanted is None:
            raise SecretError(self.objection(reference))
        answer = await self.reader.read(f"secret {wanted.secret}", wanted.region, **wanted.parameters)
        return value_of(answer, wanted.secret, wanted.key)

    async def diagnose(self, references: Mapping[str, Sequence[Login]], diagnosis: Diagnosis) -> None:
        """See `Resolver`."""
        wanted = [one for one in map(parse, references) if one is not None]
        async with introduced(self.config, (one.region for one in wanted), diagnosis) as (account, who):
            await super().diagnose(references, diagnosis)
            print_policy([secret_grant((one.secret for one in wanted), who)], account, diagnosis, KMS)


def value_of(answer: dict[str, Any], secret: str, key: str) -> str:
    """The text of a secret, or what stands behind a key of its JSON; a number or boolean as JSON writes it.

    Raises:
        SecretError: it is no text, no JSON object, or has no such key.
    """
    text = answer.get("SecretString")
    if text is None:
        raise SecretError(f"secret {secret}: is binary, not text")
    if not key:
        return str(text)
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise SecretError(f"secret {secret}: is no JSON object, so there is no key '{key}' in it")
    if key not in fields:
        raise SecretError(f"secret {secret}: has no key '{key}'; it has {len(fields)} others")
    value = fields[key]
    return value if isinstance(value, str) else json.dumps(value)


@hookimpl
def register_secrets(register: Callable[[type[SecretsManager]], None]) -> None:
    """Offer the resolver to vedette."""
    register(SecretsManager)
