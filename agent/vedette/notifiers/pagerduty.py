"""Notifier `pagerduty`: incidents that are triggered, acknowledged and resolved by a key that stays.

Sources: PagerDuty, "Events API v2 Overview" and "Send an Alert Event"; for changes "Send a Change Event". An event is
answered with 202, an invalid one with 400, too many with 429; a second trigger of a key that is open opens nothing,
and acknowledging or resolving what is not open is ignored.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from vedette import Notifier, NotifierConfig, Secret, Undelivered, hookimpl
from vedette.kit import Courier, HttpOptions, clip, facts, links, plot_line, ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette import Alert, Diagnosis
    from vedette.kit import Reply

_SUMMARY: Final = 1024
_KEY: Final = 255
_DETAIL: Final = 8_000
_ACTIONS: Final = {"firing": "trigger", "acknowledged": "acknowledge", "resolved": "resolve"}
_IMAGES: Final = (".png", ".jpg", ".jpeg", ".gif", ".svg")


class PagerDutyConfig(HttpOptions, NotifierConfig):
    """Options of the `pagerduty` notifier."""

    routing_key: Secret = Field(
        description="Integration key (32 characters) of an Events API v2 integration.", examples=["${env:PD_KEY}"]
    )
    base_url: str = Field(
        default="https://events.pagerduty.com",
        description="Address of the Events API; `https://events.eu.pagerduty.com` for accounts in the EU.",
    )
    info_as_change: bool = Field(
        default=False,
        description="Send alerts of severity `info` as change events, which open no incident and wake nobody.",
    )

    @field_validator("routing_key")
    @classmethod
    def _not_empty(cls, value: Secret) -> Secret:
        if not value.reveal().strip():
            raise PydanticCustomError("vedette", "is empty: give the integration key of an Events API v2 integration")
        return value

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")) or "@" in value or "?" in value:
            raise PydanticCustomError("vedette", "must be an address such as https://events.eu.pagerduty.com")
        return value.rstrip("/")


class PagerDuty(Notifier[PagerDutyConfig]):
    """Opens, acknowledges and resolves incidents of PagerDuty (Events API v2)."""

    name = "pagerduty"

    def __init__(self, config: PagerDutyConfig) -> None:
        super().__init__(config)
        self._courier = Courier(config, "PagerDuty", ssl_context)

    async def close(self) -> None:
        """Drop the connections."""
        await self._courier.close()

    def deduplicates(self, alert: Alert) -> bool:
        """Incidents have a key; changes have none."""
        return not self._is_change(alert)

    def _is_change(self, alert: Alert) -> bool:
        return self.config.info_as_change and alert.severity == "info"

    async def send(self, alert: Alert) -> str:
        """One event for each change of an incident."""
        key = self.config.routing_key.reveal().strip()
        if self._is_change(alert):
            path, event = "/v2/change/enqueue", change_event(alert, key, self.host)
        else:
            path, event = "/v2/enqueue", alert_event(alert, key, self.host)
        content = json.dumps(event).encode()
        reply = await self._courier.post(
            f"{self.config.base_url}{path}", content, {"Content-Type": "application/json", "Accept": "application/json"}
        )
        if reply.status != 202:
            raise _refusal(reply, self._courier.refusal, key)
        return f"202 accepted, dedup_key {event['dedup_key']}" if "dedup_key" in event else "202 accepted as a change"

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Look without telling anybody."""
        key = self.config.routing_key.reveal().strip()
        if len(key) == 32 and key.isalnum():
            diagnosis.ok("routing key", "has the length of one; only an event tells whether it is good")
        else:
            hint = "copy the Integration Key of an Events API v2 integration, not a REST API key"
            diagnosis.warning("routing key", f"has {len(key)} characters, and integration keys have 32", hint)
        await self._courier.reach(self.config.base_url, diagnosis)


def dedup_key(alert: Alert) -> str:
    """The incident's key, at most 255 characters: the end of a longer one is a digest of it."""
    if len(alert.key) <= _KEY:
        return alert.key
    digest = hashlib.blake2b(alert.key.encode(), digest_size=16).hexdigest()
    return f"{alert.key[: _KEY - 33]}-{digest}"


def alert_event(alert: Alert, key: str, host: str) -> dict[str, Any]:
    """The event (PD-CEF) for an alert.

    Args:
        alert: what has become of an incident.
        key: the routing key.
        host: the agent's host, the source where no instance is.
    """
    event: dict[str, Any] = {
        "routing_key": key,
        "event_action": _ACTIONS[alert.state],
        "dedup_key": dedup_key(alert),
    }
    if alert.state != "firing":
        return event
    shown = links(alert)
    images = [(title, url) for title, url in shown if _is_image(url)]
    payload: dict[str, Any] = {
        "summary": clip(" ".join(f"{alert.rule}: {alert.summary}".split()), _SUMMARY),
        "source": alert.instance or host or "vedette",
        "severity": alert.severity,
        "timestamp": _iso(alert.since),
        "custom_details": _details(alert),
    }
    for name, value in (("component", alert.instance), ("group", alert.labels.get("team", "")), ("class", alert.rule)):
        if value:
            payload[name] = clip(value, 255)
    event |= {"payload": payload, "client": "vedette"}
    event["links"] = [{"href": url, "text": title} for title, url in shown if not _is_image(url)]
    event["images"] = [{"src": url, "alt": title} for title, url in images]
    return {name: value for name, value in event.items() if value}


def change_event(alert: Alert, key: str, host: str) -> dict[str, Any]:
    """The change event for an alert."""
    word = "" if alert.state == "firing" else f"{alert.state}: "
    payload = {
        "summary": clip(" ".join(f"{word}{alert.rule}: {alert.summary}".split()), _SUMMARY),
        "source": alert.instance or host or "vedette",
        "timestamp": _iso(alert.at or alert.since),
        "custom_details": _details(alert),
    }
    shown = [{"href": url, "text": title} for title, url in links(alert)]
    return {"routing_key": key, "payload": payload, **({"links": shown} if shown else {})}


def _details(alert: Alert) -> dict[str, Any]:
    details: dict[str, Any] = {word.lower().replace(" ", "_"): clip(text, _DETAIL) for word, text in facts(alert)}
    details.pop("since", None)
    details["labels"] = dict(alert.labels)
    if plot := plot_line(alert):
        details["values"] = plot
    return {name: value for name, value in details.items() if value}


def _is_image(url: str) -> bool:
    return url.startswith("https://") and url.partition("?")[0].lower().endswith(_IMAGES)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _refusal(reply: Reply, refusal: Callable[[Reply, str], Undelivered], key: str) -> Undelivered:
    """What is wrong, in PagerDuty's own words where it says it."""
    try:
        said = json.loads(reply.body)
        reasons = [str(one) for one in said.get("errors", ())] or [str(said.get("message", ""))]
        why = clip("; ".join(reasons), 200).replace(key, "****")
    except (ValueError, AttributeError, TypeError):
        why = ""
    error = refusal(reply, why)
    if reply.status == 400 and "routing" in why.lower():  # the key may be mended, and the alert is still true then
        return Undelivered(error.message, after=error.after, hint="see routing_key")
    return error


@hookimpl
def register_notifiers(register: Callable[[type[PagerDuty]], None]) -> None:
    """Give the agent this notifier."""
    register(PagerDuty)
