"""The main job, end to end: `make demo`, or `python examples/demo --for 30s`.

Starts a real Redis-protocol server with traffic and a StatsD port, runs the agent on demo/conf.d, and shows live what
the agent does and what arrives. Ctrl-C ends it; nothing is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent))
from server import free_port, redis_server
from statsd import StatsdPort, listen
from traffic import pay_and_browse

from vedette.agent import Agent
from vedette.cli.common import run_loop
from vedette.cli.tables import instances_table
from vedette.config import load
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.state import StateStore
from vedette.units import parse_duration

_CONF = Path(__file__).parent / "conf.d"
_PASSWORD = "demo-only-password"
_ENVIRONMENT = {"ENVIRONMENT": "demo", "DD_SERVICE": "paypal-clone", "APP_VERSION": "1.0.0"}
_SHOWN = (
    ("dashboard.transactions.hourly", "", "transactions this hour"),
    ("dashboard.transactions.daily", "", "transactions today"),
    ("dashboard.revenue.hourly", "", "revenue this hour"),
    ("dashboard.revenue.daily", "", "revenue today"),
    ("dashboard.users.active_5min", "", "users active in 5 min"),
    ("dashboard.users.active_1hour", "", "users active in 1 h"),
    ("redis.net.commands", "instance:cache", "Redis commands per second"),
    ("redis.mem.used", "instance:cache", "Redis memory, bytes"),
    ("redis.key.length", "key:payments:queue", "payments waiting"),
    ("system.cpu.user", "", "CPU in user mode, %"),
    ("system.load.1", "", "load"),
    ("system.mem.pct_usable", "", "memory usable, fraction"),
    ("health_check.status", "instance:cache", "health of redis/cache"),
    ("health_check.response_time", "instance:cache", "its response time, ms"),
    ("health_check.overall", "", "health overall"),
)


def main() -> int:
    """Start everything, show it, end everything."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--for", dest="duration", metavar="TIME", help="end by itself after this time, such as 30s")
    options = parser.parse_args()
    duration = parse_duration(options.duration) if options.duration else None
    with tempfile.TemporaryDirectory(prefix="vedette-demo-") as folder, redis_server(Path(folder), _PASSWORD) as port:
        run_loop(_demo(Path(folder), port, duration))
    return 0


async def _demo(folder: Path, redis_port: int, duration: float | None) -> None:
    transport, statsd = await listen()
    prometheus_port = free_port(9464)
    environ = {
        **os.environ,
        **_ENVIRONMENT,
        "DEMO_REDIS_PORT": str(redis_port),
        "DEMO_REDIS_PASSWORD": _PASSWORD,
        "DEMO_STATSD_PORT": str(transport.get_extra_info("sockname")[1]),
        "DEMO_PROMETHEUS_PORT": str(prometheus_port),
    }
    configuration = await asyncio.to_thread(load, _CONF, Registry(), environ=environ)
    for problem in configuration.problems:
        print(problem, file=sys.stderr)
    set_up(configuration.agent.log, configuration.masker)
    agent = Agent(configuration, StateStore(folder / "state"), environ)
    traffic = asyncio.create_task(pay_and_browse(redis_port, _PASSWORD))
    screen = asyncio.create_task(_show(agent, statsd, prometheus_port))
    try:
        await agent.run(duration=duration)
    finally:
        for task in (traffic, screen):
            task.cancel()
        await asyncio.gather(traffic, screen, return_exceptions=True)
        transport.close()


async def _show(agent: Agent, statsd: StatsdPort, prometheus_port: int) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    if console.is_terminal:
        with Live(
            console=console, refresh_per_second=2, get_renderable=lambda: _screen(agent, statsd, prometheus_port)
        ):
            await asyncio.Event().wait()
    while True:  # no terminal, such as CI: a picture every few seconds
        await asyncio.sleep(4)
        console.print(_screen(agent, statsd, prometheus_port))


def _screen(agent: Agent, statsd: StatsdPort, prometheus_port: int) -> Group:
    snapshot = agent.snapshot()
    age = time.time() - snapshot.started
    heading = Text.assemble(
        ("vedette demo", "bold"),
        f"   running {age:.0f}s   Prometheus page: http://127.0.0.1:{prometheus_port}/metrics   Ctrl-C ends it",
    )
    arrived = Text(f"\nStatsD port: {statsd.packets} packets, {statsd.metrics} metrics, {len(statsd.latest)} series")
    return Group(heading, instances_table(snapshot), arrived, _values(statsd))


def _values(statsd: StatsdPort) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("metric", "last value", "meaning"):
        table.add_column(heading, justify="right" if heading == "last value" else "left")
    for row in _rows(statsd):
        table.add_row(*row)
    return table


def _rows(statsd: StatsdPort) -> Iterator[tuple[str, str, str]]:
    for name, tag, meaning in _SHOWN:
        value = statsd.value(name, tag)
        yield name, "-" if value is None else _short(value), meaning


def _short(value: str) -> str:
    number = float(value)
    return f"{number:,.0f}" if number.is_integer() else f"{number:,.2f}"


if __name__ == "__main__":
    sys.exit(main())
