"""The main job, end to end: `make demo`, or `python examples/demo --for 30s`.

Starts a real Redis-protocol server, a PostgreSQL primary with its replica, the service of examples/payments, an AWS
emulator, an API server that replays a recorded Kubernetes cluster, customers and tills, and a StatsD port; runs the
agent on demo/conf.d, and shows live what the agent does and what arrives. Ctrl-C ends it; nothing is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from cloud import aws_emulator, settled, sign_in
from living import living_cluster
from payments.traffic import PASSWORD as LOGIN
from payments.traffic import open_all_day
from postgres import Pair, UnavailableError, postgres_pair
from server import free_port, redis_server
from service import payments_service
from shop import open_shop, sell
from statsd import StatsdPort, free_udp_port, listen
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
_PRIMARY = "instance:shop-primary"
_FLOW = "flow:payment-flow"
_USD, _EUR, _PAYMENT = "currency:USD", "currency:EUR", "type:payment"
_OF_POSTGRES = ("postgres.yaml", "synthetic.yaml", "business_sql.yaml", "statsd.yaml")
_PATIENCE = 5.0  # seconds that the agent waits for the AWS emulator once all others are there
_OF_AWS = ("cloudwatch.yaml", "sqs.yaml")
_FEWEST, _FRAME, _READ = 8, 7, 6.0
"""Values on a page at least, lines of the screen beside them and the instances, seconds that a page stays."""
_Row: TypeAlias = tuple[str, tuple[str, ...], str]
_SHOWN: tuple[_Row, ...] = (
    ("dashboard.transactions.hourly", (), "transactions this hour"),
    ("dashboard.transactions.daily", (), "transactions today"),
    ("dashboard.revenue.hourly", (_USD,), "paid this hour, USD"),
    ("dashboard.revenue.hourly", (_EUR,), "paid this hour, EUR"),
    ("dashboard.revenue.daily", (_USD,), "paid today, USD"),
    ("dashboard.revenue.daily", (_EUR,), "paid today, EUR"),
    ("dashboard.users.active_5min", (), "users active in 5 min"),
    ("dashboard.users.active_1hour", (), "users active in 1 h"),
    ("business.transactions.count", (_PAYMENT, "status:completed", _USD), "payments completed, USD, in the last 2 s"),
    ("business.transactions.count", (_PAYMENT, "status:declined"), "payments that the card network declined"),
    ("business.transactions.amount", (_PAYMENT, _USD), "the last amount, USD"),
    ("business.transactions.processing_time", (_PAYMENT,), "from its request to its settlement, ms"),
    ("business.transactions.success_rate", (_PAYMENT, "success:true"), "payments that went well"),
    ("business.users.registrations", (), "new users"),
    ("business.users.verifications", (), "users who confirmed their address"),
    ("business.users.active", (), "logins"),
    ("business.users.unique_daily", (), "one of today's users"),
    ("business.revenue.total", (_USD,), "earned with the last payment, USD"),
    ("business.revenue.fees", (_USD,), "in fees, USD"),
    ("business.revenue.avg_transaction_value", (_USD,), "a value of which to take the average, USD"),
    ("business.fraud.risk_score", ("action:allow",), "how risky an allowed payment was, 0 to 1"),
    ("business.fraud.blocked_transactions", (), "payments blocked as fraud"),
    ("business.fraud.false_positives", ("false_positive:true",), "suspicions that were wrong"),
    ("api.response_time", ("endpoint:/api/v1/payments/send", "status_code:201"), "a payment's request, ms"),
    ("api.requests", ("endpoint:/api/v1/payments/send", "status_code:201"), "such requests in the last 2 s"),
    ("api.errors", ("error:true",), "requests that were refused or failed"),
    ("database.query_time", ("operation:update", "success:true"), "an UPDATE of the service, ms"),
    ("database.pool.active_connections", ("pool:payments",), "its database connections at work"),
    ("database.pool.idle_connections", ("pool:payments",), "idle ones"),
    ("database.pool.total_connections", ("pool:payments",), "all of them"),
    ("cache.operations", ("operation:get", "hit:true"), "keys found in Redis in the last 2 s"),
    ("cache.response_time", ("operation:get",), "the time of a GET, ms"),
    ("cache.hit_ratio", ("result:miss",), "keys not found"),
    ("queue.depth", (), "payments that wait for settlement"),
    ("queue.processing_time", (), "the settlement of one, ms"),
    ("queue.messages_processed", (), "settled in the last 2 s"),
    ("redis.net.commands", ("instance:cache",), "Redis commands per second"),
    ("redis.key.length", ("key:payments:queue",), "payments waiting"),
    ("postgresql.commits", (_PRIMARY, "db:shop"), "PostgreSQL transactions per second"),
    ("postgresql.rollbacks", (_PRIMARY, "db:shop"), "transactions taken back per second"),
    ("postgresql.rows_inserted", (_PRIMARY, "db:shop"), "rows inserted per second"),
    ("postgresql.blocking.waiting", (_PRIMARY,), "sessions that wait for a lock"),
    ("postgresql.health.lag_seconds", (_PRIMARY,), "how far the replica is behind, s"),
    ("postgresql.table_size", (_PRIMARY, "table:transactions"), "size of the payments table, bytes"),
    ("shop.payments", (_PRIMARY, "status:pending"), "payments pending, by a query of the shop's own"),
    ("synthetic.transaction.total_time", (_FLOW,), "login, balance, payment and verify together, ms"),
    ("synthetic.login.response_time", (_FLOW,), "the login, ms"),
    ("synthetic.balance.response_time", (_FLOW,), "the balance, ms"),
    ("synthetic.payment.response_time", (_FLOW,), "the payment, ms"),
    ("synthetic.verify.response_time", (_FLOW,), "until the payment is completed, ms"),
    ("synthetic.transaction.result", (_FLOW, "success:true"), "payment flows that went well, since the last"),
    ("synthetic.transaction.failures", (_FLOW,), "payment flows that failed, since the last"),
    ("business.hourly.transaction_count", ("currency:USD",), "payments of the last closed minute, USD"),
    ("business.hourly.transaction_volume", ("currency:USD",), "their sum, USD"),
    ("business.hourly.avg_transaction_value", ("currency:USD",), "their average, USD"),
    ("business.hourly.success_rate", ("currency:USD",), "how many of them went well, %"),
    ("aws.rds.cpu_utilization", (), "CPU of the database in AWS, %"),
    ("aws.rds.database_connections", (), "its connections"),
    ("aws.rds.read_iops", (), "its reads per second"),
    ("aws.rds.write_iops", (), "its writes per second"),
    ("aws.redis.cpu_utilization", (), "CPU of the cache in AWS, %"),
    ("aws.redis.memory_utilization", (), "its memory in use, %"),
    ("aws.redis.cache_hits", (), "keys found there, per minute"),
    ("aws.redis.cache_misses", (), "keys not found there, per minute"),
    ("aws.sqs.messages_visible", ("queue:payouts",), "payouts waiting, by CloudWatch"),
    ("aws.sqs.messages_in_flight", ("queue:payouts",), "payouts being made, by CloudWatch"),
    ("sqs.messages_visible", ("queue:payouts",), "payouts waiting, live"),
    ("aws.cloudwatch.estimated_month_usd", (), "what CloudWatch charges a month for this, dollars"),
    ("k8s.pods.running", (), "pods that run"),
    ("k8s.pods.pending", (), "pods that wait for a place, or for their image"),
    ("k8s.pods.failed", (), "pods that failed"),
    ("k8s.nodes.ready", (), "nodes that are ready"),
    ("k8s.nodes.not_ready", (), "nodes that are not"),
    ("k8s.cpu.utilization", (), "CPU of the ready nodes in use, %"),
    ("k8s.memory.utilization", (), "their memory in use, %"),
    ("k8s.hpa.current_replicas", ("hpa:bff",), "replicas of the web backend"),
    ("k8s.hpa.desired_replicas", ("hpa:bff",), "replicas that its autoscaler wants"),
    ("system.cpu.user", (), "CPU in user mode, %"),
    ("system.mem.pct_usable", (), "memory usable, fraction"),
    ("health_check.status", (_PRIMARY,), "health of postgres/shop-primary"),
    ("health_check.response_time", (_PRIMARY,), "its response time, ms"),
    ("health_check.overall", (), "health overall"),
)


@dataclass(frozen=True, slots=True)
class Servers:
    """What the agent watches.

    Attributes:
        folder: the demo's own folder.
        redis_port: where Redis is.
        pair: the two PostgreSQL servers; None where they cannot run.
        aws: port of the AWS emulator; 0 where it is not installed.
    """

    folder: Path
    redis_port: int
    pair: Pair | None
    aws: int


def main() -> int:
    """Start everything, show it, end everything."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--for", dest="duration", metavar="TIME", help="end by itself after this time, such as 30s")
    options = parser.parse_args()
    duration = parse_duration(options.duration) if options.duration else None
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-demo-")))
        aws = _aws(stack)  # begun first: it takes some seconds, in which the others start
        redis_port = stack.enter_context(redis_server(folder, _PASSWORD))
        pair = _postgres(stack)
        stack.callback(_let_clean_up)
        run_loop(_demo(Servers(folder, redis_port, pair, aws), duration))
    return 0


def _leave(number: int, _: FrameType | None) -> None:
    """End before the agent runs, which has a handler of its own."""
    _let_clean_up()
    sys.exit(128 + number)


def _let_clean_up() -> None:
    """From here on nothing but the end is to come: it must not be interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _aws(stack: ExitStack) -> int:
    """The port of the AWS emulator; 0 where it is not installed."""
    sign_in()
    port = free_port()
    return port if stack.enter_context(aws_emulator(port)) else 0


def _postgres(stack: ExitStack) -> Pair | None:
    try:
        return stack.enter_context(postgres_pair(_PASSWORD))
    except UnavailableError as error:
        print(f"PostgreSQL cannot run here, the demo goes on without it: {error}", file=sys.stderr)
        return None


async def _demo(servers: Servers, duration: float | None) -> None:
    async with AsyncExitStack() as stack:
        more = {"DEMO_API_PASSWORD": LOGIN}
        if servers.pair is not None:
            await open_shop(servers.pair.primary, _PASSWORD)
            more |= _serve_payments(stack, servers, servers.pair)
        more["DEMO_KUBECONFIG"] = str(await stack.enter_async_context(living_cluster(servers.folder)))
        if servers.pair is not None:
            await settled(int(more["DEMO_API_URL"].rpartition(":")[2]), _PATIENCE)
        if servers.aws:
            await settled(servers.aws, _PATIENCE)
        await _run_agent(servers, more, duration)


def _serve_payments(stack: AsyncExitStack, servers: Servers, pair: Pair) -> dict[str, str]:
    """Start the service; returns where it is and where it sends its metrics to, for the agent."""
    port, apps = free_port(), free_udp_port()
    environ = {
        **_ENVIRONMENT,
        "DD_SERVICE": "payments",
        "DD_DOGSTATSD_URL": f"udp://127.0.0.1:{apps}",
        "DATABASE_URL": f"postgresql://shop:{_PASSWORD}@127.0.0.1:{pair.primary}/shop",
        "REDIS_URL": f"redis://:{_PASSWORD}@127.0.0.1:{servers.redis_port}",
    }
    stack.enter_context(payments_service(port, servers.folder, environ))
    return {"DEMO_API_URL": f"http://127.0.0.1:{port}", "DEMO_APPS_PORT": str(apps)}


async def _run_agent(servers: Servers, more: dict[str, str], duration: float | None) -> None:
    folder, redis_port, pair = servers.folder, servers.redis_port, servers.pair
    transport, statsd = await listen()
    prometheus_port = free_port(9464)
    environ = _environ(servers, transport.get_extra_info("sockname")[1], prometheus_port) | more
    configuration = await asyncio.to_thread(load, _conf(servers), Registry(), environ=environ)
    for problem in configuration.problems:
        print(problem, file=sys.stderr)
    set_up(configuration.agent.log, configuration.masker)
    agent = Agent(configuration, StateStore(folder / "state"), environ)
    jobs = [_show(agent, statsd, prometheus_port)]
    if pair is None:
        jobs.append(pay_and_browse(redis_port, _PASSWORD))
    else:
        jobs += [sell(pair.primary, _PASSWORD), open_all_day(more["DEMO_API_URL"])]
    tasks = [asyncio.create_task(job) for job in jobs]
    asyncio.get_running_loop().call_soon(_stop_gently, agent)
    try:
        await agent.run(duration=duration)
    finally:
        _let_clean_up()
        await _end(tasks)
        transport.close()


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until they end: a client that is about to connect may swallow it."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


def _stop_gently(agent: Agent) -> None:
    """A second signal would end the agent's process at once and leave the servers: here it only stops it again."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, agent.stop)


def _environ(servers: Servers, statsd_port: int, prometheus_port: int) -> dict[str, str]:
    pair = servers.pair
    environ = {
        **os.environ,
        **_ENVIRONMENT,
        "DEMO_REDIS_PORT": str(servers.redis_port),
        "DEMO_AWS_PORT": str(servers.aws),
        "DEMO_REDIS_PASSWORD": _PASSWORD,
        "DEMO_STATSD_PORT": str(statsd_port),
        "DEMO_PROMETHEUS_PORT": str(prometheus_port),
    }
    if pair is not None:
        environ |= {
            "DEMO_PRIMARY_PORT": str(pair.primary),
            "DEMO_REPLICA_PORT": str(pair.replica),
            "DEMO_POSTGRES_PASSWORD": _PASSWORD,
        }
    return environ


def _conf(servers: Servers) -> Path:
    """The demo's conf.d; a copy that does not name what cannot run here."""
    absent = (() if servers.pair is not None else _OF_POSTGRES) + (() if servers.aws else _OF_AWS)
    if not absent:
        return _CONF
    return shutil.copytree(_CONF, servers.folder / "conf.d", ignore=shutil.ignore_patterns(*absent))


async def _show(agent: Agent, statsd: StatsdPort, prometheus_port: int) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    if console.is_terminal:
        with Live(
            console=console,
            refresh_per_second=2,
            get_renderable=lambda: _screen(agent, statsd, prometheus_port, console.height),
        ):
            await asyncio.Event().wait()
    while True:  # no terminal, such as CI: a picture every few seconds
        await asyncio.sleep(4)
        console.print(_screen(agent, statsd, prometheus_port))


def _screen(agent: Agent, statsd: StatsdPort, prometheus_port: int, height: int = 10_000) -> Group:
    snapshot = agent.snapshot()
    age = time.time() - snapshot.started
    heading = Text.assemble(
        ("vedette demo", "bold"),
        f"   running {age:.0f}s   Prometheus page: http://127.0.0.1:{prometheus_port}/metrics   Ctrl-C ends it",
    )
    arrived = f"\nStatsD port: {statsd.packets} packets, {statsd.metrics} metrics, {len(statsd.latest)} series"
    room = max(_FEWEST, height - len(snapshot.instances) - _FRAME)
    pages = [_SHOWN[start : start + room] for start in range(0, len(_SHOWN), room)]
    number = int(age / _READ) % len(pages)
    if len(pages) > 1:
        arrived += f"   (values {number + 1} of {len(pages)})"
    return Group(heading, instances_table(snapshot), Text(arrived), _values(statsd, pages[number]))


def _values(statsd: StatsdPort, shown: tuple[_Row, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("metric", "last value", "meaning"):
        table.add_column(heading, justify="right" if heading == "last value" else "left", no_wrap=True)
    for name, tags, meaning in shown:
        value = statsd.value(name, *tags)
        table.add_row(name, "-" if value is None else _short(value), meaning)
    return table


def _short(value: str) -> str:
    number = float(value)
    return f"{number:,.0f}" if number.is_integer() else f"{number:,.2f}"


if __name__ == "__main__":
    sys.exit(main())
