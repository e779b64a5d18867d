"""Notifier `alertmanager`: alerts to Prometheus' Alertmanager, said again while they fire, as Prometheus does.

Sources: Prometheus, "Alerts API" with Alertmanager's api/v2/openapi.yaml (`POST /api/v2/alerts`, postableAlerts); on
the end that each message moves on, Prometheus, "Client libraries" of alerting: an alert that is not said again ends.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from vedette import Duration, Notifier, NotifierConfig, Secret, hookimpl
from vedette.kit import Courier, HttpOptions, alert_data, alert_from, clip, facts, links, ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from vedette import Alert, Diagnosis

_NOT_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
_LEAST: Final = 300.0
"""Seconds that an alert goes on without being said again: Alertmanager's own `resolve_timeout`."""
_OVER: Final = 900.0
"""Seconds in which an end is said again, as long as Prometheus does, for members that missed it."""
_LONGEST: Final = 4_000


class AlertmanagerConfig(HttpOptions, NotifierConfig):
    """Options of the `alertmanager` notifier."""

    base_url: tuple[str, ...] = Field(
        description="Address of Alertmanager, with the path that it may be served under; of a cluster a list, since "
        "each member wants to be told.",
        min_length=1,
        examples=["http://127.0.0.1:9093"],
    )
    username: str = Field(default="", description="For basic authentication.", examples=["vedette"])
    password: Secret | None = Field(default=None, description="Goes with `username`.", examples=["${env:AM_PASSWORD}"])
    token: Secret | None = Field(
        default=None, description="Bearer token, instead of them.", examples=["${env:AM_TOKEN}"]
    )
    resend: Duration = Field(default=60.0, description="How often a firing alert is said again.", ge=1, le=3600)

    @field_validator("base_url", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("base_url")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not one.startswith(("https://", "http://")) or "@" in one or "?" in one for one in value):
            raise PydanticCustomError("vedette", "must be an address such as http://127.0.0.1:9093")
        return tuple(one.rstrip("/") for one in value)


class Alertmanager(Notifier[AlertmanagerConfig]):
    """Sends alerts to Prometheus' Alertmanager (API v2), which groups, silences and routes them."""

    name = "alertmanager"

    def __init__(self, config: AlertmanagerConfig) -> None:
        super().__init__(config)
        self.rhythm = config.resend
        self._couriers = [Courier(config, f"Alertmanager{_which(config, url)}", ssl_context) for url in config.base_url]

    async def close(self) -> None:
        """Drop the connections."""
        for courier in self._couriers:
            await courier.close()

    async def send(self, alert: Alert) -> str:
        """Say it to each member; one that took it is enough, as the others hear it with the next `beat`."""
        before = self._known(alert.key)
        posted = [postable(alert, self._end(alert))]
        if before is not None and labels_of(before) != labels_of(alert):  # it would be another alert to Alertmanager
            posted.append(postable(before, alert.at or time.time()))
        taken = await self._post(posted)
        self.memory[alert.key] = {**alert_data(alert), "told": time.time()}
        return taken

    async def beat(self) -> None:
        """Say again what fires, and what has just ended: members of a cluster do not tell each other."""
        said = []
        for key in list(self.memory):
            alert = self._known(key)
            if alert is None or (alert.state == "resolved" and time.time() - self.memory[key].get("told", 0.0) > _OVER):
                self.forget(key)
            else:
                said.append(postable(alert, self._end(alert)))
        if said:
            await self._post(said)
        else:
            self.trouble = ""

    def deduplicates(self, alert: Alert) -> bool:
        """Labels are the key."""
        return True

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Look without telling anybody."""
        for courier, url in zip(self._couriers, self.config.base_url, strict=True):
            await courier.reach(url, diagnosis)

    def _known(self, key: str) -> Alert | None:
        try:
            return alert_from(self.memory[key])
        except (KeyError, ValueError):
            return None

    def _end(self, alert: Alert) -> float:
        if alert.state == "resolved":
            return alert.at or time.time()
        return time.time() + max(_LEAST, 4 * self.config.resend)

    async def _post(self, posted: list[dict[str, Any]]) -> str:
        content = json.dumps(posted).encode()
        results = await asyncio.gather(
            *(self._post_one(*one, content) for one in zip(self._couriers, self.config.base_url, strict=True)),
            return_exceptions=True,
        )
        failures = [one for one in results if isinstance(one, BaseException)]
        if len(failures) == len(results):
            raise failures[0]
        self.trouble = "; ".join(map(str, failures))
        return f"200, {len(results) - len(failures)} of {len(results)} took it" if len(results) > 1 else "200"

    async def _post_one(self, courier: Courier, url: str, content: bytes) -> None:
        reply = await courier.post(f"{url}/api/v2/alerts", content, self._headers())
        if reply.status != 200:
            said = reply.body.decode("utf-8", "replace").strip().strip('"') if reply.status == 400 else ""
            raise courier.refusal(reply, clip(" ".join(said.split()), 200))

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.config.token is not None:
            headers["Authorization"] = f"Bearer {self.config.token.reveal().strip()}"
        elif self.config.username:
            password = self.config.password.reveal() if self.config.password is not None else ""
            pair = base64.b64encode(f"{self.config.username}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        return headers


def _which(config: AlertmanagerConfig, url: str) -> str:
    return f" {config.base_url.index(url) + 1}" if len(config.base_url) > 1 else ""


def labels_of(alert: Alert) -> dict[str, str]:
    """What makes it the same alert to Alertmanager; no value is empty."""
    labels = {_label(key): value for key, value in alert.labels.items()}
    own = {"alertname": alert.rule, "severity": alert.severity, "instance": alert.instance}
    return {key: value for key, value in {**labels, **own}.items() if value}


def postable(alert: Alert, end: float) -> dict[str, Any]:
    """A postableAlert.

    Args:
        alert: what has become of an incident.
        end: Unix seconds at which it is over.
    """
    annotations = {"summary": alert.summary, "runbook_url": alert.runbook}
    annotations |= {word.lower().replace(" ", "_"): text for word, text in facts(alert) if word in _TOLD}
    annotations["acknowledged"] = "true" if alert.state == "acknowledged" else ""
    shown = [url for title, url in links(alert) if url != alert.runbook]
    annotations["dashboards"] = " ".join(shown)
    made: dict[str, Any] = {
        "labels": labels_of(alert),
        "annotations": {key: clip(text, _LONGEST) for key, text in annotations.items() if text},
        "startsAt": _iso(alert.since),
        "endsAt": _iso(max(end, alert.since)),
    }
    return {**made, "generatorURL": shown[0]} if shown else made


_TOLD: Final = ("Condition", "Values", "Failing step", "Error")


def _label(name: str) -> str:
    label = _NOT_LABEL.sub("_", name)
    return f"_{label}" if label[:1].isdigit() or not label else label


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@hookimpl
def register_notifiers(register: Callable[[type[Alertmanager]], None]) -> None:
    """Give the agent this notifier."""
    register(Alertmanager)
