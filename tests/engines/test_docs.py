"""docs/engines.md says what is so."""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path
from typing import Any

from vedette import Engine
from vedette.plugins import Registry
from vedette.render.tables import options_table

from .test_redis import RIGHTS

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()


def test_the_tables_are_those_of_the_options() -> None:
    tables = dict(re.findall(r"<!-- options: (\w+) -->\n(.*?)\n<!-- /options -->", PAGE, re.DOTALL))
    registry = Registry()
    assert tables == {name: options_table(registry.load("engines", name)).strip() for name in registry.names("engines")}


def test_the_engine_of_the_page_is_one() -> None:
    """Its class registers, and has what every engine must have and nothing that no engine has."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    module = types.ModuleType("etcd_of_the_page")
    exec(compile(block, "docs/engines.md", "exec"), module.__dict__)
    point: Any = types.SimpleNamespace(name="etcd", value="etcd_of_the_page", dist=None, load=lambda: module)
    engine = Registry(lambda group: [point] if group == "vedette.engines" else []).load("engines", "etcd")
    config = engine.config_class(backend="etcd", endpoint="https://etcd1:2379")
    assert engine(config).config.endpoint == "https://etcd1:2379"
    methods = {name for name, value in vars(Engine).items() if inspect.isfunction(value) and name[0] != "_"}
    assert {name for name, value in vars(engine).items() if inspect.isfunction(value)} == methods - {"diagnose"}
    for name in methods - {"diagnose"}:
        assert list(inspect.signature(getattr(engine, name)).parameters) == list(
            inspect.signature(getattr(Engine, name)).parameters
        )


def test_the_rights_are_those_that_were_tried() -> None:
    assert f" {RIGHTS}\n" in PAGE
