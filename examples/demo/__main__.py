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
from collections.abc import Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from cloud import aws_emulator, settled, sign_in
from living import living_cluster
from oncall import on_call
from payments.traffic import PASSWORD as LOGIN
from payments.traffic import open_all_day
from postgres import Pair, UnavailableError, postgres_pair
from screen import Screen, show
from server import free_port, redis_server
from service import Service, payments_service
from shop import open_shop, sell
from statsd import free_udp_port, listen
from traffic import pay_and_browse

from vedette.agent import Agent
from vedette.cli.common import run_loop
from vedette.config import load
from vedette.logs import set_up
from vedette.plugins import Registry
from vedette.state import StateStore
from vedette.units import parse_duration

_CONF = Path(__file__).parent / "conf.d"
_PASSWORD = "demo-only-password"
_ENVIRONMENT = {"ENVIRONMENT": "demo", "DD_SERVICE": "paypal-clone", "APP_VERSION": "1.0.0"}
_OF_POSTGRES = ("alerts.yaml", "postgres.yaml", "synthetic.yaml", "business_sql.yaml", "statsd.yaml")
_PATIENCE = 5.0  # seconds that the agent waits for the AWS emulator once all others are there
_OF_AWS = ("cloudwatch.yaml", "sqs.yaml")


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
        somebody, service = await stack.enter_async_context(on_call()), None
        more = {"DEMO_API_PASSWORD": LOGIN, "DEMO_ONCALL_PORT": str(somebody.port)}
        if servers.pair is not None:
            await open_shop(servers.pair.primary, _PASSWORD)
            service, places = _serve_payments(stack, servers, servers.pair)
            more |= places
        more["DEMO_KUBECONFIG"] = str(await stack.enter_async_context(living_cluster(servers.folder)))
        if servers.pair is not None:
            await settled(int(more["DEMO_API_URL"].rpartition(":")[2]), _PATIENCE)
        if servers.aws:
            await settled(servers.aws, _PATIENCE)
        await _run_agent(servers, more, duration, Screen(somebody, service))


def _serve_payments(stack: AsyncExitStack, servers: Servers, pair: Pair) -> tuple[Service, dict[str, str]]:
    """Start the service; returns where it is and where it sends its metrics to, for the agent."""
    port, apps = free_port(), free_udp_port()
    environ = {
        **_ENVIRONMENT,
        "DD_SERVICE": "payments",
        "DD_DOGSTATSD_URL": f"udp://127.0.0.1:{apps}",
        "DATABASE_URL": f"postgresql://shop:{_PASSWORD}@127.0.0.1:{pair.primary}/shop",
        "REDIS_URL": f"redis://:{_PASSWORD}@127.0.0.1:{servers.redis_port}",
    }
    service = stack.enter_context(payments_service(port, servers.folder, environ))
    return service, {"DEMO_API_URL": f"http://127.0.0.1:{port}", "DEMO_APPS_PORT": str(apps)}


async def _run_agent(servers: Servers, more: dict[str, str], duration: float | None, screen: Screen) -> None:
    folder, redis_port, pair = servers.folder, servers.redis_port, servers.pair
    transport, statsd = await listen()
    prometheus_port = free_port(9464)
    environ = _environ(servers, transport.get_extra_info("sockname")[1], prometheus_port) | more
    configuration = await asyncio.to_thread(load, _conf(servers), Registry(), environ=environ)
    for problem in configuration.problems:
        print(problem, file=sys.stderr)
    set_up(configuration.agent.log, configuration.masker)
    agent = Agent(configuration, StateStore(folder / "state"), environ)
    jobs = [show(screen, agent, statsd, prometheus_port)]
    if pair is None:
        jobs.append(pay_and_browse(redis_port, _PASSWORD))
    else:
        jobs += [sell(pair.primary, _PASSWORD), open_all_day(more["DEMO_API_URL"])]
    if screen.service is not None:
        jobs.append(screen.service.keep_up())
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


if __name__ == "__main__":
    sys.exit(main())
