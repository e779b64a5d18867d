"""The tutorials, done as a reader does them: files saved, commands typed, what they show compared with the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from cli.process import environ
from servers import free_port, until
from test_readme import BLOCK, NAMED, ROOT

FILE = re.compile(r"^```python (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("watch-a-users-journey.md", "numbers-from-sql.md", "plan-and-doctor.md", "logs.md")


@pytest.mark.parametrize("page", PAGES)
def test_a_reader_gets_what_the_page_shows(page: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / page).read_text()
    port = str(free_port())
    text = text.replace("8080", port)
    (tmp_path / "conf.d").mkdir()
    for name, body in FILE.findall(text):
        (tmp_path / name).write_text(body)
    for _, body in BLOCK.findall(text):
        if found := NAMED.match(body):
            (tmp_path / "conf.d" / found[1]).write_text(body)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**environ(tmp_path / "state"), "PATH": path}
    background: list[subprocess.Popen[bytes]] = []
    shown = ""
    try:
        for kind, body in BLOCK.findall(text):
            if kind == "text":
                for line in body.splitlines():
                    assert line in shown, f"the page shows {line!r}, the commands showed:\n{shown}"
            elif kind == "sh" and body.endswith("&\n"):
                background.append(subprocess.Popen(body.removesuffix("&\n").split(), cwd=tmp_path, env=variables))
                until(lambda: _answers(port), "the page's server")
            elif kind == "sh":
                variables |= dict(re.findall(r'^export (\w+)="(.*)"$', body, re.MULTILINE))
                done = subprocess.run(
                    ["sh", "-ec", body],
                    cwd=tmp_path,
                    env=variables,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=60,
                )
                shown = done.stdout + done.stderr
                assert done.returncode == 0, shown
                assert "Traceback" not in shown
    finally:
        for process in background:
            process.kill()
            process.wait()


def _answers(port: str) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    except httpx.TransportError:
        return False
    return True
