"""docs/datadog-as-code.md and the README: their YAML is valid, and Datadog would take what it makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ascode.server import check_dashboard, check_monitor
from vedette.datadog.model import Head, Monitor
from vedette.datadog.reading import read, ready_made

if TYPE_CHECKING:
    from vedette.datadog.reading import Definitions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "datadog-as-code.md").read_text()
BLOCK = re.compile(r"```yaml\n# datadog/(\w+)\.yaml\n(.*?)```", re.DOTALL)
BLOCKS = dict(BLOCK.findall(PAGE))


def definitions(text: str, folder: Path) -> Definitions:
    (folder / "a.yaml").write_text(text)
    return read([folder / "a.yaml"])


@pytest.mark.parametrize("name", ["payments", "postgres", "own", "boards"])
def test_the_yaml_is_valid(tmp_path: Path, name: str) -> None:
    found = definitions(BLOCKS[name], tmp_path)
    assert found.problems == []
    assert found.items
    for one in found.items:
        if one.key == "default/anything":  # anomalies() is beyond the grammar of our server
            assert one.body["query"].startswith("avg(last_4h):anomalies(")
        elif name in ("own", "boards"):  # what is ready-made is sent whole by test_sync
            (check_monitor if one.kind == "monitor" else check_dashboard)(one.body)


def test_the_number_in_the_page_is_so(tmp_path: Path) -> None:
    number = len(definitions(BLOCKS["payments"], tmp_path).items)
    assert f"would be: {number} created, 0 changed, 0 removed, 0 as they should be" in PAGE


def test_the_readme_says_what_is_so(tmp_path: Path) -> None:
    ((_, text),) = BLOCK.findall((ROOT / "README.md").read_text())
    found = definitions(text, tmp_path)
    assert found.problems == []
    assert len(found.items) > 20


def test_every_option_of_a_monitor_is_in_the_table() -> None:
    table = PAGE.partition("| Option | Meaning |")[2].partition("\n\n")[0]
    own = set(Monitor.model_fields) - {"id", "name", "status", "times", "type", "query", "per"}
    assert {name for name in own if f"`{name}`" not in table} == set()


def test_every_option_of_a_file_and_every_page_is_named() -> None:
    for name in (*Head.model_fields, "use", "monitors", "dashboards"):
        assert re.search(rf"\b{name}:", PAGE), name
    pages = set(ready_made()) & {"realtime", "business", "technical", "infrastructure", "agent"}
    assert all(f"`{name}`" in PAGE for name in pages)
    assert len(pages) == 5
