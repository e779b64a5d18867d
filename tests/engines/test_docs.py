"""docs/engines.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from vedette.plugins import Registry
from vedette.render.tables import options_table

from .test_redis import RIGHTS

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()


def test_the_tables_are_those_of_the_options() -> None:
    tables = dict(re.findall(r"<!-- options: (\w+) -->\n(.*?)\n<!-- /options -->", PAGE, re.DOTALL))
    registry = Registry()
    assert tables == {name: options_table(registry.load("engines", name)).strip() for name in registry.names("engines")}


def test_the_rights_are_those_that_were_tried() -> None:
    assert f" {RIGHTS}\n" in PAGE
