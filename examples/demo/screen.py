"""What the demo shows: the instances, what people were told, and the values that arrive."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import TypeAlias

from oncall import OnCall
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from service import Service
from statsd import StatsdPort

from vedette.agent import Agent
from vedette.cli.tables import instances_table

_USD, _EUR, _PAYMENT = "currency:USD", "currency:EUR", "type:payment"
_PRIMARY = "instance:shop-primary"
_FLOW = "flow:payment-flow"
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
class Screen:
    """What is shown beside the agent and its values.

    Attributes:
        somebody: who is on call.
        service: the payments service; None where its database cannot run.
    """

    somebody: OnCall
    service: Service | None


async def show(screen: Screen, agent: Agent, statsd: StatsdPort, prometheus_port: int) -> None:
    """Show it until cancelled."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    if console.is_terminal:
        with Live(
            console=console,
            refresh_per_second=2,
            get_renderable=lambda: _screen(screen, agent, statsd, prometheus_port, console.height),
        ):
            await asyncio.Event().wait()
    while True:  # no terminal, such as CI: a picture every few seconds
        await asyncio.sleep(4)
        console.print(_screen(screen, agent, statsd, prometheus_port))


def _screen(screen: Screen, agent: Agent, statsd: StatsdPort, prometheus_port: int, height: int = 10_000) -> Group:
    snapshot = agent.snapshot()
    age = time.time() - snapshot.started
    heading = Text.assemble(
        ("vedette demo", "bold"),
        f"   running {age:.0f}s   Prometheus page: http://127.0.0.1:{prometheus_port}/metrics   Ctrl-C ends it",
    )
    arrived = f"\nStatsD port: {statsd.packets} packets, {statsd.metrics} metrics, {len(statsd.latest)} series"
    people = _people(screen)
    room = max(_FEWEST, height - len(snapshot.instances) - len(people.plain.splitlines()) - _FRAME)
    pages = [_SHOWN[start : start + room] for start in range(0, len(_SHOWN), room)]
    number = int(age / _READ) % len(pages)
    if len(pages) > 1:
        arrived += f"   (values {number + 1} of {len(pages)})"
    return Group(heading, instances_table(snapshot), people, Text(arrived), _values(statsd, pages[number]))


def _people(screen: Screen) -> Text:
    """What whoever is on call was told, and how to be told something."""
    service = screen.service
    if service is None:
        return Text()
    hint = f"kill -9 {service.pid} ends the payments service" if service.pid else "gone, comes back within 20 s"
    lines = [f"On call was told ({hint}):", *(screen.somebody.told or ("nothing",))]
    return Text("\n" + "\n  ".join(lines))


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
