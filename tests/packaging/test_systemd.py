"""The package on a Debian that runs: installed, used, hurt, upgraded and purged, with systemd as its first process.

One machine from the first test to the last, as on a real one. Limits of memory and tasks are not enforced in it: the
cgroups of a test machine may belong to somebody else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from debian_machine import Machine, sources, why_not
from service_parts import (
    CLIENTS,
    CURL,
    DOCKER,
    EACH_CLIENT,
    FOREIGN,
    HANG,
    KUBECONFIG,
    LOGIN,
    PAGE,
    RAW,
    SALES,
    SAMPLES,
    as_the_service,
    instances,
    killed,
    lines,
    page,
    said,
)

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
CONF = "/etc/vedette/conf.d"
MOST_EXPOSURE = 1.5
BACK = 2.0
"""Seconds after a kill -9 within which the service is there again."""
STARVED = 0.5
"""Seconds that it may have waited for a processor in that time, before the machine counts as overloaded."""
BACK_UNDER_LOAD = 20.0
QUIET = 60.0
"""Seconds in which a busy test machine may come to rest."""
KILLS = 3
"""Their median counts."""
PATIENCE = 5.0
"""Seconds between two tries of what cannot start, see ExecStopPost in the unit."""
AGENT = """
state_directory: /var/lib/vedette
report_interval: 2s
sinks:
  - {type: prometheus, listen: "127.0.0.1:9464"}
  - {type: file, path: /var/lib/vedette/samples.jsonl, format: jsonl}
"""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as `make deb` builds it, and its next revision, which explains more."""
    if reason := why_not():
        pytest.skip(f"packages are not tried: {reason}")
    if made_before := os.environ.get("VEDETTE_PACKAGES"):  # for whoever works on these tests
        return Path(made_before)
    folder = tmp_path_factory.mktemp("deb")
    source, packages = folder / "source", folder / "packages"
    shutil.copytree(ROOT, source, ignore=sources)
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
    with (tree / "usr/share/vedette/agent.yaml").open("a") as stream:
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


def until_quiet() -> None:
    """Wait a while until few programs want to run: of all tasks that are running or ready to, half as many as fit."""
    deadline = time.monotonic() + QUIET
    while time.monotonic() < deadline:
        wanting = 0
        for _ in range(20):
            wanting += int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1  # this one; see proc(5)
            time.sleep(0.05)
        if wanting <= 20 * (os.cpu_count() or 1) / 2:
            return


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
    assert {one.partition("/")[0] for one in wanted} | CLIENTS.keys() == set(built_in())
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


def test_nothing_but_the_network_keeps_the_clients_of_servers_from_working_in_the_sandbox(machine: Machine) -> None:
    """Their drivers load, their login programs run, their sockets open, and then nobody is there who knows."""
    machine.run("mkdir -p /srv/clients/conf.d")
    for name, (text, _) in CLIENTS.items():
        machine.write(f"/srv/clients/conf.d/{name}.yaml", text)
    for name, text in {"kubeconfig": KUBECONFIG, "login": LOGIN, "each": EACH_CLIENT}.items():
        machine.write(f"/srv/clients/{name}", text)
    machine.run("chmod 755 /srv/clients/login /srv/clients/each")
    machine.run("systemd-run --quiet --unit=ignorant python3 -m http.server 8009 --bind 127.0.0.1")
    listens = "bash -c ': < /dev/tcp/127.0.0.1/8009'"
    machine.until(lambda: machine.tries(listens)[0] == 0, "that server")
    shown = as_the_service(machine, "", "/srv/clients/each")
    machine.run("systemctl stop ignorant && rm -r /srv/clients")
    found = [line for line in shown.splitlines() if re.match(r"[a-z_0-9]+/", line)]
    assert sorted(found) == sorted(line for _, wanted in CLIENTS.values() for line in wanted), shown


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
        ("ping", "python3 /srv/raw.py", "sent by check_icmp and check_dhcp"),
        ("processes", "ps -o user= -p $(pgrep -o redis-server)", "redis"),
        ("processes, whole", "cat /proc/$(pgrep -o redis-server)/io", "read_bytes"),
        ("credentials", "cat $CREDENTIALS_DIRECTORY/pg", "wonderland"),
        ("credentials, whole", "cat $CREDENTIALS_DIRECTORY/redis", "looking-glass"),
        ("lease", "grep CapEff /proc/self/status", "0000000010000000"),
        ("log-files", "cat /var/log/shop.log", "sold out"),  # the group has no name in the sandbox, and counts
        ("programs", "ls /tmp", "seen-by-all"),
        ("docker", "python3 /srv/curl.py", '{"ApiVersion": "1.45"}'),
    ],
)
def test_a_drop_in_lets_a_program_do_what_it_says(machine: Machine, drop_in: str, command: str, wanted: str) -> None:
    """A program with the unit's own settings and the drop-in's; without the drop-in, or what is commented out, it
    cannot.
    """
    machine.run("touch /tmp/seen-by-all && (getent group docker || groupadd --system docker) > /dev/null")
    machine.run("echo sold out > /var/log/shop.log && chgrp adm /var/log/shop.log && chmod 640 /var/log/shop.log")
    machine.write("/srv/docker.py", DOCKER)
    machine.write("/srv/curl.py", CURL)
    machine.write("/srv/raw.py", RAW)
    machine.run("install -d -m 700 /etc/vedette/secrets")
    machine.write("/etc/vedette/secrets/pg", "wonderland")
    encrypt = "systemd-creds encrypt --with-key=host --name=redis - /etc/vedette/secrets/redis.cred"
    machine.run(f"[ -e /etc/vedette/secrets/redis.cred ] || printf looking-glass | {encrypt}")
    if machine.tries("systemctl is-active dockerd")[0]:
        machine.run("systemd-run --quiet --unit=dockerd --property=Group=docker python3 /srv/docker.py")
        machine.until(lambda: "ApiVersion" in machine.tries("python3 /srv/curl.py")[1], "Docker's socket")
    name, _, whole = drop_in.partition(", ")
    without = as_the_service(machine, name if whole else "", command)
    shown = [without, as_the_service(machine, name, command, whole=bool(whole))]
    assert wanted not in shown[0]
    assert wanted in shown[1]


def test_the_drop_in_of_a_group_lets_its_members_write_to_statsd_and_nobody_else(machine: Machine) -> None:
    machine.run("groupadd --system payments && useradd --system -G payments shop && useradd --system stranger")
    machine.write("/srv/sales.py", SALES)
    statsd = "instances:\n  - {socket: /run/vedette/dsd.socket, socket_group: payments, socket_mode: '0660'}\n"
    machine.write(f"{CONF}/statsd.yaml", statsd)
    machine.run("systemctl reload vedette")
    refused = machine.until(lambda: said(machine, "statsd/statsd", "failing"), "statsd to fail without its drop-in")
    assert "under systemd use the drop-in statsd-group.conf" in refused
    drop_in = "/etc/systemd/system/vedette.service.d/statsd-group.conf"
    machine.run(f"cp /usr/share/doc/vedette/systemd/statsd-group.conf {drop_in}")
    machine.run("systemctl daemon-reload && systemctl restart vedette")
    try:
        machine.until(lambda: instances(machine).get("statsd/statsd", {}).get("state") == "ok", "statsd")
        assert machine.run("stat -c '%U:%G %a' /run/vedette/dsd.socket").strip() == "vedette:payments 660"
        status, shown = machine.tries("runuser -u stranger -- python3 /srv/sales.py")
        assert status != 0
        assert "PermissionError" in shown
        machine.run("runuser -u shop -- python3 /srv/sales.py")
        sold = re.compile(r"^payments_sales\S* 5(\.0)?$", re.MULTILINE)
        machine.until(lambda: sold.search(page(machine)), "what a member said")
    finally:
        machine.run(f"rm {drop_in} {CONF}/statsd.yaml && systemctl daemon-reload && systemctl restart vedette")


# Harm


def test_a_killed_agent_is_back_with_its_watermarks(machine: Machine) -> None:
    machine.run("seq -f 'line %.0f' 100 >> /srv/shop/api.log")
    machine.until(lambda: "line 100" in lines(machine), "the lines")
    machine.until(lambda: machine.tries("ls /var/lib/vedette/state.db")[0] == 0, "the state")
    machine.run("sleep 1")  # the watermark is on disk a moment after the lines are
    folder = machine.run("stat -c %i /run/vedette")
    assert killed(machine, "KILL").ended.endswith("Failed with result 'signal'.")
    assert machine.run("stat -c %i /run/vedette") == folder, "who mounted the folder of the sockets has a dead one"
    machine.run("echo 'line 101' >> /srv/shop/api.log")
    machine.until(lambda: "line 101" in lines(machine), "the line after the kill")
    found = lines(machine)
    assert [found.count(f"line {number}") for number in range(1, 102)] == [1] * 101


def test_a_killed_agent_is_back_in_two_seconds(machine: Machine) -> None:
    until_quiet()
    backs = [killed(machine, "KILL") for _ in range(KILLS)]
    shown = f"back after kill -9 in {', '.join(map(str, backs))}"
    print(shown)
    took = median(one.took for one in backs)
    if took > BACK and median(one.waited for one in backs) > STARVED:
        assert took <= BACK_UNDER_LOAD, shown
        pytest.skip(f"{BACK:g} s are not asked where others have the processors: {shown}")
    assert took <= BACK, shown


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
    back = killed(machine, "STOP")
    assert back.ended.endswith("Failed with result 'watchdog'.")
    print(f"after SIGSTOP, WatchdogSec=5: back in {back}")


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


def test_an_upgrade_restarts_it_and_keeps_what_was_configured(machine: Machine) -> None:
    """Nobody answers questions, and no option says what to do without an answer."""
    machine.run(f"echo '# mine' >> {CONF}/host.yaml && chmod 700 /etc/vedette && chmod 750 /etc/vedette")
    process, conf = machine.show("MainPID"), machine.run(f"cat {CONF}/*.yaml")
    shown = machine.run("DEBIAN_FRONTEND=noninteractive dpkg -i /srv/packages/vedette-2.deb </dev/null")
    assert "onfiguration file" not in shown
    assert machine.run("dpkg-query -W -f '${db:Status-Abbrev}' vedette").strip() == "ii"
    assert machine.run(f"cat {CONF}/*.yaml") == conf
    assert machine.run(f"ls {CONF} | grep dpkg- || true") == ""
    assert "as a later version has it" in machine.run("cat /usr/share/vedette/agent.yaml")
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
    assert "holds no file of a check" in shown
    # where images are made it is not to run, which alarms nobody
    machine.run("printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d")
    shown = machine.run("/var/lib/dpkg/info/vedette.postinst configure; rm /usr/sbin/policy-rc.d")
    assert "returned 101" in shown
    assert "THE AGENT DOES NOT RUN" not in shown
    assert machine.run("stat -c '%U:%G %a' /etc/vedette /etc/vedette/conf.d").split("\n")[:2] == [
        "root:vedette 750",
        "root:vedette 2750",
    ]
    machine.run("dpkg -r vedette")
    machine.run("dpkg -P vedette")
    found = machine.run("find /run /tmp /dev -not -path '/run/host/*' | grep -i vedette || true")
    assert found == ""
    units = "systemctl list-units --all --no-legend '*vedette*'"
    machine.until(lambda: machine.run(units) == "", "systemd to forget the unit")
    assert machine.run("dpkg -l vedette 2>/dev/null | grep vedette || true") == ""


def test_a_purge_leaves_the_machine_as_it_was(machine: Machine) -> None:
    """All files, users and groups; but for logs, and what dpkg and the user database keep for themselves."""
    kept = "/var/log /var/lib/dpkg /srv /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow-"
    but = " ".join(f"-path {path} -prune -o" for path in kept.split())
    command = f"mkdir -p /opt; (find / -xdev {but} -print; getent passwd; getent group) | sort"
    before = machine.run(command)
    machine.run("dpkg -i /srv/packages/vedette-1.deb")
    machine.write(f"{CONF}/redis.yaml", "instances:\n  - {host: 127.0.0.1}\n")
    machine.run("systemctl reload vedette")
    assert machine.run(command).count("vedette") > 1000
    machine.run("dpkg -P vedette")
    assert set(machine.run(command).splitlines()) ^ set(before.splitlines()) == set()
