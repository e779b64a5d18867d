"""What AWS, or the way to it, has against a call: one sentence with the call, the region and the IAM action.

Source: AWS General Reference, "Common errors"; the query and JSON protocols name some of them differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from vedette import CheckError
from vedette.kit import cut_text

_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "NotAuthorized",
        "UnauthorizedOperation",
    }
)
_UNKNOWN_KEY = frozenset(
    {"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClient", "UnrecognizedClientException"}
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_INVALID = frozenset(
    {
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "MissingParameter",
        "ValidationError",
        "ValidationException",
    }
)
_SIGNATURE = frozenset(
    {
        "IncompleteSignature",
        "InvalidSignature",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_ABSENT = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "ParameterNotFound",
        "ParameterVersionNotFound",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
_MOST_SKEW = 240.0
"""Seconds: AWS takes requests of up to five minutes."""
_ACTION = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
_PRINCIPAL = re.compile(r"\b(arn:aws[\w-]*:(?:iam|sts)::\d+:[\w+=,.@/-]+)")
_BOUNDARY = re.compile(r"explicit deny in an? ([\w -]+?)(?:$|[:.])")
_SERVER_TROUBLE = 500
_OTHER = "what is at `endpoint_url`, or on the way (a proxy)?"


class Throttled(CheckError):
    """AWS asks to be called less often; the next run goes on."""


class Refused(CheckError):
    """The call needs a permission that is not there."""


class Absent(CheckError):
    """What the call is about does not exist."""


class Unreachable(CheckError):
    """There is no talking to the endpoint now."""


class Invalid(CheckError):
    """AWS does not take the parameters."""


def temporary(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(error, sdk.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _code(error) in _THROTTLED or status >= _SERVER_TROUBLE or status == 429
    return isinstance(error, sdk.ConnectionClosedError | sdk.ReadTimeoutError | sdk.ConnectTimeoutError)


def unanswered(error: BaseException) -> bool:
    """Whether the request was sent and no answer came: AWS may well have worked on it, and may charge for it."""
    return isinstance(error, TimeoutError | sdk.ConnectionClosedError | sdk.ReadTimeoutError)


def finding(error: BaseException, call: str, region: str, now: float, regions: Sequence[str] = ()) -> CheckError:
    """The sentence for what an attempt to call AWS raised.

    Args:
        error: the SDK's.
        call: the IAM action of the call, such as `cloudwatch:GetMetricData`.
        region: where it was sent.
        now: Unix seconds, to measure the clock against the answer's date.
        regions: the names of all regions, where the endpoint cannot be reached.
    """
    where = f"{region}: {call}" if region else call
    if isinstance(error, CheckError):
        return error
    if isinstance(error, sdk.ClientError):
        return _refused(error, call, where, now)
    if isinstance(error, sdk.EndpointConnectionError | sdk.ConnectTimeoutError | sdk.SSLError | sdk.HTTPClientError):
        return _unreachable(error, where, region, regions)
    return _unready(error, where)


def _code(error: Any) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code.rpartition("#")[2].partition(":")[0]


def _refused(error: Any, call: str, where: str, now: float) -> CheckError:
    code, said = _code(error), str(error.response.get("Error", {}).get("Message", ""))
    if code in _DENIED:
        return _not_allowed(said, call, where)
    if code in _UNKNOWN_KEY:
        return CheckError(
            f"{where}: AWS does not know the access key",
            hint="is it deleted or inactive, or of another partition? `aws sts get-caller-identity` asks the same",
        )
    if code in _EXPIRED:
        return CheckError(
            f"{where}: the session token has expired", hint="renew it, such as with `aws sso login`, or use a role"
        )
    if code in _SIGNATURE:
        return _wrongly_signed(error.response, where, now)
    if code in _THROTTLED:
        return Throttled(f"{where}: throttled by AWS", hint="the next run goes on; ask less often, or for less at once")
    if code in _ABSENT:
        return Absent(f"{where}: there is none of that name", hint="check the name, the region and the account")
    if code == "OptInRequired":
        return CheckError(f"{where}: the account is not signed up for the service", hint="sign up, or leave it out")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= _SERVER_TROUBLE:
        return Unreachable(f"{where}: AWS answers {status} {code}".rstrip(), hint="the next run tries again")
    kind = Invalid if code in _INVALID else CheckError
    return kind(f"{where}: {code or status}: {_short(said)}".removesuffix(": "))


def _not_allowed(said: str, call: str, where: str) -> Refused:
    named = _ACTION.search(said)
    action, principal = (named[1] if named else call), _PRINCIPAL.search(said)
    who = f" to {principal[1]}" if principal else ""
    deny = _BOUNDARY.search(said)
    why = f" by an explicit deny in a {deny[1]}" if deny else ""
    what = "" if action == call else f": {action}"
    if call == "sts:AssumeRole":
        hint = "its own policy must allow sts:AssumeRole on the role, and the role's trust policy name it and the "
        return Refused(f"{where} is refused{who}{what}{why}", hint=hint + "external_id, if it demands one")
    return Refused(
        f"{where} is refused{who}{what}{why}", hint=f"allow {action}; `vedette doctor` prints the smallest policy"
    )


def _wrongly_signed(response: Mapping[str, Any], where: str, now: float) -> CheckError:
    skew = _skew(response, now)
    if skew is not None and abs(skew) > _MOST_SKEW:
        side = "behind" if skew > 0 else "ahead of"
        return CheckError(
            f"{where}: the clock of this machine is {abs(skew):.0f} s {side} that of AWS",
            hint="AWS refuses signatures that are five minutes off: set the clock, by NTP or chrony",
        )
    return CheckError(
        f"{where}: AWS refuses the signature", hint="the secret access key does not belong to the access key"
    )


def _skew(response: Mapping[str, Any], now: float) -> float | None:
    """How many seconds the answer's date is ahead of this machine's clock."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(date).timestamp() - now if date else None
    except ValueError:
        return None


def _unreachable(error: BaseException, where: str, region: str, regions: Sequence[str]) -> CheckError:
    if regions and region not in regions:
        close = get_close_matches(region, regions, 1)
        hint = f"did you mean {close[0]}?" if close else "`aws ec2 describe-regions` lists them"
        return Unreachable(f"{where}: there is no region {region}", hint=hint)
    endpoint = str(getattr(error, "kwargs", {}).get("endpoint_url") or "").partition("?")[0]
    to = f" to {endpoint}" if endpoint.startswith("http") else ""
    reason = {
        sdk.ConnectTimeoutError: "connecting took too long",
        sdk.ReadTimeoutError: "no answer in time",
        sdk.ConnectionClosedError: "the connection was closed without an answer",
        sdk.SSLError: "TLS failed",
        sdk.ProxyConnectionError: "the proxy cannot be reached",
    }
    why = next((text for kind, text in reason.items() if isinstance(error, kind)), "no connection")
    return Unreachable(f"{where}: {why}{to}", hint="is the region right, and is there a way to it (route, proxy, DNS)?")


def _unready(error: BaseException, where: str) -> CheckError:
    """What the SDK has against its own environment, before anything was sent."""
    details: Mapping[str, Any] = getattr(error, "kwargs", {})
    if isinstance(error, sdk.NoCredentialsError):
        return no_credentials()
    if isinstance(error, sdk.NoRegionError):
        return CheckError("no region is given", hint="set `region`, AWS_REGION or the profile's region")
    if isinstance(error, sdk.ProfileNotFound):
        hint = "`aws configure list-profiles` lists them; AWS_CONFIG_FILE names another file"
        return CheckError(f"there is no profile {details.get('profile', '')} in the SDK's files".strip(), hint=hint)
    if isinstance(error, sdk.PartialCredentialsError):
        return CheckError(f"half of the credentials is missing: {details.get('cred_var', '')}", hint="set both of them")
    if isinstance(error, sdk.ConfigParseError):
        return CheckError(f"{details.get('path', 'the SDK configuration')} cannot be read", hint="is it an INI file?")
    if isinstance(error, sdk.SSOError | sdk.TokenRetrievalError):
        return CheckError(f"{where}: the single sign-on has expired", hint="run `aws sso login`")
    if isinstance(error, sdk.CredentialRetrievalError):
        return CheckError(f"{where}: no credentials from {details.get('provider', 'their source')}", hint="see its log")
    if isinstance(error, ResponseParserError):
        return CheckError(f"{where}: the answer is not that of AWS", hint=_OTHER)
    if isinstance(error, sdk.BotoCoreError):
        return CheckError(f"{where}: {type(error).__name__}: {_short(str(error))}")
    return CheckError(f"{where}: the answer is not that of AWS ({type(error).__name__})", hint=_OTHER)


def no_credentials() -> CheckError:
    """Nobody has told the SDK who it is."""
    return CheckError(
        "no AWS credentials are found: not in the environment, a profile, a web identity, the container or the "
        "instance",
        hint="set `profile`, or give the pod or the instance a role",
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{cut_text(line, 199)}…"
