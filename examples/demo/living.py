"""The recorded cluster, alive: pods come, restart and go, an autoscaler follows the load, nodes work more and less."""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cluster import node_metrics
from replay import ReplayServer

_STEP = 0.5
"""Seconds between two changes."""
_APP, _AUTOSCALER = "bff", "bff"


@asynccontextmanager
async def living_cluster(folder: Path) -> AsyncIterator[Path]:
    """Serve it; yields a kubeconfig in `folder` that leads there."""
    server = ReplayServer()
    server.node_metrics = node_metrics(server.cluster.objects("nodes"))
    await server.start()
    life = asyncio.create_task(_live(server))
    try:
        yield server.kubeconfig(folder)
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        await server.stop()


async def _live(server: ReplayServer) -> None:
    nodes = server.cluster.objects("nodes")
    (scaler,) = [
        one for one in server.cluster.objects("horizontalpodautoscalers") if one["metadata"]["name"] == _AUTOSCALER
    ]
    pods = [
        pod
        for pod in server.cluster.objects("pods")
        if pod["metadata"].get("labels", {}).get("app") == _APP and pod["status"]["phase"] == "Running"
    ]
    for step in range(10**9):
        await asyncio.sleep(_STEP)
        load = 1 + 0.5 * math.sin(step / 20)
        server.node_metrics = node_metrics(nodes, load=load * random.uniform(0.98, 1.02))
        scaler["status"] |= {"desiredReplicas": round(60 * load), "currentReplicas": len(pods)}
        await server.cluster.put("horizontalpodautoscalers", scaler)
        await _scale(server, pods, round(60 * load))
        if step % 7 == 0:
            unlucky = random.choice(pods)
            unlucky["status"]["containerStatuses"][0]["restartCount"] += 1
            await server.cluster.put("pods", unlucky)


async def _scale(server: ReplayServer, pods: list[dict[str, Any]], wanted: int) -> None:
    """One pod more or less; a new one is Pending until the next step."""
    for pod in pods:
        if pod["status"]["phase"] == "Pending":
            pod["status"]["phase"] = "Running"
            await server.cluster.put("pods", pod)
    if len(pods) < wanted:
        new = copy.deepcopy(pods[0])
        suffix = f"{random.getrandbits(32):08x}"
        new["metadata"] |= {"name": f"{_APP}-{suffix}", "uid": f"{suffix}-0000-4000-8000-000000000000"}
        new["status"] |= {"phase": "Pending", "containerStatuses": [dict(new["status"]["containerStatuses"][0])]}
        new["status"]["containerStatuses"][0]["restartCount"] = 0
        pods.append(new)
        await server.cluster.put("pods", new)
    elif len(pods) > wanted:
        await server.cluster.delete("pods", pods.pop())
