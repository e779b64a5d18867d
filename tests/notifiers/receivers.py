"""Receivers on loopback that behave as PagerDuty's, Slack's and anybody's webhook do: schemas, limits, 429."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from servers import http_server
from vedette import Alert, Evidence

ROUTING_KEY = "R0KEY0123456789abcdef0123456789a"
TOKEN = "xoxb-0123456789-abcdefabcdef"
HOOK = "/services/T024/B024/abcdefSECRETabcdef"
_EVENT = {"routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images"}
_PAYLOAD = {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}
_CHANGE = {"summary", "source", "timestamp", "custom_details"}


def alert(state: Any = "firing", key: str = "payments flow down", at: float = 1_790_000_060.0, **more: Any) -> Alert:
    """One with all evidence there can be."""
    evidence = Evidence(
        condition="status(synthetic/payment-flow) == critical for 2 of 3 runs",
        values=tuple((1_790_000_000.0 + 10 * n, 99.0 - n * n / 20) for n in range(10)),
        unit="%",
        threshold=97.0,
        error="step 'pay' answered 503 & <nothing> else",
        step="pay: POST /payments answered 503",
        links=(("Payments", "https://grafana.example.com/d/pay"), ("Graph", "https://img.example.com/pay.png")),
    )
    made: dict[str, Any] = {
        "rule": "payments flow down", "severity": "critical", "summary": "Nobody can pay.", "since": 1_790_000_000.0,
        "instance": "synthetic/payment-flow", "labels": {"team": "payments", "currency": "USD"}, "evidence": evidence,
        "runbook": "https://wiki.example.com/payments",
    }  # fmt: skip
    return Alert(**{**made, "key": key, "state": state, "at": at, **more})


@dataclass
class Receiver:
    """What came in.

    Attributes:
        asked: path, headers and body of every request.
        answers: given instead of the ordinary answer, first come first served: status, headers, body.
        incidents: PagerDuty's, by key.
        messages: Slack's, by ts, replies in threads among them.
    """

    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    incidents: dict[str, str] = field(default_factory=dict)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    raw: list[bytes] = field(default_factory=list)

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.asked]

    async def handle(self, request: web.Request) -> web.Response:
        data = await request.read()
        self.raw.append(data)
        self.asked.append((request.path, dict(request.headers), json.loads(data)))
        if self.answers:
            status, headers, text = self.answers.pop(0)
            return web.Response(status=status, headers=headers, text=text)
        handlers: dict[str, Callable[[web.Request, Any], web.Response]] = {
            "/v2/enqueue": self._enqueue, "/v2/change/enqueue": self._change, HOOK: self._hook,
            "/api/chat.postMessage": self._post, "/api/chat.update": self._update, "/api/auth.test": self._auth,
        }  # fmt: skip
        handler = handlers.get(request.path)
        return handler(request, self.asked[-1][2]) if handler else web.Response(status=204)

    # PagerDuty

    def _enqueue(self, _: web.Request, event: dict[str, Any]) -> web.Response:
        errors = self._faults(event, _EVENT)
        action, key = event.get("event_action"), event.get("dedup_key", "")
        if action not in ("trigger", "acknowledge", "resolve"):
            errors.append("'event_action' is invalid")
        if not key or len(key) > 255:
            errors.append("Length of 'dedup_key' is incorrect")
        if action == "trigger":
            errors += self._payload(event.get("payload", {}))
        for link in event.get("links", ()):
            errors += [] if set(link) <= {"href", "text"} and link["href"].startswith("http") else ["bad link"]
        for image in event.get("images", ()):
            errors += [] if image["src"].startswith("https://") else ["bad image"]
        if errors:
            body = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
            return web.json_response(body, status=400)
        if action == "trigger":
            self.incidents[key] = "triggered"
        elif self.incidents.get(key, "resolved") != "resolved":  # else it is ignored, and accepted all the same
            self.incidents[key] = f"{action}d"
        return web.json_response({"status": "success", "message": "Event processed", "dedup_key": key}, status=202)

    def _change(self, _: web.Request, event: dict[str, Any]) -> web.Response:
        errors = self._faults(event, {"routing_key", "payload", "links", "images"})
        if not set(event["payload"]) <= _CHANGE or not event["payload"].get("summary"):
            errors.append("bad payload")
        if errors:
            return web.json_response({"status": "invalid event", "errors": errors}, status=400)
        self.changes.append(event)
        return web.json_response({"status": "success", "message": "Change event processed"}, status=202)

    def _faults(self, event: dict[str, Any], known: set[str]) -> list[str]:
        errors = [f"unknown field {name}" for name in set(event) - known]
        if event.get("routing_key") != ROUTING_KEY:
            errors.append("Invalid routing key")
        return errors

    def _payload(self, payload: dict[str, Any]) -> list[str]:
        errors = [f"unknown field {name}" for name in set(payload) - _PAYLOAD]
        if not payload.get("summary") or len(payload["summary"]) > 1024:
            errors.append("'payload.summary' is missing or too long")
        if payload.get("severity") not in ("critical", "error", "warning", "info"):
            errors.append("'payload.severity' is invalid")
        return errors if payload.get("source") else [*errors, "'payload.source' is missing or blank"]

    # Slack

    def _hook(self, _: web.Request, body: dict[str, Any]) -> web.Response:
        if self._invalid(body):
            return web.Response(status=400, text="invalid_blocks")
        self.messages[f"{len(self.messages)}"] = body
        return web.Response(text="ok")

    def _auth(self, request: web.Request, body: Any) -> web.Response:
        good = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        return web.json_response({"ok": good, **({"user": "vedette"} if good else {"error": "invalid_auth"})})

    def _post(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        if wrong := self._invalid(body):
            return web.json_response({"ok": False, "error": wrong})
        if body.get("thread_ts") and body["thread_ts"] not in self.messages:
            return web.json_response({"ok": False, "error": "thread_not_found"})
        ts = f"1790000000.{len(self.messages):06}"
        self.messages[ts] = body
        return web.json_response({"ok": True, "ts": ts, "channel": "C024BE91L"})

    def _update(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        if body.get("ts") not in self.messages:
            return web.json_response({"ok": False, "error": "message_not_found"})
        if wrong := self._invalid(body):
            return web.json_response({"ok": False, "error": wrong})
        self.messages[body["ts"]] = body
        return web.json_response({"ok": True, "ts": body["ts"], "channel": body["channel"]})

    def _invalid(self, body: dict[str, Any]) -> str:
        if not body.get("text") and not body.get("blocks"):
            return "no_text"
        blocks = body.get("blocks", [])
        texts = [one for block in blocks for one in _texts(block)]
        if len(blocks) > 50 or any(not 1 <= len(text) <= most for text, most in texts):
            return "invalid_blocks"
        return "msg_blocks_too_long" if sum(len(text) for text, _ in texts) > 12_000 else ""


def _texts(block: dict[str, Any]) -> list[tuple[str, int]]:
    if block["type"] == "header":
        return [(block["text"]["text"], 150)]
    if block["type"] == "context":
        return [(one["text"], 2_000) for one in block["elements"]]
    assert block["type"] == "section"
    fields = block.get("fields", [])
    assert len(fields) <= 10
    texts = [(one["text"], 2_000) for one in fields]
    return [*texts, (block["text"]["text"], 3_000)] if "text" in block else texts


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback."""
    made = Receiver()
    async with http_server("POST", "/{path:.*}", made.handle) as made.url:
        yield made
