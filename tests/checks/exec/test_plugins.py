"""Real Monitoring Plugins, and perfdata as the guidelines and the wild have it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.parts import Recorder, instance
from vedette import Diagnosis, Kind, Status
from vedette.runner import Runner
from vedette.testing import run_check
from vedette_checks.exec import Exec, ExecConfig
from vedette_checks.exec.perfdata import Perf, read_output

pytestmark = pytest.mark.anyio
FOLDER = Path("/usr/lib/nagios/plugins")
needs_plugins = pytest.mark.skipif(
    not (FOLDER / "check_dummy").exists(),
    reason="the Monitoring Plugins are not installed: apt, monitoring-plugins-basic",
)
STATES = (Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN)


@pytest.fixture(scope="module")
def page() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


REAL: list[tuple[str, str, int, set[str]]] = [
    ("check_dummy 0 fine", "OK: fine", 0, set()),
    ("check_dummy 1 hm", "WARNING: hm", 1, set()),
    ("check_dummy 2 oh", "CRITICAL: oh", 2, set()),
    ("check_dummy 3 what", "UNKNOWN: what", 3, set()),
    ("check_dummy 7", ".*", 3, set()),
    ("check_load -w 10000 -c 20000", "LOAD OK - .*", 0, {"load1", "load5", "load15"}),
    ("check_load -w 0 -c 20000", "WARNING - .*|OK - .*|LOAD WARNING.*", -1, {"load1", "load5", "load15"}),
    ("check_procs -w 1: -c 1:", "PROCS OK: .*", 0, {"procs"}),
    ("check_procs -w 100000: -c 0:", "PROCS WARNING: .*", 1, {"procs"}),
    ("check_procs -w 1: -c 100000:", "PROCS CRITICAL: .*", 2, {"procs"}),
    ("check_users -w 10000 -c 20000", "USERS OK - .*", 0, {"users"}),
    ("check_disk -w 0% -c 0% -p /", "DISK OK .*", 0, {"root"}),
    ("check_disk -w 100% -c 0% -p /", "DISK WARNING .*", 1, {"root"}),
    ("check_disk -w 100% -c 100% -p /", "DISK CRITICAL .*", 2, {"root"}),
    ("check_disk -w 1% -p /nowhere/at/all", ".*", -2, set()),
    ("check_file_age -w 999999999 -c 999999999 -f FILE", "FILE_AGE OK: .*", 0, {"age", "size"}),
    ("check_tcp -H 127.0.0.1 -p PORT", "TCP OK - .*", 0, {"time"}),
    ("check_tcp -H 127.0.0.1 -p CLOSED", ".*refused.*", 2, set()),
    ("check_http -I 127.0.0.1 -p PORT", "HTTP OK: .*", 0, {"time", "size"}),
    ("check_http -I 127.0.0.1 -p PORT -s absent", "HTTP CRITICAL: .*", 2, {"time", "size"}),
    ("check_http --no-such-option", ".*", 3, set()),
]
"""What is called, what it says, its status (-1: whatever the machine makes of it, -2: not OK), its perfdata."""


@needs_plugins
@pytest.mark.parametrize(("command", "text", "status", "labels"), REAL, ids=[row[0] for row in REAL])
async def test_real_plugins(
    command: str, text: str, status: int, labels: set[str], page: int, closed_port: int, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x" * 100)
    for word, meaning in (("PORT", str(page)), ("CLOSED", str(closed_port)), ("FILE", str(tmp_path / "file"))):
        command = re.sub(rf"\b{word}\b", meaning, command)
    words = [str(FOLDER / command.split()[0]), *command.split()[1:]]
    run = await run_check(Exec, {"name": "x", "command": words, "timeout": "20s"})
    itself = subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})  # noqa: ASYNC221
    said = run.status("exec.status")
    assert said is STATES[min(itself.returncode, 3)]
    assert run.value("exec.exit_status") == itself.returncode
    if status >= 0:
        assert said is STATES[status]
    elif status == -2:
        assert said is not Status.OK
    assert re.match(f"(?s)({text})", run.message("exec.status") or ""), run.message("exec.status")
    got = {sample.name.removeprefix("exec.x.") for sample in run.batch.samples if sample.name.startswith("exec.x.")}
    assert got == labels


@needs_plugins
async def test_real_plugins_whose_server_says_nothing() -> None:
    """One gives up by itself; the other would wait for an hour, and is ended at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        words = [str(FOLDER / "check_tcp"), "-H", "127.0.0.1", "-p", port, "-e", "hello", "-t"]
        patient = await run_check(Exec, {"name": "x", "command": [*words, "1"], "timeout": "20s"})
        assert patient.status("exec.status") is Status.CRITICAL
        assert patient.message("exec.status") == "CRITICAL - Socket timeout after 1 seconds"
        own = instance(Exec, name="x", command=[*words, "3600"], timeout="300ms")
        runner = Runner(own, Recorder().surroundings)
        batch = await runner.run()
        await runner.stop()
    (said,) = batch.statuses
    assert (said.status, said.message) == (Status.CRITICAL, "the program did not end in time")
    assert [one for one in psutil.Process().children() if one.name() == "check_tcp"] == []


@needs_plugins
async def test_values_of_a_real_plugin_are_in_base_units(page: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 100)
    words = [str(FOLDER / "check_file_age"), "-w", "999999999", "-c", "999999999", "-f", str(tmp_path / "file")]
    run = await run_check(Exec, {"name": "age", "command": words})
    assert run.value("exec.age.size") == 100
    words = [str(FOLDER / "check_disk"), "-w", "0%", "-c", "0%", "-p", "/"]
    run = await run_check(Exec, {"name": "disk", "command": words, "thresholds": True})
    total = shutil.disk_usage("/").total
    assert run.value("exec.disk.root", perfdata="/") == pytest.approx(shutil.disk_usage("/").used, rel=0.05)
    assert run.value("exec.disk.root.maximum", perfdata="/") == pytest.approx(total, rel=0.06)
    words = [str(FOLDER / "check_http"), "-I", "127.0.0.1", "-p", str(page)]
    run = await run_check(Exec, {"name": "web", "command": words})
    took = run.value("exec.web.time")
    assert isinstance(took, float)
    assert 0 < took < 10


@pytest.mark.parametrize(
    ("text", "value", "unit", "thresholds"),
    [
        ("5", 5, "", {}),
        ("5s", 5, "second", {}),
        ("5ms;10;20;0;", 0.005, "second", {"warning": 0.01, "critical": 0.02, "minimum": 0}),
        ("5us", 5e-6, "second", {}),
        ("5µs", 5e-6, "second", {}),
        ("5ns", 5e-9, "second", {}),
        ("95%;90;95;0;100", 95, "percent", {"warning": 90, "critical": 95, "minimum": 0, "maximum": 100}),
        ("5B", 5, "byte", {}),
        ("5KB", 5 * 1024, "byte", {}),
        ("2MB;1;3", 2 * 1024**2, "byte", {"warning": 1024**2, "critical": 3 * 1024**2}),
        ("2GiB", 2 * 1024**3, "byte", {}),
        ("2TB", 2 * 1024**4, "byte", {}),
        ("1PB", 1024**5, "byte", {}),
        ("5kB", 5 * 1024, "byte", {}),
        ("12345c", 12345, "counter", {}),
        ("45C;70;80", 45, "C", {"warning": 70, "critical": 80}),
        ("10Mb", 10, "Mb", {}),
        ("10b", 10, "b", {}),
        ("-1.5e3;@10:20;~:5;;", -1500, "", {}),
        ("0,25s", 0.25, "second", {}),
        (".5", 0.5, "", {}),
        ("3rpm", 3, "rpm", {}),
        ("18446744073709551615", 18446744073709551615.0, "", {}),
    ],
)
def test_perfdata_with_every_unit(text: str, value: float, unit: str, thresholds: dict[str, float]) -> None:
    reading = read_output(f"OK|label={text}")
    assert reading.items == (Perf("label", pytest.approx(value), unit, pytest.approx(thresholds)),)
    assert reading.strange == ()


def test_a_megabyte_of_words_behind_a_bar_is_not_read_to_its_end() -> None:
    reading = read_output("OK | a=1 " + "x " * 500_000 + "b=2")
    assert [one.label for one in reading.items] == ["a"]
    assert reading.strange == ("x",) * 1_000


@pytest.mark.parametrize(
    ("output", "text", "details", "items", "strange"),
    [
        ("", "", "", [], ()),
        ("fine", "fine", "", [], ()),
        ("a | x=1 y=2", "a", "", [("x", 1), ("y", 2)], ()),
        ("a|'it''s = me'=3;;;", "a", "", [("it's = me", 3)], ()),
        ("a|x=U y=2", "a", "", [("y", 2)], ()),
        ("one | a=1\ntwo\nthree | b=2\nc=3 d=4", "one", "two\nthree", [("a", 1), ("b", 2), ("c", 3), ("d", 4)], ()),
        ("a|x= y=z 17 =3 w=4", "a", "", [("w", 4)], ("x=", "y=z", "17", "=3")),
        ("a|x=1;2;3;4;5;6", "a", "", [("x", 1)], ()),
        ("\x00\x01|||=", "\x00\x01", "", [], ("||=",)),
        ("a | x=1\r\nb", "a", "b", [("x", 1)], ()),
    ],
)  # fmt: skip
def test_any_output_has_a_reading(
    output: str, text: str, details: str, items: list[tuple[str, float]], strange: tuple[str, ...]
) -> None:
    reading = read_output(output)
    assert (reading.text, reading.details, reading.strange) == (text, details, strange)
    assert [(one.label, one.value) for one in reading.items] == items


async def test_totals_stay_totals_and_labels_become_names(caplog: pytest.LogCaptureFixture) -> None:
    words = ["echo", "fine|/=1B /var/log=2B hits=7c 'Größe (MB)'=3MB nonsense a/b=1 a-b=2"]
    run = await run_check(Exec, {"name": "x", "command": words, "namespace": "shop"})
    got = {
        (one.name, one.value, one.kind, *(tag for tag in one.tags if tag.startswith("perfdata")))
        for one in run.batch.samples
        if one.name.startswith("shop.")
    }
    assert got == {
        ("shop.root", 1, Kind.GAUGE, "perfdata:/"),
        ("shop.var_log", 2, Kind.GAUGE, "perfdata:/var/log"),
        ("shop.hits", 7, Kind.COUNTER),
        ("shop.Gr_e_MB", 3 * 1024**2, Kind.GAUGE, "perfdata:Größe (MB)"),
        ("shop.a_b", 1, Kind.GAUGE, "perfdata:a/b"),
        ("shop.a_b", 2, Kind.GAUGE, "perfdata:a-b"),
    }
    assert "perfdata that is none was left out: nonsense" in caplog.text


async def test_one_that_dies_or_says_nothing() -> None:
    run = await run_check(Exec, {"name": "x", "command": ["sh", "-c", "echo dying; kill -9 $$"]})
    assert (run.status("exec.status"), run.message("exec.status")) == (Status.UNKNOWN, "dying")
    assert run.error is not None
    assert run.error.message == "the program was ended by SIGKILL"
    run = await run_check(Exec, {"name": "x", "command": ["sh", "-c", "echo no config >&2; exit 2"]})
    assert (run.status("exec.status"), run.message("exec.status")) == (Status.CRITICAL, "no config")
    run = await run_check(Exec, {"name": "x", "command": ["true"]})
    assert (run.status("exec.status"), run.message("exec.status")) == (Status.OK, "the program printed nothing")
    with socket.create_server(("127.0.0.1", 0)):
        run = await run_check(Exec, {"name": "x", "command": ["/nowhere/at/all"]})
    assert run.error is not None
    assert run.error.message == "/nowhere/at/all cannot be started in /: No such file or directory"
    assert run.status("exec.status") is Status.UNKNOWN


async def test_what_doctor_says(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\necho fine\n")

    async def said(*command: str) -> list[tuple[str, str, str]]:
        diagnosis = Diagnosis()
        await Exec(ExecConfig(name="x", command=command, directory=tmp_path)).diagnose(diagnosis)
        return [(one.what, str(one.grade), one.snippet) for one in diagnosis.symptoms]

    assert await said("sh") == [("directory", "ok", ""), ("program", "ok", "")]
    assert await said("./script") == [("directory", "ok", ""), ("program", "failed", f"chmod a+x {tmp_path}/script")]
    (tmp_path / "script").chmod(0o755)
    assert await said("./script") == [("directory", "ok", ""), ("program", "ok", "")]
    assert (await said("no-such-program-anywhere"))[1][:2] == ("program", "failed")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"command": "check_disk -w '10 %'"},
            r"command: is a list, such as \[check_disk, -w, 10 %\]: no shell reads it",
        ),
        ({"command": []}, "command: "),
        ({"command": ["a"], "namespace": "shop.{nam}"}, "namespace: "),
        ({"command": ["a"], "environment": {"a=b": "c"}}, "environment: has a name with `=`"),
    ],
)
async def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        await run_check(Exec, {"name": "x", **options})
