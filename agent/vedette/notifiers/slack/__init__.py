"""Notifier `slack`: messages in a channel, by an incoming webhook or by a bot that edits what it wrote.

Sources: Slack, "Sending messages using incoming webhooks", "chat.postMessage", "chat.update", "Rate limits" (429 with
Retry-After; about a message a second in a channel).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import Duration, Notifier, NotifierConfig, Secret, Undelivered, hookimpl
from vedette.kit import Courier, HttpOptions, alert_data, alert_from, delivery_id, ssl_context
from vedette.notifiers.slack.blocks import message, reply_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vedette import Alert, Diagnosis

_INVALID: Final = frozenset(
    ["invalid_arguments", "invalid_attachments", "invalid_blocks", "invalid_blocks_format", "invalid_payload",
     "metadata_too_large", "msg_blocks_too_long", "msg_too_long", "no_text", "too_many_attachments"]
)  # fmt: skip
"""What Slack says of a message that it will never take; everything else may be mended at Slack or here."""
_GONE: Final = frozenset(
    ["cant_update_message", "channel_not_found", "edit_window_closed", "message_not_found", "thread_not_found"]
)
_SET_BACK: Final = 7_200.0
"""Seconds by which the beginning of an incident may differ and be the same: somebody sets the clock meanwhile."""
_FORGET: Final = 30 * 86_400.0
"""Seconds after which a message is not edited any more."""


class SlackConfig(HttpOptions, NotifierConfig):
    """Options of the `slack` notifier."""

    webhook: Secret | None = Field(
        default=None,
        description="Address of an incoming webhook, which is a secret. Either this or `token` with `channel`.",
        examples=["${env:SLACK_WEBHOOK}"],
    )
    token: Secret | None = Field(
        default=None,
        description="Bot token (`xoxb-…`) with the scope `chat:write`: the bot edits its message on recovery.",
        examples=["${env:SLACK_TOKEN}"],
    )
    channel: str = Field(
        default="", description="Channel of the bot, best by its id. Goes with `token`.", examples=["C024BE91L"]
    )
    base_url: str = Field(default="https://slack.com/api", description="Address of the Web API, for `token`.")
    mention: str = Field(
        default="",
        description="Whom a firing critical alert mentions: `<!here>`, `<!channel>`, `<@U…>`, `<!subteam^S…>`.",
        examples=["<!here>"],
    )
    group: Duration = Field(default=0.0, description="Collect alerts for so long into one message.", ge=0, le=3600)

    @field_validator("webhook")
    @classmethod
    def _address(cls, value: Secret | None) -> Secret | None:
        if value is not None and not value.reveal().startswith(("https://", "http://")):
            raise PydanticCustomError("vedette", "must be an address such as https://hooks.slack.com/services/…")
        return value

    @field_validator("token")
    @classmethod
    def _fit_for_a_header(cls, value: Secret | None) -> Secret | None:
        if value is not None and not (value.reveal().strip().isascii() and value.reveal().strip().isprintable()):
            raise PydanticCustomError("vedette", "must be a bot token as Slack shows it, such as xoxb-…")
        return value

    @field_validator("base_url")
    @classmethod
    def _api(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")) or "@" in value or "?" in value:
            raise PydanticCustomError("vedette", "must be an address such as https://slack.com/api")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one_way(self) -> SlackConfig:
        if (self.webhook is None) == (self.token is None):
            raise PydanticCustomError("vedette", "give either webhook, or token with channel")
        if (self.token is not None) != bool(self.channel):
            raise PydanticCustomError("vedette", "token and channel go together")
        return self


class Slack(Notifier[SlackConfig]):
    """Writes alerts into a channel of Slack; a bot edits its message when something becomes of the incident."""

    name = "slack"
    most = 12

    def __init__(self, config: SlackConfig) -> None:
        super().__init__(config)
        self.window = config.group
        self._courier = Courier(config, "Slack", ssl_context)
        self._edited: set[str] = set()
        """Of an attempt that failed half-way: what need not be told again."""

    async def close(self) -> None:
        """Drop the connections."""
        await self._courier.close()

    async def send(self, alert: Alert) -> str:
        """A message for an incident, or what has become of it."""
        return await self.send_all([alert])

    async def send_all(self, alerts: Sequence[Alert]) -> str:
        """News of incidents that have a message are edited into it; the others share a new one."""
        if self.config.webhook is not None:
            return await self._post_to_webhook(self.config.webhook.reveal(), alerts)
        fresh, answers = [], ["edited before"]
        for alert in alerts:
            if delivery_id(alert) in self._edited:
                continue
            ts = self._message_of(alert)
            if ts is None or not (answer := await self._edit(ts, alert)):
                fresh.append(alert)
            else:
                answers.append(answer)
                self._edited.add(delivery_id(alert))
        if fresh:
            answers.append(await self._post(fresh))
        self._edited.clear()
        return answers[-1]

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Look without telling anybody."""
        if self.config.webhook is not None:
            diagnosis.info("webhook", "only a message tells whether Slack knows it", "vedette notify test NAME")
            await self._courier.reach(self.config.webhook.reveal(), diagnosis)
            return
        if not await self._courier.reach(self.config.base_url, diagnosis):
            diagnosis.not_reached("token")
            return
        try:
            answer = await self._call("auth.test", {})
            diagnosis.ok("token", f"is that of {answer.get('user', 'a bot')}")
        except Undelivered as error:
            diagnosis.failed("token", error.message, error.hint or "see token")

    # The webhook

    async def _post_to_webhook(self, url: str, alerts: Sequence[Alert]) -> str:
        content = json.dumps(message(alerts, self.config.mention)).encode()
        reply = await self._courier.post(url, content, {"Content-Type": "application/json"})
        said = reply.body.decode("utf-8", "replace").strip()
        if reply.status == 200:
            return said or "200"
        word = said if said.replace("_", "").isalpha() and len(said) < 60 else ""
        error = self._courier.refusal(reply, word)
        if word in ("no_service", "no_team", "invalid_token", "channel_is_archived", "channel_not_found"):
            raise Undelivered(error.message, after=error.after, hint="make a new webhook")
        raise error

    # The bot

    async def _post(self, alerts: Sequence[Alert]) -> str:
        made = message(alerts, self.config.mention)
        answer = await self._call("chat.postMessage", {"channel": self.config.channel, **made, "unfurl_links": False})
        ts, channel = str(answer.get("ts", "")), str(answer.get("channel", self.config.channel))
        open_ones = {one.key: alert_data(one) for one in alerts if one.state != "resolved"}
        if ts and open_ones:
            self._prune()
            told = {one.key: alert_data(one) for one in alerts}
            self.memory[ts] = {"channel": channel, "alerts": told, "at": time.time()}
        return f"posted as {ts}"

    async def _edit(self, ts: str, alert: Alert) -> str:
        """Edit the message of an incident and say it in its thread; empty if Slack does not have it any more."""
        kept = self.memory[ts]
        told = {**kept["alerts"], alert.key: alert_data(alert)}
        channel = {"channel": kept["channel"]}
        try:
            made = message([alert_from(one) for one in told.values()], "")
            await self._call("chat.update", {**channel, "ts": ts, **made})
            await self._call("chat.postMessage", {**channel, "thread_ts": ts, "text": reply_text(alert)})
        except _GoneError:
            del self.memory[ts]
            return ""
        self._keep(ts, told)
        return f"edited {ts}"

    def _message_of(self, alert: Alert) -> str | None:
        """The message of this very incident; earlier ones of its key are over, though nobody said so here."""
        for ts, kept in list(self.memory.items()):
            known = kept["alerts"].get(alert.key)
            if known is None or known.get("state") == "resolved":
                continue
            begins = alert.state == "firing" and not alert.reminder
            if abs(known.get("since", 0.0) - alert.since) < (1.0 if begins else _SET_BACK):
                return ts
            self._keep(ts, {**kept["alerts"], alert.key: {**known, "state": "resolved"}})
        return None

    def _keep(self, ts: str, told: dict[str, Any]) -> None:
        """Keep what was told in a message, as long as something of it goes on."""
        if all(one["state"] == "resolved" for one in told.values()):
            del self.memory[ts]
        else:
            self.memory[ts] = {**self.memory[ts], "alerts": told}

    def _prune(self) -> None:
        for ts in [ts for ts, kept in self.memory.items() if time.time() - kept.get("at", 0.0) > _FORGET]:
            del self.memory[ts]

    async def _call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        token = self.config.token.reveal().strip() if self.config.token is not None else ""
        headers = {"Content-Type": "application/json; charset=utf-8", "Authorization": f"Bearer {token}"}
        reply = await self._courier.post(f"{self.config.base_url}/{method}", json.dumps(arguments).encode(), headers)
        if reply.status != 200:
            raise self._courier.refusal(reply)
        try:
            answer: dict[str, Any] = json.loads(reply.body)
            is_ok, word = answer.get("ok") is True, str(answer.get("error", "no reason"))
        except (ValueError, AttributeError):
            raise Undelivered("Slack's answer makes no sense", hint="see base_url, and the proxy") from None
        if is_ok:
            return answer
        if word in _GONE and method != "auth.test" and ("ts" in arguments or "thread_ts" in arguments):
            raise _GoneError(f"Slack: {word}")
        raise Undelivered(f"Slack refuses: {word[:60]}", again=word not in _INVALID, after=reply.after)


class _GoneError(Exception):
    """The message that was to be edited is not there any more."""


@hookimpl
def register_notifiers(register: Callable[[type[Slack]], None]) -> None:
    """Give the agent this notifier."""
    register(Slack)
