"""The demo's payments service is killed: each notifier hears of it once and in time, and of its return, over a kill."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aws import REGION, AwsServer, aws, aws_server
from cli.process import Running
from notifiers.receivers import HOOK, ROUTING_KEY, TOKEN, receiving
from notifiers.test_alertmanager import PROGRAM, AlertmanagerServer
from notifiers.test_email import smtp
from notifiers.test_sns import received, topic
from servers import Certificates, eventually
from test_demo_payments import DEMO, Site, site

__all__ = ["aws", "aws_server", "site"]
pytestmark = pytest.mark.anyio

INTERVAL = 2.0  # seconds between the runs of the payment flow
IN_TIME = 3 * INTERVAL + INTERVAL + 5
"""Seconds from the kill to the last message: the rule's window of three runs, one interval, and five more."""
PROBED = "SELECT count(*) FROM transactions WHERE synthetic AND status = 'refunded'"
AGENT = """
reload: {{watch: false}}
sinks: [{{type: file, path: out.jsonl}}]
notifiers:
  - {{type: pagerduty, name: pager, routing_key: {key}, base_url: "{url}"}}
  - {{type: slack, name: bot, token: {token}, channel: C024BE91L, base_url: "{url}/api"}}
  - {{type: slack, name: hook, webhook: "{url}{hook}"}}
  - {{type: webhook, name: web, url: "{url}/web"}}
  - {{type: email, name: mail, host: 127.0.0.1, port: {smtp}, ca_file: {ca}, to: [oncall@example.com],
      sender: vedette@example.com, username: vedette, password: hunter2secret}}
  - {{type: sns, name: topic, topic_arn: "{topic}", base_url: "{aws}"}}
{alertmanager}
routes:
  - {{name: oncall, match: {{rule: never by itself}}, notify: [pager, bot, hook, web, mail, topic{more}]}}
"""


@dataclass
class Heard:
    """What each notifier's receiver was told of `payments flow down`: the states in order, and the failing step."""

    look: dict[str, Callable[[], list[tuple[str, str]]]] = field(default_factory=dict)

    def states(self) -> dict[str, list[str]]:
        return {name: [state for state, _ in look()] for name, look in self.look.items()}

    def steps(self) -> dict[str, str]:
        return {name: look()[0][1] for name, look in self.look.items()}

    def all_say(self, *states: str) -> bool:
        return all(found == list(states) for found in self.states().values())


@asynccontextmanager
async def people(folder: Path, aws: AwsServer) -> AsyncIterator[tuple[str, Heard]]:
    """Receivers of every kind: the agent.yaml that leads to them, and what they heard."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        files = Certificates.make(folder)
        inbox = await stack.enter_async_context(smtp(files, "starttls"))
        arn, queue = await asyncio.to_thread(topic, aws)
        manager = AlertmanagerServer(folder / "alertmanager") if PROGRAM else None
        if manager is not None:
            manager.hook = f"{receiver.url}/am"
            await asyncio.to_thread(manager.start)
            stack.callback(manager.stop)

        def posts(path: str, say: Callable[[Any], tuple[str, str]]) -> Callable[[], list[tuple[str, str]]]:
            return lambda: [say(body) for asked, _, body in receiver.asked if asked == path]

        def of_web(body: Any) -> tuple[str, str]:
            (alert,) = body["alerts"]
            return alert["state"], alert["evidence"].get("step", "")

        def of_slack(body: Any) -> tuple[str, str]:
            text = json.dumps(body)
            return ("resolved" if "RESOLVED" in text else "firing"), text

        messages: list[dict[str, Any]] = []  # an SQS queue gives each out once

        def of_sns() -> list[tuple[str, str]]:
            messages.extend(json.loads(json.loads(one["Body"])["Message"]) for one in received(aws, queue))
            told = [alert for one in messages for alert in one["alerts"]]
            return [(one["state"], one["evidence"].get("step", "")) for one in told]

        heard = Heard({
            "pager": posts("/v2/enqueue", lambda body: (
                {"trigger": "firing", "resolve": "resolved"}[body["event_action"]],
                json.dumps(body.get("payload", {}).get("custom_details")),
            )),
            "bot": posts("/api/chat.postMessage", of_slack),
            "hook": posts(HOOK, of_slack),
            "web": posts("/web", of_web),
            "mail": lambda: [(one["X-Vedette-State"], str(one.get_body(("plain",)))) for one in inbox.mails],
            "topic": of_sns,
        })  # fmt: skip
        if manager is not None:
            heard.look["am"] = posts(
                "/am", lambda body: (body["status"], json.dumps(body["alerts"][0]["annotations"]))
            )  # fmt: skip
        yield AGENT.format(
            key=ROUTING_KEY, token=TOKEN, url=receiver.url, hook=HOOK, smtp=inbox.port, ca=files.ca, topic=arn,
            aws=aws.url, more=", am" if manager else "",
            alertmanager=f'  - {{type: alertmanager, name: am, base_url: "http://127.0.0.1:{manager.port}"}}'
            if manager else "",
        ), heard  # fmt: skip


async def test_a_killed_payments_service_is_told_once_everywhere_and_so_is_its_return(
    site: Site, aws: AwsServer, tmp_path: Path
) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    notify = tmp_path / "state" / "notify"
    for name in ("alerts", "postgres", "redis", "synthetic"):
        text = (DEMO / "conf.d" / f"{name}.yaml").read_text()
        (conf / f"{name}.yaml").write_text(text.replace("interval: 6s", f"interval: {INTERVAL:.0f}s"))
    environ = {
        "DEMO_API_URL": site.url, "DEMO_API_PASSWORD": "demo-only-login", "DEMO_POSTGRES_PASSWORD": "pw",
        "DEMO_PRIMARY_PORT": str(site.pair.primary), "DEMO_REPLICA_PORT": str(site.pair.replica),
        "DEMO_REDIS_PORT": str(site.redis_port), "DEMO_REDIS_PASSWORD": "pw",
        "AWS_ACCESS_KEY_ID": "agent", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": REGION,
    }  # fmt: skip
    async with people(tmp_path, aws) as (agent_yaml, heard):
        (conf / "agent.yaml").write_text(agent_yaml)
        with Running(cwd=tmp_path, **environ) as agent:
            await eventually(lambda: site.sql(PROBED) == [(1,)], "a run that went well")
            site.service.kill()
            await eventually(lambda: heard.all_say("firing"), "all to hear of it", IN_TIME)
            # An answer that a kill cuts off would be asked for again: docs/notifiers.md, "Once".
            await eventually(lambda: not list(notify.rglob("[0-9]*.json")), "all answers to be here")
            assert agent.end(signal.SIGKILL) == -signal.SIGKILL
        for name, step in heard.steps().items():
            assert re.search(r"login: the connection was refused", step), (name, step)
        with Running(cwd=tmp_path, **environ) as agent:
            await asyncio.to_thread(agent.wait_for, "synthetic/payment-flow: critical")
            await asyncio.to_thread(site.service.begin)
            await asyncio.to_thread(agent.wait_for, "synthetic/payment-flow: recovered", 60)
            await eventually(lambda: heard.all_say("firing", "resolved"), "all to hear of its return", IN_TIME)
            assert agent.end(signal.SIGTERM) == 0
        assert set(map(tuple, heard.states().values())) == {("firing", "resolved")}
