"""A real RabbitMQ with its management plugin, and as much of an AMQP client as makes a consumer."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from servers import Server, free_port

SCRIPT = next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))), None)


class Broker(Server):
    """One node with an own epmd, on loopback alone; `port` is the management plugin's."""

    start_timeout = 120.0  # seven seconds of CPU, at best

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.amqp, self.epmd_port, self.nodes_port = free_port(), free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(auth=("guest", "guest"), trust_env=False, timeout=60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command_line(self) -> list[str]:
        each = "[{60, 1}]"  # samples of a second, which is how old statistics are
        (self.directory / "advanced.config").write_text(
            f'[{{rabbit, [{{tcp_listeners, [{{"127.0.0.1", {self.amqp}}}]}}, {{collect_statistics_interval, 200}}]}},\n'
            f' {{rabbitmq_management, [{{tcp_config, [{{ip, "127.0.0.1"}}, {{port, {self.port}}}]}},\n'
            f"   {{sample_retention_policies, [{{global, {each}}}, {{basic, {each}}}, {{detailed, {each}}}]}}]}}].\n"
        )
        (self.directory / "plugins").write_text("[rabbitmq_management].\n")
        settings = {
            "HOME": self.directory,
            "ERL_EPMD_PORT": self.epmd_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script then becomes the server, and leaves nothing behind
            "RABBITMQ_NODENAME": "test@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": self.directory / "none",
            "RABBITMQ_ADVANCED_CONFIG_FILE": self.directory / "advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.directory / "plugins",
            "RABBITMQ_MNESIA_BASE": self.directory / "mnesia",
            "RABBITMQ_LOG_BASE": self.directory,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_DIST_PORT": self.nodes_port,
            "RABBITMQ_PID_FILE": self.directory / "pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }
        return ["env", *(f"{name}={value}" for name, value in settings.items()), str(SCRIPT), "-noinput"]

    def start(self) -> None:
        self._epmd = subprocess.Popen(
            ["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        super().start()

    def stop(self) -> None:
        self._client.close()
        self.kill()  # there is nothing to be kept, and a farewell takes seconds

    def kill(self) -> None:
        super().kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return bool(self.ask("GET", "overview"))
        except (OSError, httpx.HTTPError, AssertionError):
            return False

    def ask(self, method: str, *path: str, **body: Any) -> Any:
        """Call the API; the answer."""
        url = "/".join((self.url, "api", *(quote(part, safe="") for part in path)))
        done = self._client.request(method, url, json=body if method != "GET" else None)
        assert done.status_code < 300, (method, path, done.status_code, done.text)
        return done.json() if done.content else None

    def queue(self, vhost: str, name: str, kind: str = "classic") -> None:
        """Make a queue."""
        self.ask("PUT", "queues", vhost, name, durable=True, arguments={"x-queue-type": kind})

    def publish(self, vhost: str, queue: str, number: int) -> None:
        """Send messages of three bytes."""
        message = {"properties": {}, "routing_key": queue, "payload": "pay", "payload_encoding": "string"}
        for _ in range(number):
            assert self.ask("POST", "exchanges", vhost, "amq.default", "publish", **message) == {"routed": True}

    def user(self, name: str, tags: str, *vhosts: str) -> None:
        """Make a user who may log in to these vhosts and do nothing there."""
        self.ask("PUT", "users", name, password="pw", tags=tags)
        for vhost in vhosts:
            self.ask("PUT", "permissions", vhost, name, configure="", write="", read="")

    @contextmanager
    def consumer(self, vhost: str, queue: str, prefetch: int) -> Iterator[None]:
        """Somebody who takes so many messages and acknowledges none.

        Source: AMQP 0-9-1, "Method index": class and number of each method, and its arguments.
        """
        with socket.create_connection(("127.0.0.1", self.amqp), timeout=20) as line:
            stream = line.makefile("rb")

            def say(channel: int, what: tuple[int, int], arguments: bytes, awaited: tuple[int, int] | None) -> None:
                payload = struct.pack(">HH", *what) + arguments
                line.sendall(struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce")
                if awaited:
                    hear(awaited)

            def hear(awaited: tuple[int, int]) -> None:
                seen = None
                while seen != awaited:
                    kind, _, size = struct.unpack(">BHI", stream.read(7))
                    payload = stream.read(size + 1)
                    seen = struct.unpack(">HH", payload[:4]) if kind == 1 else None

            line.sendall(b"AMQP\x00\x00\x09\x01")
            hear((10, 10))
            login = b"\x00guest\x00guest"
            start = struct.pack(">I", 0) + _short("PLAIN") + struct.pack(">I", len(login)) + login + _short("en_US")
            say(0, (10, 11), start, (10, 30))
            say(0, (10, 31), struct.pack(">HIH", 10, 131_072, 0), None)
            say(0, (10, 40), _short(vhost) + b"\x00\x00", (10, 41))
            say(1, (20, 10), b"\x00", (20, 11))
            say(1, (60, 10), struct.pack(">IHB", 0, prefetch, 0), (60, 11))
            say(1, (60, 20), b"\x00\x00" + _short(queue) + b"\x00\x00" + struct.pack(">I", 0), (60, 21))
            yield


def _short(text: str) -> bytes:
    return struct.pack(">B", len(text)) + text.encode()
