"""A third party's options and names under their old names: they work, and who still uses them is told."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field

import vedette
import vedette.kit
from cli.process import Running, wait_until
from cli.process import vedette as run_vedette
from config.parts import Point, write
from vedette import Check, CheckConfig, Secret
from vedette.config import Configuration, load
from vedette.config.renames import _has_old
from vedette.kit import Renamed
from vedette.plugins import Registry
from vedette.render import example_config, example_yaml, json_schema, options_table

HELP = "`vedette example pond` shows the options"
NOTICE = "renamed to limit; vedette-pond 2.0 removes it"


class Bank(BaseModel):
    """An option within an option."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(description="Metres.", validation_alias=Renamed("length", {"size": "vedette-pond 2.0"}))


class PondConfig(CheckConfig):
    """The options of a pond."""

    limit: int = Field(
        100, description="Most frogs.", ge=1,
        validation_alias=Renamed("limit", {"max_frogs": "vedette-pond 2.0", "frogs": "vedette-pond 1.5"}),
    )  # fmt: skip
    token: Secret | None = Field(
        None, description="Password.", validation_alias=Renamed("token", {"key": "vedette-pond 2.0"})
    )
    banks: tuple[Bank, ...] = Field((), description="Banks.")
    depth: int = Field(
        description="Depth.", examples=[3], validation_alias=Renamed("depth", {"deep": "vedette-pond 2.0"})
    )
    colour: str = Field("", description="Colour.", deprecated="nobody looks; vedette-pond 2.0 removes it")
    shape: str = Field("", description="Shape.", deprecated=True)


class Pond(Check[PondConfig]):
    """Counts frogs."""

    name = "pond"

    async def run(self, emit: Any) -> None:
        """Count."""


def read(folder: Path, text: str) -> Configuration:
    registry = Registry(find=lambda group: [Point("checks", Pond)] if group == "vedette.checks" else [])
    return load(write(folder, {"pond.yaml": text}), registry, environ={}, sinks=False)


def said(configuration: Configuration, folder: Path) -> list[str]:
    return [str(one).removeprefix(f"{folder}/") for one in configuration.problems]


@pytest.mark.parametrize(
    ("text", "problems", "limits"),
    [
        ("instances: [{depth: 1, limit: 7}]", [], [7]),
        ("instances:\n- depth: 1\n  max_frogs: 7", [f"pond.yaml:3: instances[0].max_frogs: warning: {NOTICE}"], [7]),
        (
            "instances:\n- {name: a, depth: 1, max_frogs: 7}\n- {name: b, depth: 1, max_frogs: 8}\n"
            "- {name: c, depth: 1, frogs: 9}",
            [
                f"pond.yaml:2: instances[0].max_frogs: warning: {NOTICE}",
                "pond.yaml:4: instances[2].frogs: warning: renamed to limit; vedette-pond 1.5 removes it",
            ],
            [7, 8, 9],
        ),
        (
            "defaults: {max_frogs: 5}\ninstances: [{name: a, depth: 1}, {name: b, depth: 1, limit: 6}]",
            [f"pond.yaml:1: defaults.max_frogs: warning: {NOTICE}"],
            [5, 6],
        ),
        (
            "defaults: {limit: 5}\ninstances:\n- {name: a, depth: 1}\n- {name: b, depth: 1, max_frogs: 6}",
            [f"pond.yaml:4: instances[1].max_frogs: warning: {NOTICE}"],
            [5, 6],
        ),
        (
            "instances:\n- name: a\n  depth: 1\n  limit: 7\n  max_frogs: 7\n- {name: b, depth: 1}",
            [
                "pond.yaml:5: instances[0].max_frogs: is the same option as limit; keep limit alone",
                f"pond.yaml:5: instances[0].max_frogs: warning: {NOTICE}",
            ],
            [100],
        ),
        (
            "defaults: {limit: 7, frogs: 7}\ninstances: [{depth: 1}]",
            [
                "pond.yaml:1: defaults.frogs: is the same option as limit; keep limit alone",
                "pond.yaml:1: defaults.frogs: warning: renamed to limit; vedette-pond 1.5 removes it",
            ],
            [],
        ),
        (
            "instances:\n- depth: 1\n  max_frogs: 0",
            [
                "pond.yaml:3: instances[0].max_frogs: must be at least 1",
                f"pond.yaml:3: instances[0].max_frogs: warning: {NOTICE}",
            ],
            [],
        ),
        ("instances: [{depth: 1, max_frog: 7}]", ["pond.yaml:1: instances[0].max_frog: unknown option; " + HELP], []),
        ("instances: [{depht: 1}]", ["pond.yaml:1: instances[0].depht: unknown option; did you mean 'depth'?"], []),
        ("instances: [{}]", ["pond.yaml:1: instances[0].depth: is required"], []),
        (
            "instances:\n- deep: 1\n  banks: [{length: 1}, {size: 2}]",
            [
                "pond.yaml:2: instances[0].deep: warning: renamed to depth; vedette-pond 2.0 removes it",
                "pond.yaml:3: instances[0].banks[1].size: warning: renamed to length; vedette-pond 2.0 removes it",
            ],
            [100],
        ),
        (
            "instances: [{depth: 1, banks: [{length: 1, size: 2}]}]",
            [
                "pond.yaml:1: instances[0].banks[0].size: is the same option as length; keep length alone",
                "pond.yaml:1: instances[0].banks[0].size: warning: renamed to length; vedette-pond 2.0 removes it",
            ],
            [],
        ),
        (
            "instances: [{depth: 1, shape: round}]",
            ["pond.yaml:1: instances[0].shape: warning: goes away"],
            [100],
        ),
        (
            "instances: [{depth: 1, colour: green}]",
            ["pond.yaml:1: instances[0].colour: warning: goes away: nobody looks; vedette-pond 2.0 removes it"],
            [100],
        ),
    ],
)  # fmt: skip
def test_what_a_file_says(tmp_path: Path, text: str, problems: list[str], limits: list[int]) -> None:
    configuration = read(tmp_path, text)
    assert sorted(said(configuration, tmp_path)) == sorted(problems)
    assert [one.config.limit for one in configuration.instances] == limits  # type: ignore[attr-defined]


def test_an_old_name_deep_within_is_enough() -> None:
    class Shore(BaseModel):
        banks: dict[str, tuple[Bank | None, ...]] = Field(default_factory=dict)

    assert (_has_old(Shore), _has_old(Bank), _has_old(CheckConfig)) == (True, True, False)


def test_a_secret_under_its_old_name_is_one(tmp_path: Path) -> None:
    configuration = read(tmp_path, "instances: [{depth: 1, key: hunter2pw}, {depth: 1, key: hunter2pw, token: x}]")
    assert "hunter2pw" not in repr((configuration.instances, said(configuration, tmp_path)))
    assert configuration.masker("a hunter2pw") == "a ****"


def test_the_table_the_example_and_the_schema_tell(tmp_path: Path) -> None:
    table = options_table(Pond)
    assert (
        "| `limit` | integer (at least 1) | `100` | Most frogs. Was `max_frogs`, which vedette-pond 2.0 removes. "
        "Was `frogs`, which vedette-pond 1.5 removes. |" in table
    )
    assert "| Colour. Goes away: nobody looks; vedette-pond 2.0 removes it. |" in table
    assert "colour" not in example_yaml(Pond)
    assert example_config(Pond).depth == 3
    schema = json_schema(Pond)
    options = schema["$defs"]["options"]["properties"]
    assert {name for name, one in options.items() if one.get("deprecated")} == {
        "max_frogs",
        "frogs",
        "key",
        "deep",
        "colour",
        "shape",
    }
    assert options["max_frogs"]["description"] == f"R{NOTICE[1:]}."
    assert options["max_frogs"]["anyOf"] == options["limit"]["anyOf"]
    validator = jsonschema.Draft202012Validator(schema)
    good: list[Mapping[str, Any]] = [
        {"instances": [{"depth": 1}]}, {"instances": [{"deep": 1, "max_frogs": 2}]},
        {"defaults": {"deep": 1}, "instances": [{"limit": 1}]}, {"defaults": {"limit": 1}, "instances": [{"depth": 1}]},
        {"instances": [{"depth": 1, "banks": [{"size": 1}, {"length": 2}]}]},
    ]  # fmt: skip
    assert [one for one in good if not validator.is_valid(one)] == []
    bad: list[Mapping[str, Any]] = [
        {"instances": [{"limit": 1}]}, {"instances": [{"depth": 1, "max_frog": 1}]},
        {"instances": [{"depth": 1, "banks": [{}]}]}, {"instances": [{"deep": "x"}]},
    ]  # fmt: skip
    assert [one for one in bad if validator.is_valid(one)] == []


PLUGIN = '''"""Counts frogs."""

from pydantic import Field

from vedette import Check, CheckConfig, Kind, Metric, hookimpl
from vedette.kit import Renamed


class PondConfig(CheckConfig):
    limit: int = Field(100, validation_alias=Renamed("limit", {"max_frogs": "vedette-pond 2.0"}))


class Pond(Check[PondConfig]):
    name = "pond"
    metrics = (Metric("pond.limit", Kind.GAUGE),)

    async def run(self, emit):
        emit.gauge("pond.limit", self.config.limit)


@hookimpl
def register_checks(register):
    register(Pond)
'''


def test_validate_and_a_running_agent_tell(tmp_path: Path) -> None:
    info = tmp_path / "site" / "vedette_pond-1.0.dist-info"
    write(tmp_path, {
        "site/vedette_pond.py": PLUGIN,
        f"site/{info.name}/METADATA": "Metadata-Version: 2.1\nName: vedette-pond\nVersion: 1.0\n",
        f"site/{info.name}/entry_points.txt": "[vedette.checks]\npond = vedette_pond\n",
        "conf.d/pond.yaml": "instances:\n- {name: a, max_frogs: 7, interval: 100ms}\n- {name: b, max_frogs: 8}\n",
        "conf.d/agent.yaml": "sinks: [{type: file, path: ../out.jsonl}]\nreport_interval: 200ms\n",
    })  # fmt: skip
    line = f"conf.d/pond.yaml:2: instances[0].max_frogs: warning: {NOTICE}"
    more = {"PYTHONPATH": str(tmp_path / "site")}
    done = run_vedette("validate", cwd=tmp_path, **more)
    assert (done.returncode, done.stderr) == (0, f"{line}\n")
    with Running(cwd=tmp_path, **more) as agent:
        agent.wait_for(NOTICE)
        out = tmp_path / "out.jsonl"
        wait_until(lambda: out.exists() and '"pond.limit"' in out.read_text(), "a sample")
        status = run_vedette("status", cwd=tmp_path, **more)
        assert (status.returncode, status.stdout.count(line)) == (0, 1), status.stdout
        agent.end(15)
    assert sum(NOTICE in one for one in agent.lines) == 1


@pytest.mark.parametrize("module", [vedette, vedette.kit], ids=lambda module: module.__name__)
def test_old_names_of_modules_are_the_new_ones(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    new = "CheckError" if module is vedette else "Budget"
    monkeypatch.setitem(module._RENAMED, "Former", (new, "vedette 2.0"))
    text = f"{module.__name__}.Former is now called {new}; vedette 2.0 removes the old name"
    with pytest.warns(DeprecationWarning, match="Former is now called") as caught:
        assert module.Former is getattr(module, new)
    assert [(str(one.message), one.filename) for one in caught] == [(text, __file__)]
    with pytest.warns(DeprecationWarning, match="vedette 2.0 removes the old name") as caught:
        exec(compile(f"from {module.__name__} import Former", __file__, "exec"), {})
    assert {one.filename for one in caught} == {__file__}
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'Formre'"):
        module.Formre  # noqa: B018


def test_nothing_is_called_otherwise_today_and_nothing_old_is_public() -> None:
    for module in (vedette, vedette.kit):
        for old, (new, remover) in module._RENAMED.items():
            assert (old in module.__all__, new in module.__all__) == (False, True)
            assert remover.startswith("vedette ")
            assert ast.literal_eval(remover.removeprefix("vedette ")) > float(vedette.__version__.rpartition(".")[0])


def test_type_checkers_do_not_take_every_name_of_the_kit() -> None:
    tree = ast.parse(Path(vedette.kit.__file__).read_text(encoding="utf-8"))
    (hidden,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"]
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and hidden in node.body]
    assert ast.unparse(block.test) == "not TYPE_CHECKING"
