"""A real Alertmanager, whose own webhook says what it made of the alerts."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from notifiers.receivers import Receiver, alert, receiving
from notifiers.test_http import huge
from servers import Server, free_port
from vedette import Undelivered
from vedette.notifiers.alertmanager import Alertmanager, AlertmanagerConfig, labels_of, postable

pytestmark = pytest.mark.anyio
PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
needs_program = pytest.mark.skipif(
    PROGRAM is None, reason="Alertmanager is not installed: apt, prometheus-alertmanager"
)


class AlertmanagerServer(Server):
    """Alertmanager that tells a webhook of everything at once."""

    hook = ""

    def command_line(self) -> list[str]:
        (self.directory / "config.yml").write_text(
            "route: {receiver: hook, group_by: ['...'], group_wait: 10ms, group_interval: 100ms, repeat_interval: 1h}\n"
            f"receivers: [{{name: hook, webhook_configs: [{{url: '{self.hook}', send_resolved: true}}]}}]\n"
        )
        return [
            str(PROGRAM), "--config.file=config.yml", "--storage.path=data", "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/-/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlertmanagerServer]:
    made = AlertmanagerServer(tmp_path_factory.mktemp("alertmanager"))
    made.hook = "http://127.0.0.1:1/"
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def receiver(server: AlertmanagerServer) -> AsyncIterator[Receiver]:
    async with receiving() as made:
        server.hook = f"{made.url}/am"
        server.command_line()
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"http://127.0.0.1:{server.port}/-/reload")).status_code == 200
        yield made


def notifier(server: AlertmanagerServer, **options: Any) -> Alertmanager:
    made = {"type": "alertmanager", "base_url": f"http://127.0.0.1:{server.port}", **options}
    return Alertmanager(AlertmanagerConfig(**made))


async def arrived(receiver: Receiver, key: str, status: str) -> dict[str, Any]:
    for _ in range(2_000):
        for body in receiver.bodies:
            for one in body["alerts"]:
                if one["labels"]["alertname"] == key and one["status"] == status:
                    return dict(one)
        await asyncio.sleep(0.01)
    raise AssertionError(f"no {status} {key} in {receiver.bodies}")


@needs_program
async def test_its_receiver_hears_of_firing_and_recovery(server: AlertmanagerServer, receiver: Receiver) -> None:
    made = notifier(server)
    assert await made.send(alert(rule="flow")) == "200"
    fired = await arrived(receiver, "flow", "firing")
    assert fired["labels"] == {
        "alertname": "flow", "severity": "critical", "instance": "synthetic/payment-flow", "team": "payments",
        "currency": "USD",
    }  # fmt: skip
    assert fired["startsAt"] == "2026-09-21T14:13:20Z"
    assert fired["generatorURL"] == "https://grafana.example.com/d/pay"
    assert fired["annotations"] == {
        "summary": "Nobody can pay.",
        "runbook_url": "https://wiki.example.com/payments",
        "condition": "status(synthetic/payment-flow) == critical for 2 of 3 runs",
        "values": "████▇▆▅▄▂▁ last 94.95 %, 94.95 to 99, threshold 97 %",
        "failing_step": "pay: POST /payments answered 503",
        "error": "step 'pay' answered 503 & <nothing> else",
        "dashboards": "https://grafana.example.com/d/pay https://img.example.com/pay.png",
    }
    assert list(made.memory) == ["payments flow down"]
    await made.send(alert("resolved", rule="flow"))
    await arrived(receiver, "flow", "resolved")
    await made.close()


@needs_program
async def test_what_fires_is_said_again_and_a_new_severity_ends_the_old_alert(
    server: AlertmanagerServer, receiver: Receiver
) -> None:
    made = notifier(server, resend=1)
    await made.send(alert(rule="again", severity="warning"))
    before = await _ends(server, "again")
    kept = json.loads(json.dumps(dict(made.memory)))
    await made.close()
    after_restart = notifier(server, resend=1)
    after_restart.memory = kept
    await asyncio.sleep(0.05)
    await after_restart.beat()
    after = await _ends(server, "again")
    assert after["warning"] > before["warning"]
    await after_restart.send(replace(alert(rule="again"), severity="critical"))
    await arrived(receiver, "again", "resolved")
    assert list(await _ends(server, "again")) == ["critical"]
    await after_restart.close()


async def _ends(server: AlertmanagerServer, rule: str) -> dict[str, str]:
    """When each alert of a rule ends, by severity."""
    async with httpx.AsyncClient(trust_env=False) as client:
        rows = (await client.get(f"http://127.0.0.1:{server.port}/api/v2/alerts")).json()
    return {one["labels"]["severity"]: one["endsAt"] for one in rows if one["labels"]["alertname"] == rule}


@needs_program
async def test_one_member_of_a_cluster_is_enough_and_refusals_say_why(
    server: AlertmanagerServer, receiver: Receiver
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    made = notifier(server, base_url=[away, f"http://127.0.0.1:{server.port}"])
    assert await made.send(huge(key="huge")) == "200, 1 of 2 took it"
    assert made.trouble == "Alertmanager 1: nothing takes connections there"
    await made.close()
    alone = notifier(server, base_url=away)
    with pytest.raises(Undelivered, match=r"^Alertmanager: nothing takes connections there$"):
        await alone.send(alert())
    await alone.close()


async def test_an_end_is_said_again_to_members_that_missed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as one, receiving() as other:
        ok, busy = (200, {}, ""), (503, {}, "")
        one.answers += [ok] * 9
        other.answers += [ok, busy, ok, ok]
        made = Alertmanager(AlertmanagerConfig(type="alertmanager", base_url=(one.url, other.url)))
        await made.send(alert())
        await made.send(alert("resolved", at=1_790_000_090.0))
        assert made.trouble == "Alertmanager 2 answered 503"
        await made.beat()
        assert (made.trouble, other.bodies[2][0]["endsAt"]) == ("", "2026-09-21T14:14:50.000Z")
        now = time.time() + 901
        monkeypatch.setattr(time, "time", lambda: now)
        await made.beat()
        assert (made.memory, len(other.bodies)) == ({}, 3)
        await made.close()


def test_labels_are_prometheus_own() -> None:
    made = postable(alert(labels={"kube.namespace": "pay", "0": "x", "empty": ""}), 0.0)
    assert labels_of(alert(labels={"a-b": "c"}))["a_b"] == "c"
    assert set(made["labels"]) == {"alertname", "severity", "instance", "kube_namespace", "_0"}
    assert made["endsAt"] == made["startsAt"]
