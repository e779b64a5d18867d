"""The package on a Debian that runs: installed, used, hurt, upgraded and purged, with systemd as its first process.

One machine from the first test to the last, as on a real one. Limits of memory and tasks are not enforced in it: the
cgroups of a test machine may belong to somebody else.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from debian_machine import Machine, sources, why_not

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
PAGE = "http://127.0.0.1:9464/metrics"
CONF = "/etc/vedette/conf.d"
SAMPLES = "/var/lib/vedette/samples.jsonl"
MOST_EXPOSURE = 1.5
BACK = 2.0
"""Seconds after a kill -9 within which the service is there again, on a machine that has a processor for it."""
BACK_UNDER_LOAD = 20.0
KILLS = 3
"""Their median counts."""
PATIENCE = 5.0
"""Seconds between two tries of what cannot start, see ExecStopPost in the unit."""
CLIENTS = {"business_sql", "cloudwatch", "dns", "k8s", "postgres", "rabbitmq", "sqs", "tls"}
"""Checks that are not tried in the sandbox: they only talk to servers, as redis, tcp and synthetic do."""
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
AGENT = """
state_directory: /var/lib/vedette
report_interval: 2s
sinks:
  - {type: prometheus, listen: "127.0.0.1:9464"}
  - {type: file, path: /var/lib/vedette/samples.jsonl, format: jsonl}
"""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as `make deb` builds it, and its next revision with another host.yaml."""
    if reason := why_not():
        pytest.skip(f"packages are not tried: {reason}")
    if made_before := os.environ.get("VEDETTE_PACKAGES"):  # for whoever works on these tests
        return Path(made_before)
    folder = tmp_path_factory.mktemp("deb")
    source, packages = folder / "source", folder / "packages"
    shutil.copytree(
        ROOT,
        source,
        ignore=sources,
    )
    build = [sys.executable, "packaging/deb/build.py", "--to", str(packages)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1760000000"}
    done = subprocess.run(build, cwd=source, env=environ, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = packages.glob("*.deb")
    made.rename(packages / "vedette-1.deb")
    tree = folder / "next"
    subprocess.run(["dpkg-deb", "-R", packages / "vedette-1.deb", tree], check=True, timeout=300)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", r"\g<0>+next", control.read_text(), flags=re.MULTILINE))
    with (tree / "etc/vedette/conf.d/host.yaml").open("a") as stream:
        stream.write("# as a later version has it\n")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "-b", tree, packages / "vedette-2.deb"], check=True, timeout=300)
    shutil.rmtree(tree)
    shutil.rmtree(source)
    return packages


@pytest.fixture(scope="module")
def machine(packages: Path) -> Iterator[Machine]:
    """The machine, on which the package is installed by the first test."""
    made = Machine({packages: "/srv/packages"})
    yield made
    made.stop()


def built_in() -> dict[str, str]:
    """The checks that come with vedette."""
    checks: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "vedette.checks"
    ]
    return checks


def page(machine: Machine) -> str:
    """What Prometheus would get; empty while nobody answers."""
    asked = f"import urllib.request as r; print(r.urlopen('{PAGE}', timeout=5).read().decode())"
    status, shown = machine.tries(f'python3 -c "{asked}"')
    return shown if status == 0 else ""


def instances(machine: Machine) -> dict[str, dict[str, Any]]:
    """Each instance's vitals, by id; empty while the agent does not answer."""
    status, shown = machine.tries("vedette status --json")
    return {one["instance"]: one for one in json.loads(shown)["instances"]} if status < 3 and shown[:1] == "{" else {}


def rows(machine: Machine) -> list[dict[str, Any]]:
    """What the file sink has written."""
    shown = machine.run(f"cat {SAMPLES} 2>/dev/null || true")
    return [json.loads(line) for line in shown[: shown.rfind("\n") + 1].splitlines()]


def lines(machine: Machine) -> list[str]:
    """The log lines that the file sink has, in its order."""
    return [row["value"] for row in rows(machine) if row.get("kind") == "log" and row["instance"] == "shop"]


def killed(machine: Machine, number: str, patience: float = 60) -> tuple[float, float, str]:
    """End the main process.

    Returns:
        Seconds until the service was there again; seconds in which the new process, until somebody looked, had no
        processor to run on; how systemd says that the old one had ended.
    """
    before, restarts = machine.show("MainPID"), machine.show("NRestarts")
    begun = time.clock_gettime(time.CLOCK_MONOTONIC)
    machine.run(f"kill -{number} {before}")
    machine.until(
        lambda: machine.show("NRestarts") > restarts and machine.show("ActiveState") == "active",
        "the service to come back",
        patience,
    )
    now = machine.show("MainPID")
    assert now not in (before, "0")
    waited = int(machine.run(f"cat /proc/{now}/schedstat").split()[1]) / 1e9
    ended = machine.run("journalctl -u vedette -o cat --no-pager | grep 'Failed with result' | tail -1")
    return int(machine.show("ActiveEnterTimestampMonotonic")) / 1e6 - begun, waited, ended.strip()


def as_the_service(machine: Machine, drop_in: str, command: str) -> str:
    """What a command prints in a unit like the agent's, with one of the package's drop-ins or none."""
    unit = "/run/systemd/system/tried.service"
    own = r"^(Type|NotifyAccess|Exec.*|Restart.*|WatchdogSec|.*Directory.*)="
    machine.run(f"grep -Ev '{own}' /lib/systemd/system/vedette.service > {unit} && mkdir -p {unit}.d")
    program = f"Type=oneshot\nExecStart=/bin/sh -c '{command.replace('$', '$$')}'\n"
    output = "StandardOutput=truncate:/run/tried.out\nStandardError=inherit\n"  # opened outside the sandbox
    machine.write(f"{unit}.d/command.conf", f"[Service]\n{program}{output}")
    if drop_in:
        machine.run(f"cp /usr/share/doc/vedette/systemd/{drop_in}.conf {unit}.d/")
    machine.run("systemctl daemon-reload")
    machine.tries("systemctl start tried")
    shown = machine.run("cat /run/tried.out")
    machine.tries(f"rm -r {unit} {unit}.d /run/tried.out; systemctl reset-failed tried; systemctl daemon-reload")
    return shown


# Install


def test_an_installed_package_runs_and_measures_the_machine(machine: Machine) -> None:
    shown = machine.run("dpkg -i /srv/packages/vedette-1.deb")
    assert "Setting up vedette" in shown
    assert (machine.show("ActiveState"), machine.show("UnitFileState")) == ("active", "enabled")
    machine.until(lambda: "system_cpu_user" in page(machine), "metrics of the host")
    machine.until(lambda: machine.show("StatusText") == "1 instance; all is well", "the status line", 30)
    assert machine.run("stat -c '%U:%G %a' /etc/vedette /etc/vedette/conf.d /var/lib/vedette").split("\n")[:3] == [
        "root:vedette 750",
        "root:vedette 2750",
        "vedette:vedette 700",
    ]
    assert machine.run(f"ps -o user= -p {machine.show('MainPID')}").strip() == "vedette"


def test_it_is_as_little_exposed_as_it_says(machine: Machine) -> None:
    shown = machine.run("systemd-analyze security --no-pager vedette.service")
    (score,) = re.findall(r"Overall exposure level for vedette.service: ([\d.]+)", shown)
    assert float(score) <= MOST_EXPOSURE
    assert machine.run("systemd-analyze verify /lib/systemd/system/vedette.service") == ""


def test_the_sandbox_hides_nothing_from_the_host_check(machine: Machine) -> None:
    """The same command as root outside the sandbox, and as the service inside it; of disks at rest some rates miss."""
    whole = "vedette check host --json"
    service = f"nsenter -t {machine.show('MainPID')} -m -U -S $(id -u vedette) -G $(id -g vedette) {whole}"
    seen = [
        {(one["name"], *one["tags"]) for one in json.loads(machine.run(command)) if "system.io." not in one["name"]}
        for command in (whole, service)
    ]
    ours = [{one for one in found if not one[0].startswith(("health_check", "vedette."))} for found in seen]
    assert len(ours[0]) > 50
    assert ours[0] == ours[1]


# Use


def test_a_dropped_file_is_measured_within_one_interval(machine: Machine) -> None:
    machine.write(f"{CONF}/agent.yaml", AGENT)
    machine.until(lambda: machine.tries(f"test -s {SAMPLES}")[0] == 0, "the file sink")
    machine.write(f"{CONF}/redis.yaml", "instances:\n  - {host: 127.0.0.1, port: 6379}\n")
    begun = time.monotonic()
    machine.run("systemctl reload vedette")
    machine.until(lambda: "redis_net_clients{" in page(machine), "metrics of redis", 30)
    took = time.monotonic() - begun
    assert took <= 15, f"it took {took:.1f} s, the interval is 15 s"
    # without being told it takes 5 s more: of root's files the agent may not ask whether somebody still writes
    machine.write(f"{CONF}/tcp.yaml", "instances:\n  - {host: 127.0.0.1, port: 6379, interval: 1s}\n")
    machine.until(lambda: "tcp/tcp" in instances(machine), "the file to count by itself", 20)


def test_a_broken_file_changes_nothing_but_the_status(machine: Machine) -> None:
    machine.write(f"{CONF}/redis.yaml", "instances:\n  - {host: 127.0.0.1, port: 6379, interval: 1s}\n")
    machine.run("systemctl reload vedette")
    process, before = machine.show("MainPID"), instances(machine)
    machine.write(f"{CONF}/broken.yaml", "check: redis\ninstances:\n  - {prot: 6379}\n")
    try:
        machine.until(lambda: "mistakes in" in machine.show("StatusText"), "the status line", 30)
        assert machine.show("StatusText") == f"3 instances; mistakes in {CONF}/broken.yaml"
        status, shown = machine.tries("systemctl reload vedette")
        assert status != 0, shown
        assert "did you mean 'port'?" in machine.run("journalctl -u vedette -o cat --no-pager")
        after = machine.until(
            lambda: (now := instances(machine)) and now["redis/redis"]["runs"] > before["redis/redis"]["runs"] and now,
            "another run of redis",
        )
    finally:
        machine.run(f"rm {CONF}/broken.yaml")
        machine.run("systemctl reload vedette")
    assert after.keys() == before.keys()
    assert all(one["state"] == "ok" and one["failures"] == before[name]["failures"] for name, one in after.items())
    assert all(one["runs"] >= before[name]["runs"] for name, one in after.items())
    assert (machine.show("MainPID"), machine.show("ActiveState")) == (process, "active")
    machine.until(lambda: machine.show("StatusText") == "3 instances; all is well", "the status line", 30)


def test_every_kind_of_check_works_in_the_sandbox(machine: Machine) -> None:
    machine.run("mkdir -p /srv/shop && echo ERROR one > /srv/shop/api.log")
    steps = "interval: 2s, steps: [{name: page, request: GET /metrics}]"
    only = "metrics: {include: [own.system_uptime]}"
    machine.write("/srv/shop/queue.py", FOREIGN)
    files = {
        "datadog_check": "instances:\n  - {name: queue, path: /srv/shop/queue.py, instance: {}, interval: 2s}\n",
        "exec": "instances:\n  - {command: [/bin/sh, -c, 'ps -e | wc -l; echo OK'], interval: 1s}\n",
        "log_file": "instances:\n  - {paths: [/srv/shop/*.log], start_position: beginning, name: shop}\n",
        "process": "instances:\n  - {name: cache, search_string: [redis-server], interval: 1s}\n",
        "statsd": "instances:\n  - {socket: /run/vedette/dsd.socket, socket_mode: '0666'}\n",
        "openmetrics": f"instances:\n  - {{url: '{PAGE}', namespace: own, {only}}}\n",
        "synthetic": f"instances:\n  - {{base_url: 'http://127.0.0.1:9464', {steps}}}\n",
        "apart": "check: redis\ninstances:\n  - {host: 127.0.0.1, isolate: true, interval: 1s}\n",
    }
    for name, text in files.items():
        machine.write(f"{CONF}/{name}.yaml", text)
    status, _ = machine.tries("systemctl reload vedette")
    assert status == 0, machine.run(f"vedette validate --conf {CONF}", check=False)
    wanted = {
        "host/host",
        "redis/redis",
        "tcp/tcp",
        "datadog_check/queue",
        "synthetic/synthetic",
        "exec/exec",
        "log_file/shop",
        "process/cache",
        "statsd/statsd",
        "openmetrics/openmetrics",
        "redis/apart",
    }
    assert {one.partition("/")[0] for one in wanted} | CLIENTS == set(built_in())
    found: dict[str, dict[str, Any]] = {}

    def well() -> bool:
        found.update(instances(machine))
        return all(found.get(one, {}).get("state") == "ok" for one in wanted)

    try:
        machine.until(well, "all of them to work", 60)
    except AssertionError as error:
        told = {name: (one["state"], one["message"], one.get("hint")) for name, one in found.items()}
        raise AssertionError(f"{told}\n{error}") from None
    machine.run(
        'python3 -c "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); '
        "s.sendto(b'shop.sales:5|c', '/run/vedette/dsd.socket')\""
    )
    machine.until(lambda: "shop_sales" in page(machine), "what an application said")
    machine.until(lambda: "ERROR one" in lines(machine), "the line of a log")
    gone = ("apart", "datadog_check", "synthetic", "exec", "openmetrics", "process", "statsd")
    machine.run(f"cd {CONF} && rm {' '.join(f'{name}.yaml' for name in gone)}")
    machine.run("systemctl reload vedette")


def test_a_credential_reaches_the_agent_and_doctor_says_what_a_rotation_takes(machine: Machine) -> None:
    machine.run("install -d -m 700 /etc/vedette/secrets && install -m 600 /dev/null /etc/vedette/secrets/pg")
    machine.write("/etc/vedette/secrets/pg", "wonderland")
    machine.run(
        "install -D -m 644 /usr/share/doc/vedette/systemd/credentials.conf "
        "/etc/systemd/system/vedette.service.d/credentials.conf && systemctl daemon-reload && systemctl restart vedette"
    )
    machine.run("redis-cli config set requirepass wonderland")
    secret = "${file:/run/credentials/vedette.service/pg}"
    machine.write(f"{CONF}/redis.yaml", f"instances:\n  - {{host: 127.0.0.1, password: '{secret}', interval: 1s}}\n")
    machine.run("systemctl reload vedette")
    machine.until(lambda: instances(machine).get("redis/redis", {}).get("state") == "ok", "redis with its password")
    _, shown = machine.tries(f"vedette doctor --conf {CONF}")
    assert "a rotation takes effect with a restart" in shown, shown
    assert "systemctl restart vedette.service" in shown
    assert "wonderland" not in shown + machine.run("journalctl -u vedette --no-pager")
    machine.run("redis-cli -a wonderland --no-auth-warning config set requirepass ''")


@pytest.mark.parametrize(
    ("drop_in", "command", "wanted"),
    [
        ("ping", "ping -n -c 1 127.0.0.1", "1 received"),
        ("processes", "ps -o user= -p $(pgrep -o redis-server)", "redis"),
        ("lease", "grep CapEff /proc/self/status", "0000000010000000"),
        ("log-files", "id -Gn", "adm"),
        ("programs", "ls /tmp", "seen-by-all"),
    ],
)
def test_a_drop_in_lets_a_program_do_what_it_says(machine: Machine, drop_in: str, command: str, wanted: str) -> None:
    """A program with the unit's own settings and the drop-in's; without the drop-in it cannot."""
    machine.run("touch /tmp/seen-by-all")
    shown = [as_the_service(machine, name, command) for name in ("", drop_in)]
    assert wanted not in shown[0]
    assert wanted in shown[1]


# Harm


def test_a_killed_agent_is_back_in_two_seconds_with_its_watermarks(machine: Machine) -> None:
    machine.run("seq -f 'line %.0f' 100 >> /srv/shop/api.log")
    machine.until(lambda: "line 100" in lines(machine), "the lines")
    machine.until(lambda: machine.tries("ls /var/lib/vedette/state.db")[0] == 0, "the state")
    machine.run("sleep 1")  # the watermark is on disk a moment after the lines are
    most = BACK if os.getloadavg()[0] < (os.cpu_count() or 1) / 2 else BACK_UNDER_LOAD
    times = []
    for _ in range(KILLS):
        took, waited, ended = killed(machine, "KILL")
        assert ended.endswith("Failed with result 'signal'.")
        times.append((took, waited))
    machine.run("echo 'line 101' >> /srv/shop/api.log")
    machine.until(lambda: "line 101" in lines(machine), "the line after the kill")
    found = lines(machine)
    assert [found.count(f"line {number}") for number in range(1, 102)] == [1] * 101
    shown = ", ".join(f"{took:.2f} s (so far {waited:.2f} s without a processor)" for took, waited in times)
    print(f"back after kill -9 in {shown}; at most {most:g} s, load {os.getloadavg()[0]:.1f}")
    assert median(took for took, _ in times) <= most, shown


def test_a_secret_that_comes_late_is_waited_for_and_does_not_make_it_spin(machine: Machine) -> None:
    machine.write(f"{CONF}/agent.yaml", f'{AGENT}tags: ["${{file:/run/late}}"]\n')
    begun = time.monotonic()
    assert machine.tries("systemctl restart vedette")[0] != 0
    machine.until(lambda: int(machine.show("NRestarts")) >= 2, "two tries")
    assert time.monotonic() - begun >= 2 * PATIENCE
    machine.write("/run/late", "team:shop")
    machine.until(lambda: machine.show("ActiveState") == "active", "the service to come back")
    machine.write(f"{CONF}/agent.yaml", AGENT)
    machine.run("systemctl reload vedette && rm /run/late")


def test_a_frozen_agent_is_restarted_by_the_watchdog(machine: Machine) -> None:
    machine.write("/etc/systemd/system/vedette.service.d/watchdog.conf", "[Service]\nWatchdogSec=5\n")
    machine.run("systemctl daemon-reload && systemctl restart vedette")
    took, _, ended = killed(machine, "STOP")
    assert ended.endswith("Failed with result 'watchdog'.")
    print(f"back {took:.1f} s after SIGSTOP, WatchdogSec=5")


def test_a_check_that_hangs_the_loop_is_ended_by_the_watchdog_and_runs_apart_from_then_on(machine: Machine) -> None:
    site = "/opt/vedette/lib/python3.11/site-packages"
    machine.write(f"{site}/vedette_hang.py", HANG)
    machine.run(f"mkdir {site}/vedette_hang-1.dist-info")
    machine.write(
        f"{site}/vedette_hang-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: vedette-hang\nVersion: 1\n"
    )
    machine.write(f"{site}/vedette_hang-1.dist-info/entry_points.txt", "[vedette.checks]\nhang = vedette_hang\n")
    restarts = int(machine.show("NRestarts"))
    machine.write(f"{CONF}/hang.yaml", "instances:\n  - {interval: 1s, timeout: 1s}\n")
    machine.until(lambda: int(machine.show("NRestarts")) > restarts, "the watchdog to act", 60)
    machine.until(lambda: machine.show("ActiveState") == "active", "the service to come back")
    assert "hang/hang crashed the agent (SIGABRT)" in machine.run("journalctl -u vedette -o cat --no-pager")
    machine.until(lambda: instances(machine).get("tcp/tcp", {}).get("runs", 0) > 3, "the others to run")
    assert int(machine.show("NRestarts")) == restarts + 1
    machine.run(f"rm -r {CONF}/hang.yaml {site}/vedette_hang.py {site}/vedette_hang-1.dist-info")
    machine.run("rm /etc/systemd/system/vedette.service.d/watchdog.conf && systemctl daemon-reload")


# Upgrade and purge


def test_what_comes_before_a_release_sorts_before_it() -> None:
    found = importlib.util.spec_from_file_location("build_deb", ROOT / "packaging/deb/build.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    order = ["0.2.0.dev3", "0.2.0a1", "0.2.0b1", "0.2.0rc1.dev1", "0.2.0rc1", "0.2.0", "0.2.0.post1", "0.2.1"]
    versions = [f"{module.debian_version(one)}-1" for one in order]
    for earlier, later in pairwise(versions):
        assert subprocess.run(["dpkg", "--compare-versions", earlier, "lt", later], check=False).returncode == 0, later


def test_an_upgrade_restarts_it_and_keeps_what_was_configured(machine: Machine) -> None:
    machine.run(f"echo '# mine' >> {CONF}/host.yaml && chmod 700 /etc/vedette && chmod 750 /etc/vedette")
    process, conf = machine.show("MainPID"), machine.run(f"cat {CONF}/*.yaml")
    machine.run("dpkg -i --force-confold /srv/packages/vedette-2.deb")
    assert machine.run(f"cat {CONF}/*.yaml") == conf
    assert "as a later version has it" in machine.run(f"cat {CONF}/host.yaml.dpkg-dist")
    assert machine.show("ActiveState") == "active"
    assert machine.show("MainPID") != process
    machine.until(lambda: instances(machine).get("log_file/shop", {}).get("state") == "ok", "the new version's runs")
    assert lines(machine).count("line 101") == 1


def test_removed_it_keeps_its_configuration_and_purged_nothing(machine: Machine) -> None:
    machine.run("dpkg -r vedette")
    assert machine.tries("systemctl is-active vedette")[0] != 0
    assert "mine" in machine.run(f"cat {CONF}/host.yaml")
    # dpkg does not bring back configuration that was deleted: the agent has nothing to run, and that is said
    shown = machine.run("rm -r /etc/vedette && dpkg -i /srv/packages/vedette-2.deb")
    assert "THE AGENT DOES NOT RUN" in shown
    assert machine.run("stat -c '%U:%G %a' /etc/vedette /etc/vedette/conf.d").split("\n")[:2] == [
        "root:vedette 750",
        "root:vedette 2750",
    ]
    machine.run("dpkg -r vedette")
    machine.run("dpkg -P vedette")
    places = "find / -xdev -not -path '/srv/*'; find /run /tmp /dev -not -path '/run/host/*'"
    found = machine.run(f"({places}) | grep -i vedette || true")
    assert found == ""
    assert machine.tries("getent passwd vedette")[0] != 0
    assert machine.tries("getent group vedette")[0] != 0
    assert machine.run("systemctl list-units --all --no-legend '*vedette*'") == ""
    assert machine.run("ls -d /etc/systemd/system/vedette* 2>/dev/null || true") == ""
    assert machine.run("dpkg -l vedette 2>/dev/null | grep vedette || true") == ""
