"""What the tests of the service ask of the machine it runs on, and the programs they bring there."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from debian_machine import Machine

PAGE = "http://127.0.0.1:9464/metrics"
SAMPLES = "/var/lib/vedette/samples.jsonl"
HANG = """
import time
from vedette import Check, CheckConfig, hookimpl

class Hang(Check[CheckConfig]):
    name = "hang"
    async def run(self, emit):
        time.sleep(3600)

@hookimpl
def register_checks(register):
    register(Hang)
"""
FOREIGN = """
from datadog_checks.base import AgentCheck

class Queue(AgentCheck):
    def check(self, instance):
        self.gauge("foreign.depth", 7)
"""
DOCKER = """
import http.server, os, socketserver

class Daemon(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ApiVersion": "1.45"}')

    def log_message(self, *_):
        pass

server = socketserver.UnixStreamServer("/run/docker.sock", Daemon)
os.chmod("/run/docker.sock", 0o660)
server.serve_forever()
"""
"""Stands in for the Docker daemon: a socket of the group docker, with HTTP behind it."""
CURL = """
import http.client, socket

class Docker(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")

docker = Docker("localhost")
docker.request("GET", "/version")
print(docker.getresponse().read().decode())
"""
SALES = """
import socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"payments.sales:5|c", "/run/vedette/dsd.socket")
"""

RAW = """
import os, socket

socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
os.setuid(os.getuid())
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", 68))
print("sent by check_icmp and check_dhcp")
"""
"""What check_icmp and check_dhcp ask of the system."""
CLOSED = "nothing listens on 127.0.0.1:9"
CLIENTS = {
    "business_sql": (
        "defaults: {queries: [{sql: SELECT 7 AS n, columns: {n: {metric: shop.sold}}}]}\ninstances:\n"
        "  - {name: server, url: 'postgresql+asyncpg://u:p@127.0.0.1:9/shop'}\n"
        "  - {name: file, url: 'sqlite+aiosqlite://'}\n",
        (f"business_sql/server failing: {CLOSED}/shop", "business_sql/file ok"),
    ),
    "cloudwatch": (
        "instances:\n  - {region: eu-central-1, endpoint_url: 'http://127.0.0.1:8009', "
        "static: [{namespace: AWS/SQS, metric: NumberOfMessagesSent}]}\n",
        ("cloudwatch/cloudwatch failing: eu-central-1: cloudwatch:GetMetricData: the answer is not that of AWS",),
    ),
    "dns": (
        "instances:\n  - {hostname: shop.example, nameservers: [127.0.0.1], nameserver_port: 9}\n",
        ("dns/dns failing: shop.example: 127.0.0.1: connection refused",),
    ),
    "k8s": (
        "instances:\n  - {kubeconfig: /srv/clients/kubeconfig, run_on: every_node}\n",
        (f"k8s/k8s failing: the API server: {CLOSED}",),
    ),
    "postgres": (
        "instances:\n  - {host: 127.0.0.1, port: 9, username: u, password: p}\n",
        (f"postgres/postgres failing: {CLOSED}",),
    ),
    "rabbitmq": (
        "instances:\n  - {url: 'http://127.0.0.1:8009'}\n",
        ("rabbitmq/rabbitmq failing: the server answers 404 for /api/overview",),
    ),
    "sqs": (
        "instances:\n  - {region: eu-central-1, endpoint_url: 'http://127.0.0.1:8009', queues: [orders]}\n",
        ("sqs/sqs failing: eu-central-1: sqs:GetQueueUrl: AWS answers 501 501",),
    ),
    "tls": (
        "instances:\n  - {host: 127.0.0.1, port: 9}\n",
        ("tls/tls failing: 127.0.0.1 port 9: connection refused",),
    ),
}
"""Checks that talk to servers which are not in the machine: a file, and what they say of port 9, where nobody listens.

At port 8009 is an HTTP server that knows nothing: three say of a closed port what they say of a forbidden one.
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: shop
contexts: [{name: shop, context: {cluster: shop, user: agent}}]
clusters: [{name: shop, cluster: {server: "https://127.0.0.1:9"}}]
users:
  - name: agent
    user:
      exec: {apiVersion: client.authentication.k8s.io/v1, command: /srv/clients/login, interactiveMode: Never}
"""
LOGIN = """#!/bin/sh
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}'
"""
"""Without it the k8s check says that the login program failed."""
EACH_CLIENT = """#!/bin/sh
export AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b
for check in $(cd /srv/clients/conf.d && ls | sed s/.yaml//); do
    vedette check $check --conf /srv/clients/conf.d 2>&1 | grep -E '^[a-z_0-9]+/|Error|Traceback' &
done
wait
"""


def page(machine: Machine) -> str:
    """What Prometheus would get; empty while nobody answers."""
    asked = f"import urllib.request as r; print(r.urlopen('{PAGE}', timeout=5).read().decode())"
    status, shown = machine.tries(f'python3 -c "{asked}"')
    return shown if status == 0 else ""


def instances(machine: Machine) -> dict[str, dict[str, Any]]:
    """Each instance's vitals, by id; empty while the agent does not answer."""
    status, shown = machine.tries("vedette status --json")
    return {one["instance"]: one for one in json.loads(shown)["instances"]} if status < 3 and shown[:1] == "{" else {}


def said(machine: Machine, instance: str, state: str) -> str:
    """What an instance says of itself, with its hint, once it is in this state."""
    found = instances(machine).get(instance, {})
    return f"{found['message']} {found.get('hint', '')}" if found.get("state") == state else ""


def rows(machine: Machine) -> list[dict[str, Any]]:
    """What the file sink has written."""
    shown = machine.run(f"cat {SAMPLES} 2>/dev/null || true")
    return [json.loads(line) for line in shown[: shown.rfind("\n") + 1].splitlines()]


def lines(machine: Machine) -> list[str]:
    """The log lines that the file sink has, in its order."""
    return [row["value"] for row in rows(machine) if row.get("kind") == "log" and row["instance"] == "shop"]


@dataclass(frozen=True, slots=True)
class Back:
    """How a service came back after its main process was hurt; all times are of one clock, in seconds.

    Attributes:
        started: from the hurt until systemd started the new process.
        took: from the hurt until that was ready.
        waited: of that, what it could not run for want of a processor; more, if somebody looked late.
        ended: how systemd says that the old process had ended.
    """

    started: float
    took: float
    waited: float
    ended: str

    def __str__(self) -> str:
        return f"{self.took:.2f} s (started after {self.started:.2f} s; {self.waited:.2f} s without a processor)"


def killed(machine: Machine, number: str, patience: float = 60) -> Back:
    """Send the main process a signal, and wait until the service is there again."""
    before, restarts = machine.show("MainPID"), int(machine.show("NRestarts"))
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    machine.run(f"kill -{number} {before}")
    machine.until(
        lambda: int(machine.show("NRestarts")) > restarts and machine.show("ActiveState") == "active",
        "the service to come back",
        patience,
    )
    now = machine.show("MainPID")
    assert now not in (before, "0")
    waited = int(machine.run(f"cat /proc/{now}/schedstat").split()[1]) / 1e9
    ended = machine.run("journalctl -u vedette -o cat --no-pager | grep 'Failed with result' | tail -1")
    started, ready = (
        int(machine.show(f"{name}TimestampMonotonic")) / 1e6 - begun for name in ("ExecMainStart", "ActiveEnter")
    )
    return Back(started, ready, waited, ended.strip())


def as_the_service(machine: Machine, drop_in: str, command: str, *, whole: bool = False) -> str:
    """What a command prints in a unit like the agent's, with one of the package's drop-ins or none.

    Args:
        machine: where.
        drop_in: its name.
        command: without a single quote.
        whole: with the drop-in's settings that are commented out, too.
    """
    unit = "/run/systemd/system/tried.service"
    own = r"^(Type|NotifyAccess|Exec.*|Restart.*|WatchdogSec|.*Directory.*)="
    machine.run(f"grep -Ev '{own}' /lib/systemd/system/vedette.service > {unit} && mkdir -p {unit}.d")
    program = f"Type=oneshot\nExecStart=/bin/sh -c '{command.replace('$', '$$')}'\n"
    output = "StandardOutput=truncate:/run/tried.out\nStandardError=inherit\n"  # opened outside the sandbox
    machine.write(f"{unit}.d/command.conf", f"[Service]\n{program}{output}")
    if drop_in:
        uncomment = r"s/^#([A-Z][A-Za-z]+=)/\1/" if whole else ""
        machine.run(f"sed -E '{uncomment}' /usr/share/doc/vedette/systemd/{drop_in}.conf > {unit}.d/{drop_in}.conf")
    machine.run("systemctl daemon-reload")
    machine.tries("systemctl start tried")
    shown = machine.run("cat /run/tried.out")
    machine.tries(f"rm -r {unit} {unit}.d /run/tried.out; systemctl reset-failed tried; systemctl daemon-reload")
    return shown
