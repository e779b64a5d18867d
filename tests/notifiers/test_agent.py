"""The agent with notifiers: a restart, a reload, its figures; `vedette notify`, doctor, and what a wrong file says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.test_reload import Site
from notifiers.receivers import HOOK, ROUTING_KEY, Receiver, alert, receiving
from servers import eventually, free_port
from vedette.cli import main
from vedette.config import load
from vedette.control import Overall, overall
from vedette.control.wire import encode, picture, snapshot_of
from vedette.doctor import examine
from vedette.plugins import Registry

pytestmark = pytest.mark.anyio


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


def agent_yaml(pager: str, slack: str) -> str:
    return (
        "state_directory: ../state\nreport_interval: 100ms\n"
        "notifiers:\n"
        f"  - {{type: pagerduty, name: oncall, routing_key: {ROUTING_KEY}, base_url: '{pager}'}}\n"
        f"  - {{type: slack, webhook: '{slack}{HOOK}'}}\n"
        "routes:\n  - {match: {severity: critical}, notify: [oncall, slack]}\n"
    )


async def test_the_agent_tells_keeps_and_reports(receiver: Receiver, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    site = Site(tmp_path, agent_yaml(away, receiver.url))
    site.write("host", "instances: [{interval: 1h}]\n")
    async with site.running():
        site.agent.dispatcher.tell(alert())
        await eventually(lambda: receiver.messages, "Slack to be told")
        await eventually(lambda: site.agent.snapshot().notifiers[0].errors, "PagerDuty to fail")
        snapshot = site.agent.snapshot()
        oncall, slack = snapshot.notifiers
        assert (oncall.name, oncall.type, oncall.queued, oncall.sent) == ("oncall", "pagerduty", 1, 0)
        assert oncall.trouble == "PagerDuty: nothing takes connections there"
        assert (slack.name, slack.queued, slack.sent, slack.trouble) == ("slack", 0, 1, "")
        assert overall(snapshot) is Overall.WARNING
        assert snapshot_of(json.loads(encode(picture(snapshot)))).notifiers == snapshot.notifiers
    async with site.running():  # after a restart it still waits
        assert site.agent.snapshot().notifiers[0].queued == 1
        site.edit("agent", away, receiver.url)
        await eventually(lambda: site.agent.dispatcher._lanes["slack"]._task, "the start")
        slack_task = site.agent.dispatcher._lanes["slack"]._task
        changes = await site.agent.reload()
        assert [str(one.name) for one in changes.agent] == ["notifier oncall"]
        assert site.agent.dispatcher._lanes["slack"]._task is slack_task
        await eventually(lambda: receiver.incidents, "PagerDuty to be told")

        def reported() -> bool:
            samples = {(one.name, one.tags): one.value for batch in site.batches for one in batch.samples}
            return samples.get(("vedette.notifier.sent", ("notifier:oncall",))) == 1

        await eventually(reported, "the report")
    assert receiver.incidents == {"payments flow down": "triggered"}
    assert len(receiver.messages) == 1
    written = [path.read_text() for path in (tmp_path / "state" / "notify").rglob("*") if path.is_file()]
    assert not [text for text in written if ROUTING_KEY in text or HOOK in text]


async def test_vedette_notify(receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "agent.yaml").write_text(agent_yaml(receiver.url, f"http://127.0.0.1:{free_port()}"))

    async def notify(*arguments: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, ["notify", *arguments, "--conf", str(tmp_path / "conf.d")])
        out, err = capsys.readouterr()
        return status, out, err

    status, listed, _ = await notify()
    assert status == 0
    assert [line.split() for line in listed.splitlines()] == [
        ["notifier", "type", "told", "of"],
        ["oncall", "pagerduty", "severity=critical"],
        ["slack", "slack", "severity=critical"],
    ]
    status, said, _ = await notify("test", "oncall")
    assert (status, said.partition(" in ")[0]) == (0, "oncall (pagerduty): sent")
    assert "202 accepted, dedup_key vedette/test/" in said
    status, said, _ = await notify("test", "oncall", "--resolve")
    assert (status, said.partition(" in ")[0]) == (0, "oncall (pagerduty): resolved")
    assert list(receiver.incidents.values()) == ["resolved"]
    assert await notify("test", "slack") == (2, "", "vedette notify: slack: Slack: nothing takes connections there\n")
    status, _, said = await notify("test", "slakc")
    assert (status, said) == (
        3, f"vedette: no notifier of {tmp_path}/conf.d/agent.yaml is called 'slakc'; did you mean 'slack'?\n"
    )  # fmt: skip
    status, _, said = await notify("test")
    assert (status, said) == (64, "vedette notify: test takes a NAME; there are: oncall, slack\n")


async def test_doctor_looks_and_tells_nobody(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "agent.yaml").write_text(agent_yaml(receiver.url, f"http://127.0.0.1:{free_port()}"))
    (tmp_path / "conf.d" / "host.yaml").write_text("instances: [{}]\n")
    configuration = await asyncio.to_thread(load, tmp_path / "conf.d", Registry())
    cases = {case.name: case for case in await examine(configuration, ())}
    assert next((one.what, one.grade.value) for one in cases["notifier oncall"].symptoms) == ("routing key", "ok")
    assert cases["notifier oncall"].worst.value == "ok"
    assert cases["notifier slack"].worst.value == "failed"
    assert receiver.asked == []
    said = " ".join(f"{one.seen} {one.hint}" for case in cases.values() for one in case.symptoms)
    assert ROUTING_KEY not in said
    assert HOOK not in said
