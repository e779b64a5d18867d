"""docs/operate.md says what is so: the table of options is that of the model."""

from __future__ import annotations

import re
from pathlib import Path

from vedette import Sink, SinkConfig
from vedette.config import HttpConfig
from vedette.render.tables import options_table

PAGE = (Path(__file__).parents[2] / "docs" / "operate.md").read_text()


class _Options(HttpConfig, SinkConfig):
    """The renderer takes plugins' options, and leaves out those that every sink has."""


class _Page(Sink[_Options]):
    name = "http"


def test_the_table_is_that_of_the_options() -> None:
    (table,) = re.findall(r"<!-- options: http -->\n(.*?)\n<!-- /options -->", PAGE, re.DOTALL)
    assert table == options_table(_Page).partition("\n\nBesides")[0].strip()
