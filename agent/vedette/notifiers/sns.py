"""Notifier `sns`: alerts to a topic of Amazon SNS, worded for each kind of subscriber.

Sources: Amazon SNS API Reference, "Publish"; Developer Guide, "Message attributes", "FIFO topics", "Large message
payloads" (256 KB for the message and its attributes); "Message deduplication for FIFO topics" (for five minutes).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckError, Duration, Notifier, NotifierConfig, Undelivered, hookimpl
from vedette.kit import alert_data, alert_text, clip, delivery_id, headline, title_of
from vedette_checks.aws import Access, Account

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette import Alert, Diagnosis

_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
_LARGEST: Final = 262_144
_ROOM: Final = 4_096
"""Bytes of them that are left for the attributes."""
_SUBJECT: Final = 99
_SMS: Final = 140
_REMEMBERS: Final = 300.0
"""Seconds in which a FIFO topic knows a repetition."""
_MACHINES: Final = ("sqs", "lambda", "http", "https", "firehose")


class SnsConfig(NotifierConfig):
    """Options of the `sns` notifier."""

    topic_arn: str = Field(
        description="The topic; a name that ends in `.fifo` is a FIFO topic.",
        examples=["arn:aws:sns:eu-central-1:123456789012:alerts"],
    )
    profile: str | None = Field(
        None,
        description="Profile of `~/.aws/config`. Default: the SDK's chain: environment, web identity (IRSA), profile "
        "`default`, container, instance.",
        examples=["monitoring"],
    )
    role_arn: str | None = Field(
        None,
        description="Role to take on with the credentials found (`sts:AssumeRole`).",
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$",
        examples=["arn:aws:iam::123456789012:role/vedette"],
    )
    external_id: str | None = Field(
        None, description="External id that the role's trust policy demands.", examples=["vedette-7f3a"]
    )
    base_url: str | None = Field(
        None,
        description="Address of an emulator or a VPC endpoint. Default: AWS.",
        pattern=r"^https?://[^/\s]+(/\S*)?$",
        examples=["http://127.0.0.1:5000"],
    )
    group: Duration = Field(0.0, description="Collect alerts for so long into one message.", ge=0, le=3600)

    @field_validator("topic_arn")
    @classmethod
    def _topic(cls, value: str) -> str:
        if not _TOPIC.fullmatch(value):
            raise PydanticCustomError(
                "vedette", "is not the ARN of a topic, such as arn:aws:sns:eu-central-1:123456789012:alerts"
            )
        return value

    @model_validator(mode="after")
    def _fitting(self) -> SnsConfig:
        if self.external_id is not None and self.role_arn is None:
            raise PydanticCustomError("vedette", "external_id goes with role_arn")
        return self

    @property
    def region(self) -> str:
        """The topic's."""
        return self.topic_arn.split(":")[3]

    @property
    def fifo(self) -> bool:
        """Whether it keeps order and tells nothing twice."""
        return self.topic_arn.endswith(".fifo")


class Sns(Notifier[SnsConfig]):
    """Publishes alerts to a topic of Amazon SNS: text for people, JSON for queues and functions."""

    name = "sns"

    def __init__(self, config: SnsConfig) -> None:
        super().__init__(config)
        self.window = config.group
        access = Access(config.profile or "", config.role_arn or "", config.external_id or "", config.base_url or "")
        self._account = Account(access)

    async def close(self) -> None:
        """Drop the connections."""
        await self._account.close()

    def deduplicates(self, alert: Alert) -> bool:
        """A FIFO topic does, for five minutes from when it was told first."""
        return self.config.fifo and not self.config.group and time.time() - alert.since < _REMEMBERS

    async def send(self, alert: Alert) -> str:
        """One message with one alert."""
        return await self.send_all([alert])

    async def send_all(self, alerts: Sequence[Alert]) -> str:
        """One message with several alerts; its attributes are those of the worst that fires."""
        answer = await self._call("Publish", **publication(alerts, self.config))
        return f"message id {answer.get('MessageId', 'unknown')}"

    async def _call(self, operation: str, **parameters: Any) -> Any:
        until = time.monotonic() + self.config.timeout
        try:
            return await self._account.call("sns", operation, self.config.region, until=until, **parameters)
        except CheckError as error:
            again = "InvalidParameter" not in error.message
            raise Undelivered(error.message, again=again, hint=error.hint) from None

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Look without telling anybody."""
        try:
            await self._account.open(self.config.region)
            diagnosis.ok("credentials", f"come from {await self._account.source()}")
        except CheckError as error:
            diagnosis.failed("credentials", error.message, error.hint)
            await self._account.close()
            return
        try:
            await self._call("GetTopicAttributes", TopicArn=self.config.topic_arn)
            diagnosis.ok("topic", "is there")
        except Undelivered as error:
            hint = "sns:Publish is all that sending needs; sns:GetTopicAttributes lets doctor look"
            diagnosis.warning("topic", f"could not be looked at: {error.message}", hint)
        finally:
            await self._account.close()


def publication(alerts: Sequence[Alert], config: SnsConfig) -> dict[str, Any]:
    """The parameters of Publish for these alerts, within all limits."""
    worst = min(alerts, key=lambda one: (one.state != "firing", _ORDER.index(one.severity)))
    attributes = {"severity": worst.severity, "state": worst.state, "rule": worst.rule}
    if len(alerts) > 1:
        attributes["alerts"] = str(len(alerts))
    made: dict[str, Any] = {
        "TopicArn": config.topic_arn,
        "Subject": subject(title_of(alerts)),
        "MessageStructure": "json",
        "Message": body(alerts),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": clip(value, 256)} for name, value in attributes.items() if value
        },
    }
    if config.fifo:
        told = "".join(map(delivery_id, alerts))
        made["MessageGroupId"] = "vedette" if config.group else _digest(alerts[0].key)  # order is kept within one alone
        made["MessageDeduplicationId"] = _digest(told)
    return made


_ORDER: Final = ("critical", "error", "warning", "info")


def subject(text: str) -> str:
    """Up to 99 printable ASCII characters that begin with a letter or digit: what a Subject may be."""
    ascii_only = " ".join(text.encode("ascii", "replace").decode().split())
    return (re.sub(r"^[^A-Za-z0-9]+", "", ascii_only) or "alert")[:_SUBJECT].strip()


def body(alerts: Sequence[Alert]) -> str:
    """A text for each protocol, as `MessageStructure: json` wants it; what does not fit loses its values, then ends."""
    for most in (120, 20, 0):
        data = [_without(alert_data(one), most) for one in alerts]
        made = _structure(alerts, json.dumps({"version": 1, "alerts": data}), _LARGEST)
        if len(made.encode()) <= _LARGEST - _ROOM:
            return made
    brief = [{key: getattr(one, key) for key in ("rule", "key", "state", "severity", "since", "at")} for one in alerts]
    for text in (16_000, 2_000):
        made = _structure(alerts, json.dumps({"version": 1, "cut": True, "alerts": brief}), text)
        if len(made.encode()) <= _LARGEST - _ROOM:
            break
    return made


def _structure(alerts: Sequence[Alert], data: str, most: int) -> str:
    text = clip("\n".join(map(alert_text, alerts)), most)
    sms = clip(headline(alerts[0]) if len(alerts) == 1 else title_of(alerts), _SMS)
    return json.dumps({"default": text, "sms": sms, **dict.fromkeys(_MACHINES, data)})


def _without(data: dict[str, Any], most: int) -> dict[str, Any]:
    values = data["evidence"]["values"]
    data["evidence"]["values"] = values[-most:] if most else []
    return data


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


@hookimpl
def register_notifiers(register: Callable[[type[Sns]], None]) -> None:
    """Give the agent this notifier."""
    register(Sns)
