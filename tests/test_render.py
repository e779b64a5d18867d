"""Example files, tables and schemas made from a plugin's model."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vedette import (
    Check,
    CheckConfig,
    Duration,
    Emit,
    Kind,
    Listener,
    Metric,
    Notifier,
    NotifierConfig,
    Secret,
    Sink,
    SinkConfig,
)
from vedette.plugins import Group, Registry
from vedette.render import example_config, example_yaml, fill, json_schema, metrics_table, options_table
from vedette.render.__main__ import texts
from vedette.render.options import duration_text, family
from vedette.render.yamltext import block, flow


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Counter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    metric: str = Field(description="Name of the metric.", examples=["dashboard.hourly"])
    read: Literal["get", "scard"] = Field("get", description="How to read it.")
    window: Duration | None = Field(None, description="Only this young.", examples=["5m"])


class Retry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    times: int = Field(default=2, description="How often.", ge=0)
    pause: Duration = Field(default=0.5, description="Time between.")


class StoreConfig(CheckConfig):
    interval: Duration = Field(60.0, description="Time between runs.", examples=["60s"])
    host: str = Field(description="Where | it is.", examples=["db1"])
    port: int = Field(6379, description="TCP port.", ge=1, le=65535)
    socket: Path | None = Field(None, description="Instead of port.", examples=["/run/store.sock"])
    user: str = Field("", description="Who.", examples=["vedette"])
    cert_file: Path | None = Field(None, description="Certificate.", examples=["/etc/c.pem"])
    key_file: Path | None = Field(None, description="Its key.", examples=["/etc/k.pem"])
    password: Secret | None = Field(None, description="Password.")
    tls: bool = Field(False, description="Speak TLS.", examples=[True])
    ca_file: Path | None = Field(None, description="Authorities.", examples=["/etc/ca.pem"])
    wait: Duration = Field(0.25, description="How long to wait.")
    price: Decimal = Field(Decimal("0.10"), description="Cents.")
    level: Level = Field(Level.LOW, description="How loud.")
    prefix: str | None = Field(None, description="Prefix. Default: the name's first letter.", examples=["p:"])
    keys: tuple[str, ...] = Field((), description="Keys to count.", examples=[["a: b", "yes", "on call", "*"]])
    labels: dict[str, int] = Field(default_factory=dict, description="Weights.", examples=[{"a": 1}])
    retry: Retry = Field(default_factory=Retry, description="Trying again.")
    counters: tuple[Counter, ...] = Field(
        (),
        description="Numbers to read.",
        examples=[[{"metric": "dashboard.hourly", "window": "5m"}, {"metric": "dashboard.daily", "read": "scard"}]],
    )

    @model_validator(mode="after")
    def _consistent(self) -> StoreConfig:
        given = self.model_fields_set
        if "port" in given and self.socket is not None:
            raise ValueError("either port or socket")
        if self.user and self.password is None:
            raise ValueError("user needs password")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file need each other")
        if self.ca_file and not self.tls:
            raise ValueError("ca_file needs tls")
        return self


class Store(Check[StoreConfig]):
    """Watches a store.

    In great detail.
    """

    name = "my-store"
    metrics = (
        Metric("store.used", Kind.GAUGE, "byte", "Bytes | used.", ("db", "role")),
        Metric("store.reads", Kind.RATE, "read", "Reads.", per="second"),
    )
    statuses = ("store.can_connect",)

    @classmethod
    def declare(cls, config: StoreConfig) -> list[Metric]:
        return [*cls.metrics, *(Metric(counter.metric, Kind.GAUGE) for counter in config.counters)]

    async def run(self, emit: Emit) -> None: ...


class Bare(Check[CheckConfig]):
    """Has no options."""

    name = "bare"

    async def run(self, emit: Emit) -> None: ...


class EitherConfig(CheckConfig):
    url: str = Field("", description="Where.", examples=["http://a"])
    path: str = Field("", description="Or there.", examples=["/a"])

    @model_validator(mode="after")
    def _one(self) -> EitherConfig:
        if bool(self.url) == bool(self.path):
            raise ValueError("give either url or path")
        return self


class Either(Check[EitherConfig]):
    """Needs one of two."""

    name = "either"


class Port(Listener[CheckConfig]):
    """Takes what comes."""

    name = "port"
    open_names = True


class WireConfig(SinkConfig):
    host: str = Field("127.0.0.1", description="Where to send.")
    port: int = Field(8125, description="UDP port.")


class Wire(Sink[WireConfig]):
    """Sends over a wire."""

    name = "wire"


class PageConfig(NotifierConfig):
    to: str = Field(description="Whom.", examples=["ops"])


class Page(Notifier[PageConfig]):
    """Pages people."""

    name = "page"


def uncommented(text: str) -> str:
    """The file with every commented option in force: `# key: value`, but not `## text`."""
    return re.sub(r"^( *)# ", r"\1", text, flags=re.MULTILINE)


def only_instance(plugin: Any, text: str) -> Any:
    document = yaml.safe_load(text)
    assert set(document) - {"check"} == {"instances"}
    assert document.get("check", plugin.name) == plugin.name
    (options,) = document["instances"]
    return plugin.config_class.model_validate(options)


def test_the_example_as_it_stands_sets_only_what_is_required() -> None:
    document = yaml.safe_load(example_yaml(Store))
    assert document == {"instances": [{"name": "my-store", "host": "db1"}]}
    assert only_instance(Store, example_yaml(Store)).interval == 60


def test_the_example_with_every_option_in_force_is_valid() -> None:
    config = only_instance(Store, uncommented(example_yaml(Store)))
    assert config.model_fields_set == set(StoreConfig.model_fields) - {"socket", "schedule"}
    assert config.keys == ("a: b", "yes", "on call", "*")
    assert config.price == Decimal("0.10")
    assert config.level is Level.LOW
    assert config.retry == Retry(times=2, pause=0.5)
    assert [(c.metric, c.read, c.window) for c in config.counters] == [
        ("dashboard.hourly", "get", 300.0),
        ("dashboard.daily", "scard", None),
    ]
    assert config.timeout == 5
    assert config.metrics.rename == {"redis.mem.used": "cache.memory"}
    assert config == example_config(Store)


@pytest.mark.parametrize(
    "line",
    [
        "    host: db1",
        "    # interval: 1m",
        "    # port: 6379",
        "    ## TCP port. Type: integer (1 to 65535). Default: 6379.",
        "    ## Where | it is. Type: string. Required.",
        "    # wait: 250ms",
        '    # password: "${env:MY_STORE_PASSWORD}"',
        "    # tls: true",
        "    # ca_file: /etc/ca.pem",
        "    ## Prefix. Type: string. Default: the name's first letter.",
        '    # prefix: "p:"',
        "    ## How loud. Type: one of `low`, `high`. Default: low.",
        '    # keys: ["a: b", "yes", on call, "*"]',
        "    # labels: {a: 1}",
        "    # counters:",
        "    #   - {metric: dashboard.hourly, window: 5m}",
        "    #   - {metric: dashboard.daily, read: scard}",
        "    ##   window: Only this young. Type: duration. Default: none.",
        "    # retry: {times: 2, pause: 500ms}",
        "    ## socket: /run/store.sock",
        '    ## or: schedule: "5 * * * *"       # Cron expression instead of an interval.',
        "    # tags: [role:primary]             # Tags added to every sample.",
        "    # timeout: 5s                      # Deadline of one run. Default: the interval, at most 10s.",
        "## my-store: Watches a store.",
    ],
)
def test_the_example_has_the_line(line: str) -> None:
    assert line in example_yaml(Store).splitlines()


def test_own_options_come_before_the_common_ones() -> None:
    text = example_yaml(Store)
    places = [text.index(f"{word}:") for word in ("host", "counters", "## Options of every check", "run_on")]
    assert places == sorted(places)


def test_a_check_without_options_has_a_valid_example() -> None:
    assert yaml.safe_load(example_yaml(Bare)) == {"instances": [{"name": "bare"}]}
    assert only_instance(Bare, uncommented(example_yaml(Bare))).isolate is False


def test_one_of_two_options_that_exclude_each_other_is_set() -> None:
    assert yaml.safe_load(example_yaml(Either)) == {"instances": [{"name": "either", "url": "http://a"}]}
    assert "    ## path: /a" in example_yaml(Either).splitlines()
    assert only_instance(Either, uncommented(example_yaml(Either))).url == "http://a"


def test_a_sink_is_an_entry_of_agent_yaml() -> None:
    text = example_yaml(Wire)
    assert yaml.safe_load(text) == {"sinks": [{"type": "wire"}]}
    (options,) = yaml.safe_load(uncommented(text))["sinks"]
    config = WireConfig.model_validate(options)
    assert (config.host, config.port, config.queue) == ("127.0.0.1", 8125, 10_000)
    assert config.model_fields_set == set(WireConfig.model_fields)


def test_a_notifier_is_an_entry_of_agent_yaml() -> None:
    text = example_yaml(Page)
    assert "## One entry of `notifiers:` in agent.yaml." in text
    assert yaml.safe_load(text) == {"notifiers": [{"type": "page", "to": "ops"}]}
    (options,) = yaml.safe_load(uncommented(text))["notifiers"]
    assert PageConfig.model_validate(options).timeout == 10
    assert options_table(Page).endswith(
        "Besides, as every notifier: `type`, `name`, `timeout`, `retry_for`, `per_minute`.\n"
    )
    assert metrics_table(Page) == "None.\n"


def test_options_table_lists_own_options_with_nested_paths() -> None:
    lines = options_table(Store).splitlines()
    assert lines[:2] == ["| Option | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
    assert "| `host` | string | required | Where \\| it is. |" in lines
    assert "| `interval` | duration | `1m` | Time between runs. |" in lines
    assert "| `prefix` | string | the name's first letter | Prefix. |" in lines
    assert "| `counters` | list of options | none | Numbers to read. |" in lines
    assert "| `counters[].read` | one of `get`, `scard` | `get` | How to read it. |" in lines
    assert "| `retry.times` | integer (at least 0) | `2` | How often. |" in lines
    assert "| `labels` | mapping of strings to integers | none | Weights. |" in lines
    common = "`name`, `schedule`, `timezone`, `timeout`, `tags`, `run_on`, `isolate`, `memory_limit`, `metrics`"
    assert lines[-1] == f"Besides, as every check: {common}."
    assert not any(line.startswith("| `timeout`") for line in lines)


def test_options_table_of_a_check_without_options() -> None:
    common = (
        "`name`, `interval`, `schedule`, `timezone`, `timeout`, `tags`, `run_on`, `isolate`, `memory_limit`, `metrics`"
    )
    assert options_table(Bare) == f"No options of its own. As every check: {common}.\n"


def test_metrics_table() -> None:
    assert metrics_table(Store).splitlines() == [
        "| Metric | Kind | Unit | Tags | Meaning |",
        "| --- | --- | --- | --- | --- |",
        "| `store.used` | gauge | byte | `db`, `role` | Bytes \\| used. |",
        "| `store.reads` | rate | read per second |  | Reads. |",
        "",
        "Further names follow the configuration. With the options of the example file:",
        "",
        "| Metric | Kind | Unit | Tags | Meaning |",
        "| --- | --- | --- | --- | --- |",
        "| `dashboard.hourly` | gauge |  |  |  |",
        "| `dashboard.daily` | gauge |  |  |  |",
        "",
        "Service checks: `store.can_connect`.",
    ]
    assert metrics_table(Port) == "Names that come from the source are passed on as they are.\n"
    assert metrics_table(Bare) == "None.\n"


def test_fill_writes_between_the_markers_and_nothing_else() -> None:
    readme = "a\n<!-- options -->\nold\n<!-- /options -->\nb\n<!-- metrics --><!-- /metrics -->\nc\n"
    once = fill(readme, Store)
    assert once == (
        f"a\n<!-- options -->\n\n{options_table(Store)}\n<!-- /options -->\nb\n"
        f"<!-- metrics -->\n\n{metrics_table(Store)}\n<!-- /metrics -->\nc\n"
    )
    assert fill(once, Store) == once
    assert fill("no marker\n", Store) == "no marker\n"
    with pytest.raises(ValueError, match="<!-- options --> has no <!-- /options --> after it"):
        fill("<!-- /options -->\n<!-- options -->", Store)


@pytest.mark.parametrize(
    "value",
    [
        *("15s", "role:primary", "yes", "null", "1e3", "10:30", "${env:X}", "a: b", "a #b", "", " x", "*", "é\n"),
        *("a:", "-", "- a", "~", "0x1f", "=", "<<", "2024-01-01", "2024-13-45", "@x", "%x", "on call", "123"),
        *(1, 0.1, 1e20, 1e-7, True, None, [], {}, ["a,b", ["c"]], {"a b": {"c": [1, None]}}, {"1": 1, 2: "2"}),
    ],
)
def test_flow_style_reads_back_as_the_same_data(value: Any) -> None:
    assert yaml.safe_load(f"[{flow(value)}]") == [value]
    assert yaml.safe_load("\n".join(block("key", value))) == {"key": value}


def test_long_data_reads_back_from_block_style() -> None:
    data = [{"key": "x" * 60, "deep": [{"a": "y" * 60, "b": {"c": "z" * 100}}]}, {"short": 1}]
    lines = block("data", data)
    assert len(lines) > 5
    assert yaml.safe_load("\n".join(lines)) == {"data": data}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500ms"), (15, "15s"), (90, "90s"), (300, "5m"), (5400, "90m"), (7200, "2h"), (86400, "1d"), (0, "0s")],
)
def test_durations_as_users_write_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# JSON Schema


def accepts(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Validate by the keywords that json_schema uses; any other keyword fails the test."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        rest = {key: part for key, part in schema.items() if key != "$ref"}
        return accepts(root["$defs"][name], value, root) and accepts(rest, value, root)
    return all(_keyword(key, part, schema, value, root) for key, part in schema.items())


_TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
    "null": type(None),
}  # fmt: skip
_NOTES = {"$schema", "$defs", "title", "description", "default", "examples", "writeOnly", "format", "uniqueItems"}


def _keyword(key: str, part: Any, schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _NOTES:
        return True
    if key == "type":
        return isinstance(value, _TYPES[part]) and (part == "boolean" or not isinstance(value, bool))
    if key in ("anyOf", "allOf"):
        return (any if key == "anyOf" else all)(accepts(branch, value, root) for branch in part)
    if key in ("const", "enum"):
        return value in ([part] if key == "const" else part)
    if key == "pattern":
        return not isinstance(value, str) or re.search(part, value) is not None
    if key in ("minimum", "exclusiveMinimum", "maximum"):
        return (
            not is_number or {"minimum": value >= part, "exclusiveMinimum": value > part, "maximum": value <= part}[key]
        )
    if key in ("minLength", "maxLength"):
        return not isinstance(value, str) or (len(value) >= part if key == "minLength" else len(value) <= part)
    if key == "items":
        return not isinstance(value, list) or all(accepts(part, item, root) for item in value)
    if key == "minItems":
        return not isinstance(value, list) or len(value) >= part
    if key in ("minProperties", "maxProperties"):
        return not isinstance(value, dict) or (len(value) >= part if key == "minProperties" else len(value) <= part)
    if key == "required":
        return not isinstance(value, dict) or all(name in value for name in part)
    if key == "properties":
        return not isinstance(value, dict) or all(accepts(part[k], v, root) for k, v in value.items() if k in part)
    if key == "additionalProperties":
        others = (
            [v for k, v in value.items() if k not in schema.get("properties", {})] if isinstance(value, dict) else []
        )
        return not others if part is False else part is True or all(accepts(part, v, root) for v in others)
    raise AssertionError(f"a keyword that editors may not know: {key}")


def instance(**options: Any) -> dict[str, Any]:
    return {"instances": [{"host": "db1", **options}]}


@pytest.mark.parametrize(
    "document",
    [
        instance(),
        {"check": "my-store", "defaults": {"host": "db1"}, "instances": [{"port": 1}, {}]},
        {"defaults": {"port": 1}, "instances": [{"host": "a"}, {"host": "b"}], "alerts": []},
        {
            "instances": [{"host": "a"}],
            "alerts": [{"name": "x", "when": "a > 1", "for": "5m", "keep": "b > 1", "every": None, "notify": ["team"]}],
        },
        instance(port="${env:PORT}", tls="${env:TLS:-true}", wait="${env:W}", level="${env:L}"),
        instance(counters=[{"metric": "a", "read": "${env:READ}", "window": "5m"}], retry={"times": "${env:N}"}),
        instance(interval="15s", timeout=2.5, run_on="leader", tags=["a:b"], labels={"a": 1}, password="x"),
        instance(metrics={"include": ["a.*"], "rename": {"a": "b"}}),
    ],
)
def test_schema_accepts(document: dict[str, Any]) -> None:
    schema = json_schema(Store)
    assert accepts(schema, document, schema)


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [{}]},
        {"defaults": {"port": 1}, "instances": [{"host": "a"}, {}]},
        {"instances": []},
        {"defaults": {"host": "a"}},
        {"check": "redis", **instance()},
        {"extra": 1, **instance()},
        instance(prot=1),
        instance(port=70_000),
        instance(port="6379x"),
        instance(tls="perhaps"),
        instance(wait="soon"),
        instance(level="loud"),
        instance(counters=[{"read": "get"}]),
        instance(counters=[{"metric": "a", "read": "set"}]),
        instance(retry={"times": -1}),
        instance(retry={"time": 1}),
        instance(run_on="sometimes"),
    ],
)
def test_schema_refuses(document: dict[str, Any]) -> None:
    schema = json_schema(Store)
    assert not accepts(schema, document, schema)


def test_schema_says_what_it_is() -> None:
    schema = json_schema(Store)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["title"], schema["description"]) == ("vedette: my-store", "Watches a store.")
    port = schema["$defs"]["options"]["properties"]["port"]
    assert (port["title"], port["description"], port["default"]) == ("Port", "TCP port.", 6379)


def test_schema_of_a_sink_is_one_entry() -> None:
    schema = json_schema(Wire)
    assert accepts(schema, {"type": "wire", "port": 1}, schema)
    assert not accepts(schema, {"type": "file"}, schema)
    assert not accepts(schema, {"port": 1}, schema)


# The generator


def test_the_generator_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "plugins" / "vedette_checks" / "spool"
    folder.mkdir(parents=True)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (folder / "__init__.py").write_text(
        "from vedette import Check, CheckConfig\n\nclass Spool(Check[CheckConfig]):\n    name = 'spool'\n"
    )
    spec = importlib.util.spec_from_file_location("spool_of_a_test", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        (folder / "README.md").write_text("# Spool\n\n<!-- options -->\nold\n<!-- /options -->\n\nBy hand.\n")
        made = dict(texts(module.Spool))
    finally:
        del sys.modules[spec.name]
    example = example_yaml(module.Spool)
    assert made.pop(folder / "conf.yaml.example") == made.pop(tmp_path / "conf.d" / "spool.yaml.example") == example
    assert made == {
        folder / "README.md": f"# Spool\n\n<!-- options -->\n\n{options_table(module.Spool)}\n<!-- /options -->\n"
        "\nBy hand.\n\n## Metrics\n\n<!-- metrics -->\n\nNone.\n\n<!-- /metrics -->\n"
    }


# The built-in plugins


GROUPS: tuple[Group, ...] = ("checks", "sinks", "discoveries")


def plugins() -> list[Any]:
    registry = Registry()
    return [registry.load(group, name) for group in GROUPS for name in registry.names(group)]


def test_examples_of_all_installed_plugins_are_valid() -> None:
    loaded = plugins()
    assert {"host", "redis", "prometheus"} <= {plugin.name for plugin in loaded}
    for plugin in loaded:
        key = {"check": "instances", "sink": "sinks", "discovery": "autodiscovery"}[family(plugin)]
        for text in (example_yaml(plugin), uncommented(example_yaml(plugin))):
            (options,) = yaml.safe_load(text)[key]
            plugin.config_class.model_validate(options)
        schema = json_schema(plugin)
        document = yaml.safe_load(uncommented(example_yaml(plugin)))
        assert accepts(schema, document if key == "instances" else document[key][0], schema), plugin.name


def test_every_built_in_option_and_metric_is_described() -> None:
    for plugin in plugins():
        for line in options_table(plugin).splitlines():
            assert not line.endswith("|  |"), f"{plugin.name}: {line}"
        for line in metrics_table(plugin).partition("Further names")[0].splitlines():
            assert not line.endswith("|  |"), f"{plugin.name}: {line}"


def test_generated_documentation_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vedette.render", "--check"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run `make docs`"
