"""Drives the k8s check by hand, over a server that replays a real one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from vedette import CheckError
from vedette.emit import Channel, Emit
from vedette.metrics import Batch, ServiceCheck, Value
from vedette_checks.k8s import K8s, K8sConfig
from vedette_checks.k8s.pace import Pace

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "examples" / "demo"))
import cluster as cluster_module  # noqa: E402
import recordings  # noqa: E402
import replay  # noqa: E402

Cluster, ReplayServer, node_metrics = cluster_module.Cluster, replay.ReplayServer, cluster_module.node_metrics
recording, parsed = recordings.recording, recordings.parsed

NOW = 1_795_466_000.0
"""The batch time of every run: some minutes after the recordings."""
FAST = Pace(first=0.01, most=0.05, spread=0.01, refused=0.05, absent=0.05, quiet=20.0, silence=30.0, breath=0.0)
"""So that nothing waits in tests; but a machine that stands still for a moment is no server without streaming lists."""
HASTY = replace(FAST, quiet=0.3)
"""For a server whose streaming lists do not end."""

Series = tuple[str, frozenset[str]]


@dataclass
class Outcome:
    """What one run produced."""

    batch: Batch
    error: CheckError | None = None

    @property
    def series(self) -> dict[Series, Value]:
        """Every sample by name and tags, without the instance's own tag."""
        return {(one.name, frozenset(one.tags) - {"instance:test"}): one.value for one in self.batch.samples}

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self.batch.samples}

    def value(self, name: str, *tags: str) -> Value:
        found = [one.value for one in self.batch.samples if one.name == name and set(tags) <= set(one.tags)]
        assert len(found) == 1, (name, tags, found)
        return found[0]

    def total(self, name: str, *tags: str) -> float:
        return sum(one.value for one in self.batch.samples if one.name == name and set(tags) <= set(one.tags))  # type: ignore[misc]

    def status(self, name: str, *tags: str) -> ServiceCheck:
        found = [one for one in self.batch.statuses if one.name == name and set(tags) <= set(one.tags)]
        assert len(found) == 1, (name, tags, self.batch.statuses)
        return found[0]


class Watching:
    """A check at work."""

    def __init__(self, check: K8s, channel: Channel) -> None:
        self.check = check
        self.channel = channel
        self.opened = False

    async def run(self) -> Outcome:
        emit = Emit(self.channel, NOW)
        error = None
        try:
            async with asyncio.timeout(self.check.config.deadline * 4):  # generous: the machine may be busy
                if not self.opened:
                    await self.check.open()
                    self.opened = True
                await self.check.run(emit)
        except CheckError as found:
            error = found
        assert not self.channel.dropped, (dict(self.channel.dropped), self.channel.take_undeclared())
        return Outcome(emit.batch(), error)

    def watch(self, resource: str, namespace: str = "") -> Any:
        """The watch of a resource."""
        return next(
            one for one in self.check._watches if (one.source.resource, one.source.namespace) == (resource, namespace)
        )


@cache
def few() -> bytes:
    """A list of some of the recorded pods, which is faster to compare with."""
    kept: list[dict[str, Any]] = []
    for pod in parsed("list/pods.rv0.json")["items"]:
        app = pod["metadata"].get("labels", {}).get("app")
        same = sum(one["metadata"].get("labels", {}).get("app") == app for one in kept)
        if app == "search" or pod["spec"].get("nodeName") == "worker-03" or same < 3:
            kept.append(pod)
    whole = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1741"}, "items": kept}
    return json.dumps(whole, separators=(",", ":")).encode()


class Drive:
    """Makes servers and checks, and ends them after the test."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self._stack = stack

    async def server(self, **options: Any) -> Any:
        if options.pop("small", False):
            options["cluster"] = Cluster({"pods": few()})
        made = ReplayServer(**options)
        await made.start()
        self._stack.push_async_callback(made.stop)
        return made

    def watching(self, server: Any = None, *, pace: Pace = FAST, **options: Any) -> Watching:
        if server is not None and "kubeconfig" not in options:
            options["kubeconfig"] = server.kubeconfig(self.folder)
        config = K8sConfig.model_validate({"name": "test", "timeout": 15, **options})
        kind = type("K8s", (K8s,), {"pace": pace, "_now": lambda _: NOW})
        check = kind(config)
        channel = Channel("k8s/test", "k8s", K8s.declare(config), K8s.statuses, ("instance:test",))
        made = Watching(check, channel)
        self._stack.push_async_callback(check.close)
        return made


async def until(condition: Callable[[], Any], what: str, timeout: float = 20) -> None:
    """Let the loop run until something is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not condition():
        assert loop.time() < deadline, f"timed out waiting for {what}"
        await asyncio.sleep(0.002)
