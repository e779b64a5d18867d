"""What the README says, done: install, the two commands, the first YAML file, the first plugin, every YAML example."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from cli.process import environ
from servers import free_port
from sinks.intake import KEY, intake
from test_acceptance import rows_of
from vedette.config import load
from vedette.config.problems import Report
from vedette.config.source import parse
from vedette.plugins import Registry

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted(
    path for path in ROOT.rglob("*.md") if not {".venv", "node_modules", "tests"} & set(path.relative_to(ROOT).parts)
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIABLES = {"HEARTBEAT_URL": "https://heartbeat.example.com/x"}
"""Of the examples' variables, what must be of some form."""
NAMED = re.compile(r"# conf\.d/([\w-]+\.yaml)\n")


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(text) if found == language]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def run(command: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A README line, in a shell, with this environment's programs on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=True,
        cwd=cwd,
        env={**environ(cwd / "state"), "PATH": path, **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write_examples(text: str, folder: Path) -> Path:
    """The YAML blocks that name a file of conf.d, in a conf.d of their own, the Prometheus port made free."""
    conf = folder / "conf.d"
    conf.mkdir(parents=True)
    for body in blocks(text, "yaml"):
        if name := NAMED.match(body):
            (conf / name[1]).write_text(body.replace("9464", str(free_port())))
    return conf


def commands(text: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for body in blocks(text, "sh") for line in body.splitlines()]
    return [line for line in lines if line]


def test_the_first_yaml_file_and_its_commands(tmp_path: Path) -> None:
    text = section("A first YAML file")
    conf = write_examples(text, tmp_path)
    assert sorted(path.name for path in conf.iterdir()) == ["agent.yaml", "host.yaml"]
    validate, check, agent = commands(text)
    done = run(validate, tmp_path)
    assert (done.returncode, done.stdout) == (0, "conf.d: 1 instance, no errors\n"), done.stderr
    done = run(check, tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("host/host ok")
    assert "team:payments" in done.stdout
    done = run(f"{agent} --for 1s", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "1 instances, 2 sinks" in done.stderr
    done = run("vedette example redis > conf.d/redis.yaml && vedette validate --conf conf.d", tmp_path)
    assert (done.returncode, done.stdout) == (0, "conf.d: 2 instances, no errors\n"), done.stderr


@pytest.mark.anyio
async def test_send_to_datadog_and_what_doctor_says_of_it(tmp_path: Path) -> None:
    text = section("Send to Datadog")
    install, doctor, agent = commands(text)
    assert install == "pip install 'vedette[datadog]'"
    conf = write_examples(text, tmp_path)
    options = (conf / "agent.yaml").read_text()
    async with intake() as there:
        (conf / "agent.yaml").write_text(options.replace("site: datadoghq.com", f"base_url: {there.url}"))
        done = await asyncio.to_thread(run, doctor, tmp_path, DD_API_KEY=KEY)
        found = dict(
            re.findall(r"^  (\w[\w ]*?)  +(ok|warning|failed|info) ", done.stdout.split("sink datadog")[1], re.M)
        )
        assert found == {"queue": "ok", "TCP": "ok", "TLS": "warning", "API key": "ok", "clock": "ok",
                         "configuration": "ok", "state": "ok"}, done.stdout  # fmt: skip
        there.ahead = 30
        done = await asyncio.to_thread(run, doctor, tmp_path, DD_API_KEY=KEY[::-1])
        assert re.search("^  API key +failed +127.0.0.1:.* refuses it .403.$", done.stdout, re.M), done.stdout
        assert re.search("^  clock +warning +the server is .* ahead of this machine$", done.stdout, re.M), done.stdout
        assert KEY[::-1] not in done.stdout + done.stderr
        proxy = "http://u:hunter2secret@127.0.0.1:9"
        done = await asyncio.to_thread(run, doctor, tmp_path, DD_API_KEY=KEY, HTTP_PROXY=proxy)
        assert "127.0.0.1 is reached by way of http://u:****@127.0.0.1:9" in done.stdout
        assert re.search("^  TCP +failed +nothing listens on 127.0.0.1:9$", done.stdout, re.M), done.stdout
        assert re.search("^  API key +not reached", done.stdout, re.M), done.stdout
        done = await asyncio.to_thread(run, f"{agent} --once", tmp_path, DD_API_KEY=KEY)
        assert done.returncode == 0, done.stderr
        up = {name for name, *_ in there.points}
        assert {"vedette.agent.up", "system.load.1", "health_check.status"} <= up
        assert all("team:payments" in tags for _, tags, *_ in there.points)


def test_ship_logs(tmp_path: Path) -> None:
    text = section("Ship logs")
    write_examples(text, tmp_path)
    make, agent = commands(text)
    assert run(make, tmp_path).returncode == 0
    done = run(agent, tmp_path)
    shown = " ".join(re.findall(r"# … (.*?)  …", text))
    assert done.returncode == 0, done.stderr
    assert shown == "log_file/payments log error ERROR charge failed for ****"
    assert shown in done.stdout
    assert "4111" not in done.stdout + done.stderr


def test_the_two_commands_do_what_the_readme_says() -> None:
    demo, timed, test = commands(section("See it"))
    assert (demo, timed, test) == ("make demo", 'make demo ARGS="--for 30s"', "make test")
    planned = run(f"{timed.replace('make', 'make -n')}", ROOT).stdout
    assert "python examples/demo --for 30s" in planned
    assert "python -m pytest" in run(test.replace("make", "make -n"), ROOT).stdout


def test_the_demo_shows_live_values_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for seconds, last_try in ((13, False), (30, False), (40, True)):
        done = run(f"{sys.executable} {ROOT}/examples/demo --for {seconds}s", tmp_path, TMPDIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.iterdir()) == []
        try:
            assert done.stderr == ""
            shows_live_values(done.stdout.split("vedette demo")[-1])
            break
        except (AssertionError, KeyError):
            if last_try:  # before it, a machine that stops for a while may have shown less, or have timed out
                raise


def shows_live_values(last: str) -> None:
    """The last screen of the demo."""
    instances = ("business_sql/hourly-summary", "host/host", "postgres/shop-primary", "postgres/shop-replica")
    clouds = ("cloudwatch/shop", "k8s/payments-cluster", "sqs/queues")
    others = ("redis/cache", "redis/dashboard", "statsd/payments", "synthetic/payment-flow")
    for name in (*instances, *others, *clouds):
        assert re.search(rf"^{name} +ok +\d\d:\d\d:\d\d ", last, re.MULTILINE), last
    shown = dict(re.findall(r"^(\S+) +([\d,.]+) +\S", last.split("metric ")[1], re.MULTILINE))
    assert float(shown["dashboard.transactions.hourly"].replace(",", "")) > 10
    applications = [row["metric"] for row in rows_of("strategy-metrics.csv") if row["emitted_by"] == "instrument"]
    assert set(applications) <= set(re.findall(r"^([a-z_.\d]+) +[-\d]", last.split("metric ")[1], re.MULTILINE))
    seldom = {"business.fraud.blocked_transactions", "business.fraud.false_positives", "business.users.registrations"}
    late = {name for name in applications if name.startswith("database.pool.")}  # every ten seconds
    assert set(applications) - set(shown) <= seldom | {"business.users.verifications"} | late
    assert float(shown["redis.net.commands"].replace(",", "")) > 10
    assert float(shown["postgresql.commits"].replace(",", "")) > 10
    assert float(shown["postgresql.health.lag_seconds"]) < 5
    assert float(shown["shop.payments"].replace(",", "")) > 0
    assert float(shown["synthetic.verify.response_time"].replace(",", "")) > 50
    assert float(shown["business.hourly.transaction_count"]) > 10
    assert sum(name.startswith("aws.") and name != "aws.cloudwatch.estimated_month_usd" for name in shown) == 10
    assert 350 < float(shown["k8s.pods.running"]) < 420
    assert float(shown["k8s.pods.failed"]) == 17
    assert float(shown["k8s.pods.pending"]) >= 16
    assert (shown["k8s.nodes.ready"], shown["k8s.nodes.not_ready"]) == ("10", "2")
    assert 1 < float(shown["k8s.cpu.utilization"]) < 20
    assert 1 < float(shown["k8s.memory.utilization"]) < 20
    assert 50 < float(shown["k8s.hpa.current_replicas"]) < 100
    assert 30 < float(shown["k8s.hpa.desired_replicas"]) < 91
    assert shown["health_check.overall"] == "1"
    assert re.search(r"Prometheus page: http://127\.0\.0\.1:\d+/metrics", last)


@pytest.mark.soak
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 0)])
def test_a_signal_ends_the_demo_with_its_servers(number: signal.Signals, status: int, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "demo")],
        cwd=tmp_path,
        env={**environ(tmp_path / "state"), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    children = []
    try:
        for line in demo.stdout:
            if "redis/cache" in line:
                break
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        demo.send_signal(number)
        demo.communicate(timeout=30)
        assert demo.returncode == status
    finally:
        demo.terminate()
        demo.wait(30)
        demo.stdout.close()
    assert len(children) == 5  # AWS, Valkey, the primary, the replica and the payments service
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.iterdir()) == []


def test_install_and_the_first_plugin_in_a_fresh_environment(tmp_path: Path) -> None:
    """Both wheels are built and installed as the README says; only what PyPI would bring comes from here."""
    text = section("A first plugin")
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "vedette_queue_depth.py").write_text(blocks(text, "python")[0])
    (plugin / "pyproject.toml").write_text(blocks(text, "toml")[0])
    write_examples(text, tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "one").touch()
    file = tmp_path / "conf.d" / "queue_depth.yaml"
    file.write_text(file.read_text().replace("/var/spool/jobs", str(spool)))

    source = tmp_path / "vedette"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", "tests", ".*_cache")
    )
    home = tmp_path / "venv"
    venv.create(home)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    (site / "from-here.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = f"{sys.executable} -m pip --python {home}/bin/python install --quiet --no-compile"  # ensurepip takes 5 s
    pip += " --no-index --no-deps --no-build-isolation --ignore-installed"
    for folder in (source, plugin):
        done = run(f"{pip} .", folder, PIP_DISABLE_PIP_VERSION_CHECK="1")
        assert done.returncode == 0, done.stderr
    assert "/venv/" in run(f"{home}/bin/python -c 'import vedette; print(vedette.__file__)'", tmp_path).stdout

    done = run(f"{home}/bin/vedette plugins", tmp_path)
    assert re.search(
        r"^check +queue_depth +vedette-queue-depth 1\.0\.0 +Files waiting in a folder\.", done.stdout, re.M
    )
    done = run(f"{home}/bin/vedette run --once", tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"queue_depth\.files\b.* 1\b", done.stdout)
    done = run(f"{home}/bin/vedette check queue_depth", tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("queue_depth/queue_depth ok")
    file.write_text(file.read_text().replace("limit", "limmit"))
    done = run(f"{home}/bin/vedette validate", tmp_path)
    assert done.returncode == 3
    line = "conf.d/queue_depth.yaml:4: instances[0].limmit: unknown option; did you mean 'limit'?\n"
    assert done.stderr == line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_example_parses_and_every_named_file_is_valid(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    agent = next((body for body in blocks(text, "yaml") if body.startswith("# conf.d/agent.yaml\n")), "")
    for number, body in enumerate(blocks(text, "yaml")):
        report = Report(f"{page.name}, example {number}")
        assert parse(body.encode(), report) is not None
        assert report.problems == []
        name = NAMED.match(body)
        files = (*Registry().names("checks"), "agent", "alerts")
        if name is None or (name[1].removesuffix(".yaml") not in files and "check:" not in body):
            continue
        conf = tmp_path / str(number)
        conf.mkdir()
        if "notify:" in body or "run_on:" in body:  # by the names that the page's agent.yaml gives, in its fleet
            (conf / "agent.yaml").write_text(agent)
        (conf / name[1]).write_text(body)
        problems = load(conf, Registry(), secrets="lazy", environ=VARIABLES).problems
        assert [str(problem) for problem in problems if problem.severity == "error"] == []
