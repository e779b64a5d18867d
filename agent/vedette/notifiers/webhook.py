"""Notifier `webhook`: alerts as JSON to an address of yours, signed.

Source: Standard Webhooks (standardwebhooks.com, "Specification"): the headers `webhook-id`, `webhook-timestamp` and
`webhook-signature`, which existing libraries verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from vedette import Duration, Notifier, NotifierConfig, Secret, hookimpl
from vedette.kit import Courier, HttpOptions, alert_data, alert_text, delivery_id, ssl_context, title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette import Alert, Diagnosis

_PREFIX = "whsec_"


class WebhookConfig(HttpOptions, NotifierConfig):
    """Options of the `webhook` notifier."""

    url: Secret = Field(
        description="Where to post; treated as a secret, since such addresses often hold one.",
        examples=["https://hooks.example.com/vedette"],
    )
    secret: Secret | None = Field(
        default=None,
        description="Signs every message (HMAC-SHA256); text, or `whsec_` and base64. Default: not signed.",
        examples=["${env:HOOK_SECRET}"],
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict, description="Headers to send as well.", examples=[{"Authorization": "${env:HOOK_AUTH}"}]
    )
    group: Duration = Field(default=0.0, description="Collect alerts for so long into one message.", ge=0, le=3600)

    @field_validator("url")
    @classmethod
    def _address(cls, value: Secret) -> Secret:
        if not value.reveal().startswith(("https://", "http://")):
            raise PydanticCustomError("vedette", "must be an address such as https://hooks.example.com/vedette")
        return value

    @field_validator("secret")
    @classmethod
    def _key(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            try:
                usable = bool(signing_key(value.reveal()))
            except (binascii.Error, ValueError):
                usable = False
            if not usable:
                raise PydanticCustomError("vedette", "must be text, or `whsec_` and base64")
        return value

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, one in value.items():
            if not name.replace("-", "").replace("_", "").isalnum() or not one.reveal().isprintable():
                raise PydanticCustomError("vedette", "must be names of headers with a line of text each")
        return value


class Webhook(Notifier[WebhookConfig]):
    """Posts alerts as JSON to an address of yours, signed so that the receiver can tell who sent them."""

    name = "webhook"
    most = 100

    def __init__(self, config: WebhookConfig) -> None:
        super().__init__(config)
        self.window = config.group
        self._courier = Courier(config, "the receiver", ssl_context)

    async def close(self) -> None:
        """Drop the connections."""
        await self._courier.close()

    def deduplicates(self, alert: Alert) -> bool:
        """Receivers know a message by `webhook-id`, unless it depends on what it is told together with."""
        return not self.config.group

    async def send(self, alert: Alert) -> str:
        """One message with one alert."""
        return await self.send_all([alert])

    async def send_all(self, alerts: Sequence[Alert]) -> str:
        """One message with several alerts."""
        identity = message_id(alerts)
        content = json.dumps(message(alerts, identity)).encode()
        reply = await self._courier.post(self.config.url.reveal(), content, self._headers(identity, content))
        if not 200 <= reply.status < 300:
            raise self._courier.refusal(reply)
        return str(reply.status)

    def _headers(self, identity: str, content: bytes) -> dict[str, str]:
        headers = {name: value.reveal() for name, value in self.config.headers.items()}
        now = int(time.time())
        headers |= {"Content-Type": "application/json", "webhook-id": identity, "webhook-timestamp": str(now)}
        if self.config.secret is not None:
            headers["webhook-signature"] = signature(self.config.secret.reveal(), identity, now, content)
        return headers

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Look without telling anybody."""
        if self.config.secret is None:
            hint = "give `secret`, and have the receiver verify the signature"
            diagnosis.info("signature", "messages are not signed: anybody may send the receiver some", hint)
        else:
            diagnosis.ok("signature", "messages are signed")
        await self._courier.reach(self.config.url.reveal(), diagnosis)


def message_id(alerts: Sequence[Alert]) -> str:
    """What stays the same for each attempt: the receiver's means to tell a repetition."""
    joined = "".join(map(delivery_id, alerts))
    return f"msg_{hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()}"


def message(alerts: Sequence[Alert], identity: str) -> dict[str, Any]:
    """The body."""
    return {
        "type": "vedette.alerts",
        "version": 1,
        "id": identity,
        "title": title_of(alerts),
        "alerts": [{**alert_data(one), "text": alert_text(one)} for one in alerts],
    }


def signing_key(secret: str) -> bytes:
    """The key that a secret means.

    Raises:
        ValueError: what follows `whsec_` is not base64.
    """
    if secret.startswith(_PREFIX):
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret.encode()


def signature(secret: str, identity: str, timestamp: int, content: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = b".".join((identity.encode(), str(timestamp).encode(), content))
    digest = hmac.new(signing_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


@hookimpl
def register_notifiers(register: Callable[[type[Webhook]], None]) -> None:
    """Give the agent this notifier."""
    register(Webhook)
