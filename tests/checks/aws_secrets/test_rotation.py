"""A secret that changes in AWS reaches the instances that use it, and nobody else, in an agent that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aws import AwsServer
from servers import eventually
from vedette import Batch
from vedette.agent import Agent
from vedette.cli import main
from vedette.config import load
from vedette.plugins import Registry
from vedette.state import StateStore

pytestmark = pytest.mark.anyio

TEXT = """instances:
  - {name: uses, interval: 100ms, tags: ['colour:${aws-sm:colour}']}
  - {name: other, interval: 100ms}
"""


class Site:
    """An agent on two instances, one of which has a tag from Secrets Manager."""

    def __init__(self, folder: Path) -> None:
        self.conf = folder / "conf.d"
        self.conf.mkdir()
        (self.conf / "agent.yaml").write_text(
            "sinks: [{type: file, path: ../out.jsonl}]\nsecrets: {aws: {refresh: 1s}}\nreload: {settle: 100ms}\n"
        )
        (self.conf / "host.yaml").write_text(TEXT)
        self.folder = folder
        self.batches: list[Batch] = []
        self.agent: Agent

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        configuration = await asyncio.to_thread(load, self.conf, Registry())
        self.agent = Agent(configuration, StateStore(self.folder / "state"), {}, self.batches.append)
        task = asyncio.create_task(self.agent.run())
        try:
            yield
        finally:
            self.agent.stop()
            await task

    def colours(self) -> set[str]:
        """The tags of the last batch of the instance that uses the secret."""
        last = next((one for one in reversed(self.batches) if one.instance == "host/uses" and one.samples), None)
        return set() if last is None else {tag for tag in last.samples[0].tags if tag.startswith("colour:")}

    def warnings(self) -> list[str]:
        return [one.message for one in self.agent.snapshot().problems]

    def closed(self) -> list[str]:
        return [one.instance for one in self.batches if one.closed]


async def test_a_rotation_a_failure_and_a_recovery(
    named: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vedette.config.vault._FIRST_RETRY", 0.3)
    with named.making() as client:
        manager = client("secretsmanager")
    # A secret of six characters or more would be masked in the tag by which this test sees it.
    await asyncio.to_thread(manager.create_secret, Name="colour", SecretString="ruby")
    site = Site(tmp_path)
    async with site.running():
        await eventually(lambda: site.colours() == {"colour:ruby"}, "the first value")
        await asyncio.to_thread(manager.put_secret_value, SecretId="colour", SecretString="jade")
        await eventually(lambda: site.colours() == {"colour:jade"}, "the value after the rotation")
        assert site.closed() == ["host/uses"]  # the other one did not notice
        await asyncio.to_thread(named.stop)
        try:
            await eventually(lambda: site.warnings() != [], "a refresh that fails")
            assert "secret colour: eu-central-1: secretsmanager:GetSecretValue: no connection" in site.warnings()[0]
            assert site.colours() == {"colour:jade"}
            problem = site.agent.snapshot().problems[0]
            assert (problem.line, problem.severity, problem.hint) == (2, "warning", "the last value stays in use")
        finally:
            named.start()
        await eventually(lambda: site.warnings() == [], "the recovery")
        assert site.closed() == ["host/uses"]


async def test_an_agent_that_starts_while_aws_is_down(
    named: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vedette.config.vault._FIRST_RETRY", 0.3)
    with named.making() as client:
        manager = client("secretsmanager")
    await asyncio.to_thread(manager.create_secret, Name="colour", SecretString="ruby")
    site = Site(tmp_path)
    await asyncio.to_thread(named.stop)
    try:
        async with site.running():
            await eventually(lambda: any(one.instance == "host/other" for one in site.batches), "the other instance")
            (problem,) = site.agent.snapshot().problems
            assert (problem.file, problem.line, problem.severity) == (str(site.conf / "host.yaml"), 2, "error")
            assert problem.message.startswith(
                "secret colour: eu-central-1: secretsmanager:GetSecretValue: no connection"
            )
            named.start()
            await eventually(lambda: site.colours() == {"colour:ruby"}, "the value")
            assert site.warnings() == []
            assert site.closed() == []
    finally:
        named.start()


def test_run_waits_where_all_that_is_missing_is_a_secret(
    named: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    conf = Site(tmp_path).conf
    (conf / "host.yaml").write_text("instances: [{tags: ['${aws-sm:nothing}']}]\n")
    monkeypatch.setattr("vedette.cli.run.leave_within", lambda *_: None)
    assert main(["run", "--conf", str(conf), "--for", "100ms"]) == 0
    assert main(["run", "--conf", str(conf), "--once"]) == 3
