"""`fleet:` and `run_on:` as files say them, what the commands make of them, and what the page about them promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cli.process import vedette
from servers import free_port
from vedette.config import Configuration, load
from vedette.config.changes import compare, in_force
from vedette.control import Snapshot
from vedette.ownership import identity_of
from vedette.plugins import Registry
from vedette.render.options import plugin_options
from vedette.render.tables import _default
from vedette.report import AGENT_METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()
FLEET = "fleet: {backend: redis, port: 1, ttl: 20s, password: hunter2secret}\n"


def read(folder: Path, agent: str = FLEET, **files: str) -> Configuration:
    conf = folder / "conf.d"
    conf.mkdir(exist_ok=True)
    for name, text in {"agent": agent, **files}.items():
        (conf / f"{name}.yaml").write_text(text)
    return load(conf, Registry())


OWNED = "instances: [{name: a, run_on: hash}, {name: b, run_on: leader}, {name: c}]\n"


def test_run_on_is_in_force_where_there_is_a_fleet(tmp_path: Path) -> None:
    found = read(tmp_path, host=OWNED)
    assert found.problems == ()
    assert [(one.run_on, one.owned) for one in found.instances] == [
        ("hash", True),
        ("leader", True),
        ("every_node", False),
    ]
    assert found.fleet is not None
    plugin, options = found.fleet
    assert (plugin.name, options.name, options.ttl, options.identity) == ("redis", "default", 20.0, "")
    assert found.masker("password hunter2secret") == "password ****"


@pytest.mark.parametrize("sinks", [True, False])
def test_one_shot_commands_know_that_there_is_a_fleet_and_import_no_engine(tmp_path: Path, sinks: bool) -> None:
    read(tmp_path, host=OWNED)
    found = load(tmp_path / "conf.d", Registry(), only="host", sinks=sinks)
    assert [one.owned for one in found.instances] == [True, True, False]
    assert (found.fleet is not None) is sinks


def test_a_broken_agent_yaml_is_the_only_mistake_that_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, "fleet: {backend: redis, ttl: soon}\n", host=OWNED)
    assert [problem.path for problem in found.problems] == ["fleet.ttl"]
    assert found.fatal
    found = read(tmp_path, "fleet: {backend: {}\n", host=OWNED)
    assert {problem.file.rpartition("/")[2] for problem in found.problems} == {"agent.yaml"}


def test_a_template_makes_instances_that_one_agent_runs(tmp_path: Path) -> None:
    template = 'instances: [{host: "%%host%%", run_on: hash, match: {image: "redis:*", namespace: "*"}}]\n'
    discovery = "autodiscovery: [{type: k8s}]\n"
    assert read(tmp_path, FLEET + discovery, redis=template).problems == ()
    found = read(tmp_path, discovery, redis=template)
    assert [problem.path for problem in found.problems] == ["instances[0].run_on"]


def test_reloads_see_that_the_fleet_is_another(tmp_path: Path) -> None:
    before = read(tmp_path, host=OWNED)
    assert compare(before, read(tmp_path, host=OWNED)).agent == ()
    after = read(tmp_path, FLEET.replace("20s", "30s"), host=OWNED)
    assert [(one.name, one.what) for one in compare(before, after).agent] == [("fleet", ("changed",))]
    broken = read(tmp_path, "fleet: {ttl: 5s}\n", host=OWNED)
    assert in_force(before, broken).fleet == before.fleet
    # without the fleet the file is wrong, and goes on as it was: standing by, since nobody gives leases any more
    gone = in_force(before, read(tmp_path, "", host=OWNED))
    assert (gone.fleet, [one.owned for one in gone.instances]) == (None, [True, True, False])


@pytest.mark.parametrize(
    ("options", "host", "identity"),
    [("", "node-7.example.com", "node-7.example.com"), ("", "Jo's laptop", "Jo-s-laptop"), ("", "—", "agent"),
     (", identity: n1", "node-7", "n1")],
)  # fmt: skip
def test_the_name_of_an_agent(tmp_path: Path, options: str, host: str, identity: str) -> None:
    found = read(tmp_path, FLEET.replace(", ttl", f"{options}, ttl"), host=OWNED)
    assert found.problems == ()
    assert identity_of(found, host) == identity


def test_commands_say_what_they_do_with_owned_instances(tmp_path: Path) -> None:
    read(tmp_path, FLEET.replace("port: 1", f"port: {free_port()}"), host=OWNED)
    done = vedette("validate", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (
        0,
        "conf.d: 3 instances (2 of them on one agent of the fleet), no errors\n",
    )
    done = vedette("check", "host", "--instance", "a", cwd=tmp_path)
    assert (done.returncode, done.stdout[:9]) == (0, "host/a ok")
    beside = "one agent of the fleet runs this; here it is run beside it, without the state that the fleet keeps\n"
    assert done.stderr == beside
    done = vedette("plan", "--runs", "1", cwd=tmp_path)
    assert (
        "2 of 3 instances run on one agent of the fleet, so that their cost counts once for all agents" in done.stderr
    )
    assert re.search(r"^host/a +ok ", done.stdout, re.MULTILINE)
    done = vedette("doctor", cwd=tmp_path)
    assert done.returncode == 2
    (case,) = re.findall(r"^fleet default\n((?:  .*\n)+)", done.stdout, re.MULTILINE)
    assert re.search(r"TCP +failed +nothing listens on localhost:\d+", case)
    assert "hunter2secret" not in done.stdout
    done = vedette("run", "--once", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        "not run, since only one agent of the fleet may, and with --once this one joins none: host/a, h" in done.stderr
    )
    assert " host/c " in done.stdout
    assert not re.search(r" host/[ab] ", done.stdout)


# The page


def test_the_page_has_the_options_and_the_metrics() -> None:
    (table,) = re.findall(r"<!-- options: fleet -->\n(.*?)\n<!-- /options -->", PAGE, re.DOTALL)
    engine = Registry().load("engines", "redis")
    common = [
        f"| `{one.name}` | {one.type} | {_default(one)} | {one.meaning} |"
        for one in plugin_options(engine)
        if one.common
    ]
    assert table.splitlines()[2:] == common
    names = {metric.name for metric in AGENT_METRICS if metric.name.startswith("vedette.fleet.")}
    assert set(re.findall(r"`(vedette\.fleet\.\w+)`", PAGE)) == names


def test_a_snapshot_without_a_fleet_has_none() -> None:
    made: Any = Snapshot(1.0, 0.0, (), (), ())
    assert made.fleet is None
