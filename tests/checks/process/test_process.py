"""Real processes: sleeping, spinning, with threads and children, ended, hidden, of other users."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from servers import until
from vedette import Diagnosis, Status
from vedette.testing import CheckRun, assert_declared, run_check
from vedette_checks.process import Process, ProcessConfig
from vedette_checks.process.course import Course
from vedette_checks.process.group import Finder, Group, maps
from vedette_checks.process.procfs import TICK, Io, Stat, Table, Usage, boot_clock, listing, look_at, parse_stat

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
NAME = "system.processes."
Start = Callable[..., subprocess.Popen[bytes]]
WORKER = """
import sys, threading, time
for _ in range(int(sys.argv[1])):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
kept = []
for line in iter(sys.stdin.readline, ""):
    what, number = line.split()
    if what == "spin":
        end = time.process_time() + float(number)
        while time.process_time() < end: pass
    elif what == "touch":
        kept.append(bytes(4096 * int(number)).replace(bytes(1), b"x"))
    print(time.process_time(), flush=True)
"""


def own(name: str) -> str:
    """The name that no other run of these tests on this machine has."""
    return f"{name}-{os.getpid() % 0x10000:x}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a copy of `sleep` under a name of its own; all are ended in the end."""
    running: list[subprocess.Popen[bytes]] = []

    def _start(name: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        program = tmp_path / own(name)
        if not program.exists():
            shutil.copy(str(shutil.which("sleep")), program)
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        one = subprocess.Popen([program, "600", *arguments], **{**quiet, **options})
        running.append(one)
        until(lambda: state(one.pid) == "S", f"{name} to sleep")
        return one

    yield _start
    for one in running:
        one.kill()
        one.wait()


def state(pid: int) -> str:
    return text(pid, "stat").rpartition(")")[2].split()[0]


def text(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def shell(*arguments: str, script: str = "read nothing", **options: Any) -> subprocess.Popen[bytes]:
    """A shell that waits for its input to end."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    return subprocess.Popen(["sh", "-c", script, *arguments], **{**pipes, **options})


@contextmanager
def worker(threads: int = 0) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], float]]]:
    """A Python that does what it is told, and says how much processor time it has used."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WORKER, str(threads)], **pipes) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        stdin, stdout = one.stdin, one.stdout

        def tell(order: str) -> float:
            stdin.write(f"{order}\n")
            stdin.flush()
            return float(stdout.readline())

        tell("spin 0")
        yield one, tell
        stdin.close()


async def run(options: dict[str, Any], **more: Any) -> CheckRun:
    return await run_check(Process, {"name": "sleepers", **options}, **more)


def size(path: str) -> int:
    return Path(path).stat().st_size


def fields(pid: int, name: str) -> dict[str, int]:
    lines = text(pid, name).splitlines()
    return {key: int(value.split()[0]) for key, _, value in (one.partition(":") for one in lines) if value.split()
            and value.split()[0].isdigit()}  # fmt: skip


def usage(pid: int = 7, started: int = 100, *, ticks: int = 0, faults: int = 0, io: Io | None = None) -> Usage:
    stat = Stat(pid, b"x", False, 1, started, (faults, 0, 0, 0), ticks, 1)
    return Usage(stat, 0, 0, 0, 0, (0, 0), None, None, io)


def group(*processes: Usage, at: float, listed: float | None = None) -> Group:
    return Group(processes, at if listed is None else listed, at, changed=False)


async def test_what_three_sleepers_use(start: Start) -> None:
    pids = [start("sleepy").pid for _ in range(3)]
    found = await run({"search_string": [own("sleepy")]})
    tags = {"process_name": "sleepers", "instance": "sleepers"}
    page, sizes = os.sysconf("SC_PAGE_SIZE"), [text(pid, "statm").split() for pid in pids]
    io, status = [fields(pid, "io") for pid in pids], [fields(pid, "status") for pid in pids]
    assert {name: found.value(NAME + name, **tags) for name in (
        "number", "threads", "open_file_descriptors", "mem.vms", "mem.rss", "mem.real", "ioread_count", "iowrite_count",
        "ioread_bytes", "iowrite_bytes", "voluntary_ctx_switches", "involuntary_ctx_switches", "cpu.pct",
        "cpu.normalized_pct", "ioread_bytes_count", "iowrite_bytes_count", "mem.page_faults.minor_faults",
    )} == {
        "number": 3, "threads": 3, "open_file_descriptors": 9,
        "mem.vms": sum(int(one[0]) for one in sizes) * page,
        "mem.rss": sum(int(one[1]) for one in sizes) * page,
        "mem.real": sum(int(one[1]) - int(one[2]) for one in sizes) * page,
        "ioread_count": sum(one["syscr"] for one in io), "iowrite_count": 0,
        "ioread_bytes": sum(one["read_bytes"] for one in io), "iowrite_bytes": 0,
        "voluntary_ctx_switches": sum(one["voluntary_ctxt_switches"] for one in status),
        "involuntary_ctx_switches": sum(one["nonvoluntary_ctxt_switches"] for one in status),
        "cpu.pct": 0, "cpu.normalized_pct": 0, "ioread_bytes_count": 0, "iowrite_bytes_count": 0,
        "mem.page_faults.minor_faults": 0,
    }  # fmt: skip
    total = psutil.virtual_memory().total
    assert found.value(NAME + "mem.pct") == pytest.approx(100 * found.value(NAME + "mem.rss") / total)
    limit = int(text(pids[0], "limits").partition("Max open files")[2].split()[0])
    assert found.value(NAME + "open_file_descriptors_pct") == pytest.approx(300 / limit)
    low, mean, high = (found.value(f"{NAME}run_time.{one}") for one in ("min", "avg", "max"))
    assert 0 <= low <= mean <= high < 60
    assert found.status("process.up", process="sleepers", process_name="sleepers") is Status.OK
    assert_declared(found)


async def test_none_is_a_finding_and_nothing_is_said_of_what_it_would_use() -> None:
    found = await run({"search_string": ["no-such-program"]})
    assert found.value(NAME + "number") == 0
    assert [one.name for one in found.samples] == [NAME + "number"]
    assert found.status("process.up") is Status.CRITICAL
    assert found.error is not None
    assert found.message("process.up") == found.error.message == "no process found, wanted at least 1"


@pytest.mark.parametrize(
    ("thresholds", "number", "status", "message"),
    [
        ({"critical": [2, 4], "warning": [3, 3]}, 1, "CRITICAL", "1 process found, wanted 2 to 4"),
        ({"critical": [2, 4], "warning": [3, 3]}, 2, "WARNING", "2 processes found, wanted 3"),
        ({"critical": [2, 4], "warning": [3, 3]}, 3, "OK", ""),
        ({"critical": [0, 1]}, 2, "CRITICAL", "2 processes found, wanted 0 to 1"),
        ({"critical": [0, 1]}, 0, "WARNING", "no process found, wanted at least 1"),
        ({"critical": [0, 1], "warning": [0, float("inf")]}, 0, "OK", ""),
    ],
)
async def test_how_many_there_should_be(
    start: Start, thresholds: dict[str, Any], number: int, status: str, message: str
) -> None:
    for _ in range(number):
        start("counted")
    found = await run({"search_string": [own("counted")], "thresholds": thresholds})
    assert found.value(NAME + "number") == number
    assert (found.status("process.up").name, found.message("process.up")) == (status, message)
    assert found.error is None  # that there is none at all would be one


@pytest.mark.parametrize("name", ["a-name-of-more-than-15-characters", "odd) R 1 (name", "größer"])
async def test_names_as_they_are(start: Start, name: str) -> None:
    start(name)
    start("a-name-of-more-than-others")
    assert (await run({"search_string": [own(name), "nobody"]})).value(NAME + "number") == 1


async def test_command_lines_are_searched_and_never_told(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shells = [shell(own("client"), f"--token={word}") for word in ("hunter2-marker", "other")]
    for pattern, number in (
        (own("client") + " --token=hunter2-marker", 1), (own("client") + r" --token=\w+", 2),
        ("^" + own("client"), 0), (own("client") + " --token=(hunter2-marker|other)$", 2),
    ):  # fmt: skip
        found = await run({"search_string": [pattern], "exact_match": False, "list_age": 0})
        assert found.value(NAME + "number") == number, pattern
        assert "token" not in repr(found.batch)
        assert "token" not in str(found.error)
    assert "token" not in caplog.text
    for one in shells:
        one.communicate()


async def test_threads_and_processor_time_of_one_that_spins() -> None:
    with worker(threads=4) as (one, tell):
        finder, course = Finder(ProcessConfig(name="x", pid=one.pid)), Course()
        before = tell("spin 0")
        first = finder.look(0.0)
        assert course.go_on(first).cores is None
        after = tell("spin 0.2")
        second = finder.look(0.0)
        spent = course.go_on(second)
        assert second.processes[0].stat.threads == 5
        assert spent.cores is not None
        assert spent.cores * (second.at - first.at) == pytest.approx(after - before, abs=2 * TICK)
        tell("touch 1000")
        assert 1000 <= course.go_on(finder.look(0.0)).faults[0] - spent.faults[0] < 4000
        found = await run({"pid": one.pid})
        assert (found.value(NAME + "threads"), found.value(NAME + "number")) == (5, 1)


async def test_children_and_theirs(start: Start, tmp_path: Path) -> None:
    start("child")  # copies the program, and is nobody's child here
    script = "{0} 600 & sh -c '{0} 600 & echo up; wait' & wait".format(tmp_path / own("child"))
    with shell(script=script, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"up\n"
            options = {"pid": parent.pid, "list_age": 0}
            assert (await run(options)).value(NAME + "number") == 1
            found = await run({**options, "collect_children": True})
            assert found.value(NAME + "number") == found.value(NAME + "threads") == 4
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


async def test_a_file_with_an_id(start: Start, tmp_path: Path) -> None:
    file, one = tmp_path / "pid", start("daemon")
    assert (await run({"pid_file": str(file)})).message("process.up") == "no process found, wanted at least 1"
    file.write_text(f"{one.pid}\nmore\n")
    assert (await run({"pid_file": str(file)})).value(NAME + "number") == 1
    os.kill(one.pid, signal.SIGKILL)
    until(lambda: state(one.pid) == "Z", "a zombie, which is no program any more")
    assert (await run({"pid_file": str(file)})).value(NAME + "number") == 0
    assert one.pid not in [each.pid for each in Table("/proc").processes]
    for text in ("", "nginx\n", "-1", "0", "99999999999999999999", "1" * 5000):
        file.write_text(text)
        found = await run({"pid_file": str(file)})
        assert found.error is not None
        assert found.error.message == found.message("process.up") == f"{file}: holds no process id"
        assert found.status("process.up") is Status.UNKNOWN
        assert found.values(NAME + "number") == []
    found = await run({"pid_file": str(tmp_path)})
    assert found.error is not None
    assert found.error.message == f"{tmp_path}: Is a directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start one of another user")
async def test_of_one_user(start: Start) -> None:
    start("shared")
    other = shell(own("of-another"), user=65534, group=65534)
    both: dict[str, Any] = {
        "search_string": [own("shared") + " 600", own("of-another")],
        "exact_match": False,
        "list_age": 0,
    }
    for user, number in ((None, 2), (65534, 1), ("65534", 1), ("nobody", 1), (0, 1), ("daemon", 0)):
        assert (await run({**both, "user": user})).value(NAME + "number") == number, user
    other.communicate()
    found = await run({"search_string": ["x"], "user": "nobody-here"})
    assert found.error is not None
    assert found.error.message == "there is no user nobody-here here"


def test_users_that_a_user_namespace_maps() -> None:
    sandbox = ["         0          0          1", "       998        998          1"]  # PrivateUsers=yes of systemd
    assert [maps(sandbox, uid) for uid in (0, 998, 33, 65534)] == [True, True, False, False]
    assert maps(["         0          0 4294967295"], 33)
    assert [maps(["0 100000 65536"], uid) for uid in (65535, 65536)] == [True, False]


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs root and unshare")
def test_a_user_that_cannot_be_told_apart_is_an_error_and_not_down() -> None:
    ask = """
from vedette import CheckError
from vedette_checks.process.config import ProcessConfig
from vedette_checks.process.group import Finder
try:
    Finder(ProcessConfig(name="x", search_string=["x"], user=33)).look(0)
except CheckError as error:
    print(error)
"""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", ask]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert "processes of user 33 cannot be told from others'" in done.stdout, done.stderr


@pytest.mark.skipif(
    os.geteuid() != 0 and Path("/proc/1").stat().st_uid == os.geteuid(), reason="needs one of another user"
)
async def test_what_may_not_be_read_is_absent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        found = await run({"pid": 1})
        strict = await run({"pid": 1, "ignore_denied_access": False})
        diagnosis = Diagnosis()
        await Process(ProcessConfig(name="x", pid=1)).diagnose(diagnosis)
        counted = size("/proc/1/fd")
    finally:
        if was == 0:
            os.seteuid(0)
    assert found.value(NAME + "number") == 1
    assert found.value(NAME + "threads") >= 1
    assert [one for one in ("ioread_count", "iowrite_bytes", "ioread_bytes_count") if found.values(NAME + one)] == []
    assert found.values(NAME + "open_file_descriptors") == ([counted] if counted else [])
    assert found.error is None
    assert strict.error is not None
    assert strict.error.message == "reads and writes, or open files, of 1 of 1 processes may not be read"
    assert caplog.text.count("of 1 of 1 processes are not for us") == 1
    assert ("reads and writes", "of 1 of 1 processes may not be read") in [
        (one.what, one.seen) for one in diagnosis.symptoms
    ]


async def test_another_procfs_and_none(start: Start, tmp_path: Path) -> None:
    here, there = start("mounted"), start("mounted")
    procfs = tmp_path / "proc"
    procfs.mkdir()
    for name in (str(here.pid), "stat", "meminfo"):
        (procfs / name).symlink_to(f"/proc/{name}")
    assert (await run({"search_string": [own("mounted")], "list_age": 0})).value(NAME + "number") == 2
    found = await run({"search_string": [own("mounted")], "procfs_path": str(procfs)})
    assert (found.value(NAME + "number"), found.value(NAME + "open_file_descriptors")) == (1, 3)
    assert (await run({"pid": there.pid, "procfs_path": str(procfs)})).value(NAME + "number") == 0
    for options in ({"pid": here.pid}, {"search_string": [own("mounted")]}):
        found = await run({**options, "procfs_path": str(tmp_path / "nowhere")})
        assert found.error is not None
        assert found.error.message.startswith(f"{tmp_path}/nowhere: No ")
        assert found.status("process.up") is Status.UNKNOWN


async def test_a_list_is_shared_until_it_does_not_hold(start: Start) -> None:
    first, second = start("listed"), start("listed")
    finder = Finder(ProcessConfig(name="x", search_string=(own("listed"),)))
    table = listing("/proc").since(boot_clock())
    start("listed")
    assert {one.stat.pid for one in finder.look(table.taken).processes} == {first.pid, second.pid}
    assert listing("/proc").since(table.taken) is table
    second.kill()
    second.wait()
    assert finder.look(table.taken).changed
    assert (await run({"search_string": [own("listed")], "list_age": "1h"})).value(NAME + "number") == 2
    assert listing("/proc").since(table.taken) is not table
    assert look_at("/proc", second.pid) is None
    assert look_at("/proc", first.pid, started=1) is None  # another process had its id


def test_what_came_and_went_is_no_leap() -> None:
    course, old = Course(), Io(0, 0, 1_000_000, 2_000_000)
    first = course.go_on(group(usage(7, ticks=90_000, faults=500, io=old), at=1000.0))
    assert (first.cores, first.faults[0], first.bytes_read) == (None, 0, 0)
    grown = usage(7, ticks=90_000 + int(5 / TICK), faults=510, io=Io(0, 0, 1_000_100, 2_000_007))
    second = course.go_on(group(grown, at=1010.0))
    assert second.cores == pytest.approx(0.5)
    assert (second.faults[0], second.bytes_read, second.bytes_written) == (10, 100, 7)
    # its id belongs to one that has just begun, and one that was there before fits only now
    fresh = usage(7, started=int(1015 / TICK), ticks=int(2 / TICK), faults=3, io=Io(0, 0, 5, 0))
    late = usage(8, started=100, ticks=70_000, faults=9_999, io=Io(0, 0, 9_999, 9_999))
    third = course.go_on(group(fresh, late, at=1020.0))
    assert third.cores == pytest.approx(0.2)
    assert (third.faults[0], third.bytes_read, third.bytes_written) == (13, 105, 7)
    # one that does not tell: the sum of the others is none
    assert course.go_on(group(fresh, usage(9), at=1030.0)).bytes_read is None
    assert course.go_on(group(at=1040.0)).cores is None
    assert course.go_on(group(fresh, at=1050.0)).faults[0] == 13


def test_one_line_of_stat() -> None:
    line = b"42 (a (b) c) S 1 42 42 0 -1 4194560 11 12 13 14 15 16 17 18 20 0 3 0 777 1024 5 " + b"0 " * 28
    assert parse_stat(line) == Stat(42, b"a (b) c", False, 1, 777, (11, 12, 13, 14), 31, 3)
    for wrong in (b"", b"42 (a", b"42 (a) S 1 2"):
        with pytest.raises(ValueError):
            parse_stat(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of search_string, pid and pid_file"),
        ({"pid": 1, "search_string": ["x"]}, "give one of search_string, pid and pid_file"),
        ({"search_string": [""]}, "search_string"),
        ({"pid": 0}, "pid"),
        ({"search_string": ["ok", "(a"], "exact_match": False}, r"search_string\[1\] is no valid pattern"),
        ({"search_string": ["(?=a)"], "exact_match": False}, "RE2 has no look-around"),
        ({"pid": 1, "thresholds": {"warning": [5, 2]}}, r"must be two numbers, the least first: \[least, most\]"),
        ({"pid": 1, "thresholds": {"critical": [5]}}, "must be two numbers"),
        ({"pid": 1, "thresholds": {"warning": [float("nan"), 2]}}, "thresholds"),
        ({"pid": 1, "procfs_path": "proc"}, "must be an absolute path"),
    ],
)
async def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await run(options)


async def test_a_pattern_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    message = r"search_string\[0\] is a pattern, which needs google-re2: pip install 'vedette\[process\]'"
    with pytest.raises(ValueError, match=message):
        await run({"search_string": ["a+"], "exact_match": False})
    found = await run({"search_string": ["plain-text-nobody-has"], "exact_match": False})
    assert found.value(NAME + "number") == 0


async def test_what_doctor_and_plan_say(start: Start, tmp_path: Path) -> None:
    one = start("looked-at")
    check = Process(ProcessConfig(name="x", search_string=(own("looked-at"),), list_age=0))
    diagnosis = Diagnosis()
    await check.diagnose(diagnosis)
    said = {each.what: (str(each.grade), each.seen) for each in diagnosis.symptoms}
    assert said["processes"] == ("ok", f"1 found: {one.pid}")
    assert said["open files"][0] == said["reads and writes"][0] == "ok"
    await check.open()
    (estimate,) = await check.estimate()
    assert (estimate.what, estimate.unit) == ("files of /proc per run", "files/run")
    assert estimate.value is not None
    assert estimate.value > 10
    for options in ({"search_string": ("none",)}, {"pid_file": tmp_path / "none"}):
        diagnosis = Diagnosis()
        await Process(ProcessConfig(name="x", **options)).diagnose(diagnosis)
        assert diagnosis.symptoms[0].grade == "ok"
        assert [str(each.grade) for each in diagnosis.symptoms[1:]] in (["failed"], ["failed", "not reached"])
