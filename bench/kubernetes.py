"""The k8s check over 10,000 recorded pods: CPU and memory of the first list, CPU while 20 pods a second change.

The server replays on the other core, in a process of its own; each figure is of a fresh process of the check.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples" / "demo"))

RATE = 20.0
SETTLE, STEADY, INTERVAL = 5.0, 45.0, 15.0
LISTS = 3


async def serve(folder: Path, streaming: str) -> None:
    """Replay, and change pods at the rate as soon as somebody watches them."""
    from cluster import Cluster  # type: ignore[import-not-found]
    from replay import ReplayServer  # type: ignore[import-not-found]

    body = gzip.decompress((ROOT / "tests" / "data" / "kubernetes" / "pods-10000.json.gz").read_bytes())
    server = ReplayServer(cluster=Cluster({"pods": body}), streaming=streaming)
    await server.start()
    server.kubeconfig(folder)
    print("ready", flush=True)
    pods = server.cluster.objects("pods")[:2000]
    due = time.monotonic()
    while True:
        due += 1 / RATE
        await asyncio.sleep(max(due - time.monotonic(), 0))
        if server.watching:
            pod = random.choice(pods)
            for one in pod["status"].get("containerStatuses", []):
                one["restartCount"] += 1
                one["ready"] = not one["ready"]
            await server.cluster.put("pods", pod)


def rss() -> float:
    """MB resident now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


async def measure(kubeconfig: str, steady: float) -> dict[str, float]:
    """CPU seconds and peak MB over the base of one first run; then the share of a core in the steady state."""
    from vedette.emit import Channel, Emit
    from vedette_checks.k8s import K8s, K8sConfig

    config = K8sConfig.model_validate({"name": "bench", "kubeconfig": kubeconfig, "timeout": "60s", "usage": False})
    check = K8s(config)
    channel = Channel("k8s/bench", "k8s", K8s.declare(config), K8s.statuses, ("instance:bench",))
    base, begun = rss(), time.process_time()
    await check.open()
    emit = Emit(channel, time.time())
    await check.run(emit)
    batch = emit.batch()
    first = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 - base
    pods = sum(table.rows.__len__() for table in (w.store for w in check._watches) if w_is_pods(table))  # type: ignore[attr-defined]
    out = {"cpu": first, "peak": peak, "pods": pods, "series": len(batch.samples)}
    if steady:
        await asyncio.sleep(SETTLE)
        changes, begun, until = _changes(check), time.process_time(), time.monotonic() + steady
        while time.monotonic() < until:
            await asyncio.sleep(INTERVAL)
            emit = Emit(channel, time.time())
            await check.run(emit)
            emit.batch()
        out["share"] = (time.process_time() - begun) / steady * 100
        out["rate"] = (_changes(check) - changes) / steady
    await check.close()
    return out


def w_is_pods(table: Any) -> bool:
    """Whether a table is one of pods."""
    return hasattr(table, "workloads")


def _changes(check: Any) -> int:
    return int(sum(watch.store.changes for watch in check._watches))


def child(folder: Path, core: int, steady: float) -> dict[str, float]:
    """A fresh process of the check on a core of its own."""
    done = subprocess.run(
        ["taskset", "-c", str(core), sys.executable, __file__, "measure", str(folder / "kubeconfig"), str(steady)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def run(streaming: str, steady: float) -> list[dict[str, float]]:
    """Some measurements over one server."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        server = subprocess.Popen(
            ["taskset", "-c", str(cores[-1]), sys.executable, __file__, "serve", name, streaming],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            server.stdout.readline()
            return [child(Path(name), cores[0], steady if not turn else 0.0) for turn in range(LISTS)]
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    """Print the figures."""
    rows: list[tuple[str, float, str, str]] = []
    for streaming, what in (("yes", "streaming list"), ("refused", "LIST")):
        found = run(streaming, STEADY if streaming == "yes" else 0.0)
        assert all(one["pods"] == 10_000 for one in found)
        rows.append((f"10,000 pods, {what} to metrics, CPU", sorted(one["cpu"] for one in found)[1], "s", "<= 1.0"))
        rows.append((f"10,000 pods, {what}: peak RSS over base", max(one["peak"] for one in found), "MB", "<= 120"))
        if "share" in found[0]:
            rows.append(
                (
                    f"steady, {found[0]['rate']:.0f} pod changes/s, {INTERVAL:g} s",
                    found[0]["share"],
                    "% of a core",
                    "<= 1",
                )
            )
            rows.append(("series a run", found[0]["series"], "series", ""))
    report(*rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2]), sys.argv[3]))
    elif sys.argv[1:2] == ["measure"]:
        print(json.dumps(asyncio.run(measure(sys.argv[2], float(sys.argv[3])))))
    else:
        main()
