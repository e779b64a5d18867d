"""docs/notifiers.md says what is so: its tables, its YAML, its text of a mail, its example of a plugin."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notifiers.receivers import alert
from vedette.config import load
from vedette.kit import alert_text
from vedette.notifiers.slack.blocks import message
from vedette.plugins import Registry
from vedette.render.tables import options_table

PAGE = (Path(__file__).parents[2] / "docs" / "notifiers.md").read_text()
NAMES = ("pagerduty", "slack", "email", "sns", "webhook", "alertmanager")
TABLES = dict(re.findall(r"<!-- options: (\w+) -->\n(.*?)\n<!-- /options -->", PAGE, re.DOTALL))


def test_every_notifier_has_its_chapter() -> None:
    assert tuple(re.findall(r"^## ([a-z]+)$", PAGE, re.MULTILINE)) == tuple(TABLES) == NAMES
    assert sorted(NAMES) == Registry().names("notifiers")


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_are_those_of_the_options(name: str) -> None:
    assert TABLES[name] == options_table(Registry().load("notifiers", name)).strip()


def test_the_yaml_is_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n# conf.d/agent.yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 7
    names = {one: f"{one}-value" for one in re.findall(r"\$\{env:(\w+)\}", PAGE)}
    for text in blocks:
        text = text.replace("${env:SLACK_WEBHOOK}", "https://hooks.slack.com/services/x")
        (tmp_path / "agent.yaml").write_text(text)
        (tmp_path / "host.yaml").write_text("instances: [{}]")
        configuration = load(tmp_path, Registry(), environ=names)
        assert configuration.problems == ()
        assert configuration.notifiers


def test_what_a_mail_and_a_message_look_like() -> None:
    shown, slack = (block for block in reversed(re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)))
    told = alert()
    evidence = replace(told.evidence, error="step 'pay' answered 503", links=told.evidence.links[:1])
    told = replace(told, evidence=evidence)
    assert shown.partition("\n\n")[2] == alert_text(told)
    made = message([told], "<!here>")["blocks"]
    said = " ".join(re.sub(r"[*`]|<http[^|]*\||>", " ", str(part)) for part in _texts(made))
    for word in slack.replace("@here", "<!here").split():
        assert word in said


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [text for inner in value.values() for text in _texts(inner)]
    return [text for inner in value for text in _texts(inner)] if isinstance(value, list) else []


def test_the_example_of_a_plugin(tmp_path: Path) -> None:
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class Bell" in one]
    names: dict[str, Any] = {}
    exec(block, names)
    bell = names["Bell"](names["BellConfig"](type="bell", device=str(tmp_path / "bell")))
    assert asyncio.run(bell.send(alert())) == "rung"
    assert (tmp_path / "bell").read_text() == alert_text(alert())
