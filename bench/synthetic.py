"""The synthetic check against the same requests with bare httpx, and against prometheus-blackbox-exporter's probe.

Each request has a connection of its own, as the check's and the exporter's have. `tight` is back to back, `spread` is
evenly paced with a cold wake-up each.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from common import report

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "demo"))
from server import free_port  # type: ignore[import-not-found]

from vedette.emit import Channel, Emit
from vedette.kit import ssl_context
from vedette_checks.synthetic import Synthetic, SyntheticConfig

ROUNDS, TIGHT, SPREAD, PACE = 7, 200, 60, 0.025
_TICK = os.sysconf("SC_CLK_TCK")
_BEARER = {"Authorization": "Bearer {{ token }}"}
_FLOW = [
    {"name": "login", "request": "POST /login", "json": {"email": "a@b.example", "password": "x"},
     "expect": {"status": 200}, "extract": {"token": "json.access_token"}},
    {"name": "balance", "request": "GET /balance", "headers": _BEARER, "expect": {"json": {"currency": "USD"}}},
    {"name": "payment", "request": "POST /send", "headers": _BEARER, "json": {"amount": "1.00"},
     "extract": {"payment_id": "json.transaction_id"}},
    {"name": "verify", "request": "GET /payments/{{ payment_id }}", "headers": _BEARER,
     "until": {"json": {"status": "completed"}, "every": "100ms", "within": "2s"}},
]  # fmt: skip


class Vedette:
    """The check, run as the agent does but for the schedule."""

    def __init__(self, **options: Any) -> None:
        config = SyntheticConfig.model_validate({"name": "bench", **options})
        self.check = Synthetic(config)
        self._channel = Channel("synthetic/bench", "synthetic", Synthetic.declare(config), Synthetic.statuses)

    async def run(self) -> None:
        """One run, which must go well."""
        emit = Emit(self._channel, 1.0)
        await self.check.run(emit)
        worst = emit.batch().statuses[0]
        if worst.status:
            raise SystemExit(worst.message)


def bare(url: str) -> tuple[httpx.AsyncClient, Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]:
    """A client without kept connections, one request, and the flow's four requests."""
    client = httpx.AsyncClient(
        verify=ssl_context(), limits=httpx.Limits(max_keepalive_connections=0), trust_env=False, base_url=url
    )

    async def one() -> None:
        (await client.get("/health")).raise_for_status()

    async def flow() -> None:
        answer = await client.post("/login", json={"email": "a@b.example", "password": "x"})
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        (await client.get("/balance", headers=headers)).json()
        answer = await client.post("/send", json={"amount": "1.00"}, headers=headers)
        (await client.get(f"/payments/{answer.json()['transaction_id']}", headers=headers)).json()

    return client, one, flow


async def paced(work: Callable[[], Awaitable[Any]], times: int, pace: float) -> None:
    """Do it so many times, each at its moment."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(times):
        if pace:
            await asyncio.sleep(max(0.0, begin + number * pace - loop.time()))
        await work()


async def measure(url: str) -> dict[str, float]:
    """Medians of µs of CPU."""
    single, flow = Vedette(url=f"{url}/health"), Vedette(base_url=url, steps=_FLOW)
    client, one, four = bare(url)
    for vedette in (single, flow):
        await vedette.check.open()
    work = {"check": single.run, "bare": one, "flow": flow.run, "four": four}
    found: dict[str, list[float]] = {}
    for one_work in work.values():
        await one_work()
    gc.collect()
    gc.freeze()  # as Agent.run does
    for _ in range(ROUNDS):
        for name, job in work.items():
            for pace, times in ((0.0, TIGHT), (PACE, SPREAD)):
                if pace and name in ("flow", "four"):
                    continue
                used = time.process_time()
                await paced(job, times, pace)
                key = f"{name} {'spread' if pace else 'tight'}"
                found.setdefault(key, []).append((time.process_time() - used) / times * 1e6)
    await client.aclose()
    return {name: statistics.median(values) for name, values in found.items()}


@contextmanager
def web() -> Iterator[str]:
    """The server's address."""
    process = subprocess.Popen([sys.executable, Path(__file__).parent / "web.py"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def probes(url: str) -> dict[str, float]:
    """µs of the exporter's CPU per probe, scraping and its encoding of the answer included: that is its only way."""
    port = free_port()
    process = subprocess.Popen(
        ["prometheus-blackbox-exporter", f"--web.listen-address=127.0.0.1:{port}",
         "--config.file=/etc/prometheus/blackbox.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    probe = f"http://127.0.0.1:{port}/probe?module=http_2xx&target={url}/health"
    try:
        for _ in range(500):
            try:
                text = urllib.request.urlopen(probe, timeout=5).read().decode()
                break
            except OSError:
                time.sleep(0.02)
        if "probe_success 1" not in text:
            raise SystemExit("the exporter's probe failed")
        return {"tight": _probe(process.pid, probe, 1000, 0.0), "spread": _probe(process.pid, probe, 300, PACE)}
    finally:
        process.kill()
        process.wait()


def _probe(pid: int, probe: str, times: int, pace: float) -> float:
    before, begin = _used(pid), time.monotonic()
    for number in range(times):
        if pace:
            time.sleep(max(0.0, begin + number * pace - time.monotonic()))
        urllib.request.urlopen(probe, timeout=5).read()
    return (_used(pid) - before) / times * 1e6


def _used(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICK


def main() -> None:
    """Print the figures; with two cores the server gets the second, this process the first."""
    import uvloop

    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    with web() as url:
        os.sched_setaffinity(0, cores[:1])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            found = loop.run(measure(url))
        rows = [(f"{name.replace('check', 'run with one step').replace('bare', 'bare httpx')}", value, "us", "")
                for name, value in found.items()]  # fmt: skip
        rows += [
            ("what a run adds to httpx, tight", found["check tight"] - found["bare tight"], "us", "<= 150"),
            ("what a run adds to httpx, spread", found["check spread"] - found["bare spread"], "us", ""),
            (
                "a flow of four steps over the four bare requests",
                found["flow tight"] / found["four tight"],
                "",
                "<= 1.3",
            ),
        ]
        if shutil.which("prometheus-blackbox-exporter") is None:
            rows.append(("prometheus-blackbox-exporter is not installed", 0, "", ""))
        else:
            for pacing, value in probes(url).items():
                rows.append((f"prometheus-blackbox-exporter's probe, {pacing}", value, "us", ""))
                rows.append((f"ratio to the exporter, {pacing}", found[f"check {pacing}"] / value, "", "<= 4"))
    report(*rows)


if __name__ == "__main__":
    main()
