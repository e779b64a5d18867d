"""PagerDuty, Slack and webhooks against receivers that enforce what is documented."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from listening import listening
from notifiers.receivers import HOOK, ROUTING_KEY, TOKEN, Receiver, alert, receiving
from servers import Certificates, free_port
from vedette import Evidence, Undelivered
from vedette.kit import delivery_id
from vedette.notifiers.pagerduty import PagerDuty, PagerDutyConfig
from vedette.notifiers.slack import Slack, SlackConfig
from vedette.notifiers.webhook import Webhook, WebhookConfig

pytestmark = pytest.mark.anyio
HOOK_URL = f"https://hooks.example.com{HOOK}"
DOCS = Path(__file__).parents[2] / "docs" / "notifiers.md"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


def huge(state: Any = "firing", **more: Any) -> Any:
    """An alert that is too much for every channel, and speaks its markup."""
    text = "<!channel> & ``` <b>é🔥</b>\n" * 400
    evidence = Evidence(
        text, tuple((n, float(n)) for n in range(120)), "ms", 50.0, text, text,
        tuple((f"dashboard {n} " + "x" * 500, f"https://d.example.com/{n}?" + "y" * 900) for n in range(60)),
    )  # fmt: skip
    labels = {f"label{n}": "v" * 200 for n in range(40)}
    return alert(state, rule="r" * 400, summary=text, evidence=evidence, labels=labels, **more)


# PagerDuty


def pagerduty(receiver: Receiver, **options: Any) -> PagerDuty:
    made = {"type": "pagerduty", "routing_key": ROUTING_KEY, "base_url": receiver.url, **options}
    return PagerDuty(PagerDutyConfig(**made))


async def test_an_incident_is_triggered_acknowledged_and_resolved(receiver: Receiver) -> None:
    notifier = pagerduty(receiver)
    for state, then in (("firing", "triggered"), ("acknowledged", "acknowledged"), ("resolved", "resolved")):
        assert await notifier.send(alert(state)) == "202 accepted, dedup_key payments flow down"
        assert receiver.incidents == {"payments flow down": then}
    await notifier.close()
    event = receiver.bodies[0]
    assert event["payload"] == {
        "summary": "payments flow down: Nobody can pay.",
        "source": "synthetic/payment-flow",
        "severity": "critical",
        "timestamp": "2026-09-21T14:13:20.000+00:00",
        "component": "synthetic/payment-flow",
        "group": "payments",
        "class": "payments flow down",
        "custom_details": {
            "instance": "synthetic/payment-flow",
            "labels": {"team": "payments", "currency": "USD"},
            "condition": "status(synthetic/payment-flow) == critical for 2 of 3 runs",
            "values": "████▇▆▅▄▂▁ last 94.95 %, 94.95 to 99, threshold 97 %",
            "failing_step": "pay: POST /payments answered 503",
            "error": "step 'pay' answered 503 & <nothing> else",
        },
    }
    assert event["links"] == [
        {"href": "https://wiki.example.com/payments", "text": "Runbook"},
        {"href": "https://grafana.example.com/d/pay", "text": "Payments"},
    ]
    assert event["images"] == [{"src": "https://img.example.com/pay.png", "alt": "Graph"}]
    assert set(receiver.bodies[2]) == {"routing_key", "event_action", "dedup_key"}


async def test_long_keys_and_texts_stay_within_pagerdutys_limits(receiver: Receiver) -> None:
    notifier = pagerduty(receiver)
    one, other = huge(key="k" * 300 + "1"), huge(key="k" * 300 + "2")
    for each in (one, other, replace(one, state="resolved")):
        await notifier.send(each)
    await notifier.close()
    assert sorted(receiver.incidents.values()) == ["resolved", "triggered"]
    assert {len(key) for key in receiver.incidents} == {255}


async def test_what_is_only_information_wakes_nobody(receiver: Receiver) -> None:
    notifier = pagerduty(receiver, info_as_change=True)
    assert await notifier.send(alert(severity="info")) == "202 accepted as a change"
    await notifier.send(alert("resolved", severity="info"))
    await notifier.close()
    assert receiver.incidents == {}
    assert [one["payload"]["summary"] for one in receiver.changes] == [
        "payments flow down: Nobody can pay.",
        "resolved: payments flow down: Nobody can pay.",
    ]


async def test_pagerdutys_refusals(receiver: Receiver) -> None:
    wrong = "R0WRONG123456789abcdef0123456789"
    notifier = pagerduty(receiver, routing_key=wrong)
    with pytest.raises(Undelivered) as caught:
        await notifier.send(alert())
    assert (caught.value.message, caught.value.again) == ("PagerDuty answered 400: Invalid routing key", True)
    await notifier.close()
    notifier = pagerduty(receiver)
    invalid = json.dumps({"status": "invalid event", "errors": [f"'payload.x' is bad {ROUTING_KEY}"]})
    for status, headers, body, message, again, after in (
        (400, {}, invalid, "PagerDuty answered 400: 'payload.x' is bad ****", False, None),
        (429, {"Retry-After": "17"}, "", "PagerDuty answered 429: it is asked too often", True, 17.0),
        (503, {"Retry-After": "99999"}, "<html>", "PagerDuty answered 503", True, 600.0),
        (200, {}, "ok", "PagerDuty answered 200", True, None),
    ):
        receiver.answers.append((status, headers, body))
        with pytest.raises(Undelivered) as caught:
            await notifier.send(alert())
        error = caught.value
        assert (error.message, error.again, error.after) == (message, again, after)
    await notifier.close()


# Slack


async def test_a_slack_webhook_gets_blocks_within_all_limits(receiver: Receiver) -> None:
    notifier = Slack(SlackConfig(type="slack", webhook=f"{receiver.url}{HOOK}", mention="<!here>", group=30))  # type: ignore[arg-type]
    assert await notifier.send(alert()) == "ok"
    body = receiver.bodies[0]
    assert body["text"] == "<!here> CRITICAL: payments flow down"
    texts = [block["text"]["text"] for block in body["blocks"] if "text" in block]
    assert texts == [
        "🔴 CRITICAL: payments flow down",
        "<!here>",
        "Nobody can pay.",
        "*Condition*\n```status(synthetic/payment-flow) == critical for 2 of 3 runs```",
        "*Values*\n```████▇▆▅▄▂▁ last 94.95 %, 94.95 to 99, threshold 97 %```",
        "*Failing step*\n```pay: POST /payments answered 503```",
        "*Error*\n```step 'pay' answered 503 &amp; &lt;nothing&gt; else```",
    ]
    assert body["blocks"][3]["fields"] == [
        {"type": "mrkdwn", "text": "*Since*\n2026-09-21 14:13:20 UTC"},
        {"type": "mrkdwn", "text": "*Instance*\nsynthetic/payment-flow"},
        {"type": "mrkdwn", "text": "*Labels*\ncurrency:USD, team:payments"},
    ]
    assert body["blocks"][-1]["elements"][0]["text"].startswith("<https://wiki.example.com/payments|Runbook> · <https")
    await notifier.send(huge())
    await notifier.send_all([huge(key=f"k{n}") for n in range(notifier.most)])
    said = json.dumps(receiver.bodies[1:])
    assert "<!channel>" not in said
    assert "&lt;!channel&gt;" in said
    await notifier.close()


async def test_slack_webhook_refusals_never_say_the_address(receiver: Receiver) -> None:
    notifier = Slack(SlackConfig(type="slack", webhook=f"{receiver.url}{HOOK}"))  # type: ignore[arg-type]
    for status, headers, body, message, again, after in (
        (429, {"Retry-After": "30"}, "", "Slack answered 429: it is asked too often", True, 30.0),
        (404, {}, "no_service", "Slack answered 404: no_service", True, None),
        (400, {}, "invalid_blocks", "Slack answered 400: invalid_blocks", False, None),
        (500, {}, f"see {HOOK}", "Slack answered 500", True, None),
    ):
        receiver.answers.append((status, headers, body))
        with pytest.raises(Undelivered) as caught:
            await notifier.send(alert())
        assert (caught.value.message, caught.value.again, caught.value.after) == (message, again, after)
    await notifier.close()
    away = Slack(SlackConfig(type="slack", webhook=f"http://127.0.0.1:{free_port()}{HOOK}"))  # type: ignore[arg-type]
    with pytest.raises(Undelivered) as caught:
        await away.send(alert())
    assert str(caught.value) == "Slack: nothing takes connections there"
    await away.close()


def bot(receiver: Receiver, **options: Any) -> Slack:
    made = {"type": "slack", "token": TOKEN, "channel": "C024BE91L", "base_url": f"{receiver.url}/api", **options}
    return Slack(SlackConfig(**made))


async def test_a_bot_edits_its_message_on_recovery_even_after_a_restart(receiver: Receiver) -> None:
    notifier = bot(receiver)
    assert await notifier.send(alert()) == "posted as 1790000000.000000"
    kept = dict(notifier.memory)
    await notifier.close()
    again = bot(receiver)
    again.memory = json.loads(json.dumps(kept))
    await again.send(alert("acknowledged", at=1_790_000_090.0))
    assert await again.send(alert("resolved", at=1_790_000_120.0)) == "edited 1790000000.000000"
    await again.close()
    first, acknowledged, resolved = receiver.messages.values()
    assert first["blocks"][0]["text"]["text"] == "🟢 RESOLVED: payments flow down"
    assert first["text"] == "RESOLVED: payments flow down"
    assert acknowledged["thread_ts"] == resolved["thread_ts"] == "1790000000.000000"
    assert resolved["text"] == (
        "🟢 RESOLVED: payments flow down (2026-09-21 14:13:20 UTC, for 2m, until 2026-09-21 14:15:20 UTC)\n"
        "Nobody can pay."
    )
    assert again.memory == {}


async def test_a_group_message_is_edited_until_all_of_it_is_over(receiver: Receiver) -> None:
    notifier = bot(receiver, group=30)
    await notifier.send_all([alert(key="a", rule="a"), alert(key="b", rule="b")])
    await notifier.send_all([alert("resolved", key="a", rule="a"), alert(key="c", rule="c")])
    first = receiver.messages["1790000000.000000"]
    assert first["text"] == "1 firing, 1 resolved: a and 1 more"
    assert len(notifier.memory) == 2
    await notifier.send(alert("resolved", key="b", rule="b"))
    assert receiver.messages["1790000000.000000"]["text"] == "2 resolved: a and 1 more"
    assert [list(one["alerts"]) for one in notifier.memory.values()] == [["c"]]
    await notifier.close()


async def test_an_attempt_that_failed_half_way_repeats_nothing_in_the_threads(receiver: Receiver) -> None:
    notifier = bot(receiver, group=30)
    await notifier.send_all([alert(key="a", rule="a"), alert(key="b", rule="b")])
    over = [alert("resolved", key="a", rule="a"), alert("resolved", key="b", rule="b"), alert(key="c", rule="c")]
    edit, reply = (200, {}, '{"ok": true}'), (200, {}, '{"ok": true, "ts": "1"}')
    receiver.answers += [edit, reply, edit, reply, (503, {}, "")]
    with pytest.raises(Undelivered):
        await notifier.send_all(over)
    receiver.asked.clear()
    assert await notifier.send_all(over) == "posted as 1790000000.000001"
    assert [(path, body["text"]) for path, _, body in receiver.asked] == [("/api/chat.postMessage", "CRITICAL: c")]
    await notifier.close()


async def test_a_new_incident_is_a_new_message_though_nobody_said_here_that_the_last_is_over(
    receiver: Receiver,
) -> None:
    notifier = bot(receiver, group=30)
    await notifier.send_all([alert(), alert(key="b")])
    assert await notifier.send(alert(since=1_790_777_600.0)) == "posted as 1790000000.000001"
    assert await notifier.send(alert("resolved", since=1_790_777_600.0)) == "edited 1790000000.000001"
    assert (await notifier.send(alert(key="b", reminder=True))).startswith("edited 1790000000.000000")
    assert await notifier.send(alert("resolved", key="b")) == "edited 1790000000.000000"
    assert notifier.memory == {}
    await notifier.close()


async def test_a_message_that_somebody_deleted_is_written_anew(receiver: Receiver) -> None:
    notifier = bot(receiver)
    await notifier.send(alert())
    receiver.messages.clear()
    assert (await notifier.send(alert("resolved"))).startswith("posted as")
    (left,) = receiver.messages.values()
    assert left["text"] == "RESOLVED: payments flow down"
    assert notifier.memory == {}
    await notifier.close()


async def test_the_web_apis_refusals(receiver: Receiver) -> None:
    notifier = bot(receiver, token="xoxb-wrong")
    with pytest.raises(Undelivered) as caught:
        await notifier.send(alert())
    assert (str(caught.value), caught.value.again) == ("Slack refuses: invalid_auth", True)
    receiver.answers += [
        (429, {"Retry-After": "3"}, ""),
        (200, {}, "<html>"),
        (200, {}, '{"ok":false,"error":"msg_too_long"}'),
    ]
    for message, again, after in (
        ("Slack answered 429: it is asked too often", True, 3.0),
        ("Slack's answer makes no sense", True, None),
        ("Slack refuses: msg_too_long", False, None),
    ):
        with pytest.raises(Undelivered) as caught:
            await notifier.send(alert())
        assert (str(caught.value), caught.value.again, caught.value.after) == (message, again, after)
    await notifier.close()


# Webhooks


async def test_the_documented_verification_accepts_a_message_and_nothing_else(receiver: Receiver) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (snippet,) = [block for block in blocks if "webhook-signature" in block]
    names: dict[str, Any] = {}
    exec(snippet, names)
    for secret in ("a plain secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"):
        receiver.asked.clear()
        receiver.raw.clear()
        options: dict[str, Any] = {"secret": secret, "headers": {"Authorization": "Bearer abc"}}
        notifier = Webhook(WebhookConfig(type="webhook", url=f"{receiver.url}/hook", **options))  # type: ignore[arg-type]
        assert await notifier.send(alert()) == "204"
        await notifier.send(alert())
        await notifier.close()
        (_, headers, _), (_, again, _) = receiver.asked
        given = {key.lower(): value for key, value in headers.items()}
        assert given["webhook-id"] == {key.lower(): value for key, value in again.items()}["webhook-id"]
        assert given["authorization"] == "Bearer abc"
        body, now = receiver.raw[0], int(given["webhook-timestamp"])
        assert names["verify"](secret, given, body, now)
        assert not names["verify"](secret, given, body + b" ", now)
        assert not names["verify"]("another", given, body, now)
        assert not names["verify"](secret, given, body, now + 301)
        assert not names["verify"](secret, {**given, "webhook-id": "msg_x"}, body, now)


def test_who_knows_a_repetition() -> None:
    later = alert(at=1_790_003_600.0)
    assert delivery_id(alert()) == delivery_id(later)  # an incident fires once, whoever tells it
    assert (
        len({delivery_id(one) for one in (later, replace(later, reminder=True), replace(alert(), reminder=True))}) == 3
    )
    assert delivery_id(replace(alert(), since=1.0)) != delivery_id(alert())
    pager: Any = {"type": "pagerduty", "routing_key": ROUTING_KEY, "info_as_change": True}
    assert PagerDuty(PagerDutyConfig(**pager)).deduplicates(alert())
    assert not PagerDuty(PagerDutyConfig(**pager)).deduplicates(alert(severity="info"))
    hook: Any = {"type": "webhook", "url": "https://hooks.example.com"}
    assert Webhook(WebhookConfig(**hook)).deduplicates(alert())
    assert not Webhook(WebhookConfig(**hook, group=5)).deduplicates(alert())
    assert not Slack(SlackConfig(type="slack", webhook=HOOK_URL)).deduplicates(alert())  # type: ignore[arg-type]


async def test_a_success_whose_body_does_not_end_is_one(receiver: Receiver) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nbe")
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def send(timeout: float) -> str:
        notifier = Webhook(WebhookConfig(type="webhook", url=f"http://127.0.0.1:{port}/", timeout=timeout))  # type: ignore[arg-type]
        try:
            return await notifier.send(alert())
        finally:
            await notifier.close()

    async with listening(endless) as port:
        try:
            told = await send(0.3)
        except Undelivered:  # the machine may have stood still for longer than that before the success began
            told = await send(10.0)
        assert told == "202"


async def test_what_a_webhook_gets(receiver: Receiver) -> None:
    notifier = Webhook(WebhookConfig(type="webhook", url=receiver.url, group=5))  # type: ignore[arg-type]
    await notifier.send_all([alert(), alert("resolved", key="b")])
    receiver.answers.append((410, {}, ""))
    with pytest.raises(Undelivered, match=r"^the receiver answered 410$"):
        await notifier.send(alert())
    await notifier.close()
    body = receiver.bodies[0]
    assert (body["type"], body["version"], body["title"]) == (
        "vedette.alerts",
        1,
        "1 firing, 1 resolved: payments flow down and 1 more",
    )
    assert [one["state"] for one in body["alerts"]] == ["firing", "resolved"]
    assert body["alerts"][0]["evidence"]["values"][1] == [1_790_000_010.0, 98.95]
    assert body["alerts"][0]["text"].startswith(
        "CRITICAL: payments flow down\nNobody can pay.\n\nSince: 2026-09-21 14:13:20"
    )


async def test_a_proxy_is_asked_and_a_certificate_looked_at(receiver: Receiver, tmp_path: Path) -> None:
    options: dict[str, Any] = {"type": "webhook", "url": "http://hooks.example.com/x?k=v", "proxy": receiver.url}
    notifier = Webhook(WebhookConfig(**options))
    assert await notifier.send(alert()) == "204"
    await notifier.close()
    assert receiver.asked[0][1]["Host"] == "hooks.example.com"
    files = Certificates.make(tmp_path)

    async def curt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says nothing and closes."""

    async with listening(curt, tls=files.server_side()) as port:
        url = f"https://127.0.0.1:{port}/secretpath"
        wary = Webhook(WebhookConfig(type="webhook", url=url))  # type: ignore[arg-type]
        with pytest.raises(Undelivered, match=r"^the receiver: its certificate is not valid$"):
            await wary.send(alert())
        await wary.close()
