"""An agent whose machine's clock is set while it runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from cli.process import Running, vedette, wait_until
from cli.test_commands import conf
from servers import free_port

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
RULES = """
alerts:
  - {name: gone, when: no data(redis/cache) for 20m}
  - {name: long, when: status(redis/cache) == critical, for: 20m}
  - {name: down, when: status(redis/cache) == critical for 3 of 3 runs}
"""


@pytest.mark.soak
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
@pytest.mark.parametrize("step", ["+1h", "-1h"])
def test_an_agent_whose_clock_is_set_tells_nothing_for_that(tmp_path: Path, step: str) -> None:
    conf(
        tmp_path,
        agent="sinks: [{type: file, path: out.jsonl}]\ncontrol_socket: c.sock\nreload: {watch: false}",
        redis=f"instances: [{{name: cache, host: 127.0.0.1, port: {free_port()}, interval: 500ms}}]",
        alerts=RULES,
    )
    offset = tmp_path / "offset"
    offset.write_text("+0")
    fake = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

    def rows() -> dict[str, str]:
        done = vedette("alerts", "--json", cwd=tmp_path)
        return {row["key"]: row["state"] for row in json.loads(done.stdout or '{"alerts": []}')["alerts"]}

    with Running(cwd=tmp_path, **fake) as agent:
        agent.wait_for("firing down")
        offset.write_text(step)
        agent.wait_for("the clock was set")
        before = (tmp_path / "conf.d" / "out.jsonl").stat().st_size
        wait_until(lambda: (tmp_path / "conf.d" / "out.jsonl").stat().st_size > 3 * before, "runs after that")
        assert rows() == {"gone": "ok", "long": "pending", "down": "firing"}
        assert agent.end(signal.SIGTERM) == 0
    assert [line for line in agent.lines if "firing" in line or "resolved" in line][1:] == []
