"""A rule in a real agent, and what arrives at notifiers: once, with the evidence, over a restart, and its end."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.process import Running, wait_until
from servers import RedisServer, valkey9

AGENT = """
sinks: [{{type: file, path: out.jsonl}}]
reload: {{watch: false}}
notifiers:
  - {{type: webhook, name: oncall, url: "http://127.0.0.1:{port}/oncall"}}
  - {{type: webhook, name: team, url: "http://127.0.0.1:{port}/team"}}
routes:
  - {{match: {{severity: warning}}, notify: [team]}}
"""
RULES = """
alerts:
  - {name: cache down, when: status(redis/cache) == critical for 2 of 3 runs, notify: [oncall]}
  - {name: cache shaky, when: status(redis/cache) == critical, severity: warning}
"""


@pytest.fixture
def told() -> Iterator[tuple[int, list[tuple[str, dict[str, Any]]]]]:
    """A receiver's port, and what it was told: path and alert."""
    heard: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.extend((self.path, one) for one in body["alerts"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_people_hear_once_that_it_is_down_and_once_that_it_is_back(tmp_path: Path, told: Any) -> None:
    port, heard = told
    server = RedisServer(valkey9(), tmp_path / "redis")
    server.start()
    server.kill()
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "agent.yaml").write_text(AGENT.format(port=port))
    (folder / "alerts.yaml").write_text(RULES)
    redis = f"instances: [{{name: cache, host: 127.0.0.1, port: {server.port}, interval: 300ms}}]"
    (folder / "redis.yaml").write_text(redis)
    with Running(cwd=tmp_path) as agent:
        agent.wait_for("firing cache down")
        wait_until(lambda: len(heard) >= 2, "both alerts to arrive")
        assert agent.end(signal.SIGTERM) == 0
    with Running(cwd=tmp_path) as agent:
        agent.wait_for("redis/cache: failing")
        server.start()
        try:
            wait_until(lambda: len(heard) >= 4, "both to be over")
            assert agent.end(signal.SIGTERM) == 0
        finally:
            server.kill()  # after the agent, which would hear of it
    ways = sorted((path, one["rule"], one["state"], one["severity"]) for path, one in heard)
    assert ways == [
        ("/oncall", "cache down", "firing", "critical"),
        ("/oncall", "cache down", "resolved", "critical"),
        ("/team", "cache shaky", "firing", "warning"),
        ("/team", "cache shaky", "resolved", "warning"),
    ]
    down = next(one for _, one in heard if one["rule"] == "cache down")
    assert down["evidence"]["condition"] == "status(redis/cache) == critical for 2 of 3 runs"
    assert f"nothing listens on 127.0.0.1:{server.port}" in down["evidence"]["error"]
    assert {one["key"] for _, one in heard} == {"cache down", "cache shaky"}
    assert {one["since"] for _, one in heard if one["rule"] == "cache down"} == {down["since"]}
