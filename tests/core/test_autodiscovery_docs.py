"""docs/autodiscovery.md says what is so: its options, its annotation, its template, its message."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from core.scouting import pod
from vedette import Container, DiscoveryConfig, Sink, SinkConfig
from vedette.config import load
from vedette.config.discovered import Maker
from vedette.plugins import Registry
from vedette.render.tables import options_table
from vedette_checks.k8s.targets import VARIABLES

PAGE = (Path(__file__).parents[2] / "docs" / "autodiscovery.md").read_text()
TABLES = dict(re.findall(r"<!-- options: (\w+) -->\n(.*?)\n?<!-- /options -->", PAGE, re.DOTALL))
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class _Options(DiscoveryConfig, SinkConfig):
    """The renderer takes plugins' options, and leaves out those that every plugin of the kind has."""


class _Common(Sink[_Options]):
    name = "common"


def rendered(plugin: Any) -> str:
    return options_table(plugin).partition("\n\nBesides")[0].strip()


def test_the_tables_are_those_of_the_options() -> None:
    assert {"common": rendered(_Common), "k8s": rendered(Registry().load("discoveries", "k8s"))} == TABLES


def test_the_page_names_every_variable_of_pods() -> None:
    assert all(f"`%%{name}%%`" in PAGE for name in VARIABLES)


def test_the_examples_work(tmp_path: Path) -> None:
    agent, manifest, template = YAML
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text(agent)
    (conf / "redis.yaml").write_text(template)
    configuration = load(conf, Registry(), environ={"REDIS_PASSWORD": "hunter2-s3cret"})
    assert configuration.problems == ()
    asks = yaml.safe_load(manifest)["metadata"]["annotations"]["vedette.dev/checks"]
    cache = Container("redis", "docker.io/library/redis:7.2", {"redis": 6379}, {"REDIS_PASSWORD": "theirs-1234"})
    pods = [
        pod(asks=asks, containers=[cache]),
        pod("plain", containers=[cache], labels={"tier": "cache"}),
        pod("wrong", asks.replace("port_redis", "port_http"), containers=[cache]),
    ]
    found = Maker(Registry()).make(configuration, {"k8s": pods})
    made: list[Any] = [(one.id, one.config) for one in found.instances]
    assert [(name, config.password.reveal(), config.port) for name, config in made] == [
        ("redis/payments.api-7f9c", "theirs-1234", 6379),
        ("redis/payments.plain", "hunter2-s3cret", 6379),
    ]
    (line,) = re.findall(r"^```text\n(.*)\n```$", PAGE, re.MULTILINE)
    assert [str(one).replace("wrong", "api-7f9c") for one in found.problems] == [line]


def test_the_example_file_is_a_template(tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text("autodiscovery: [{type: k8s}]\n")
    text = (Path(__file__).parents[2] / "conf.d" / "redis-pods.yaml.example").read_text()
    (conf / "redis-pods.yaml").write_text(text)
    configuration = load(conf, Registry())
    assert configuration.problems == ()
    cache = Container("cache", "docker.io/valkey/valkey:9", {"redis": 7000})
    (instance,) = Maker(Registry()).make(configuration, {"k8s": [pod(containers=[cache])]}).instances
    config: Any = instance.config
    assert (instance.id, config.port) == ("redis/payments.api-7f9c", 7000)
