"""docs/alerts.md and conf.d/alerts.yaml.example: every example is understood, and does what the page says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from test_readme import ROOT, blocks
from vedette.alerts.replay import replay
from vedette.config import load
from vedette.plugins import Registry
from vedette.rules import parse
from vedette.rules.model import HeartbeatConfig, MaintenanceConfig, RuleConfig

PAGE = (ROOT / "docs" / "alerts.md").read_text()
CONDITIONS = re.findall(r"`([^`]+)`", PAGE.split("## Conditions")[1].split("The grammar")[0])


@pytest.mark.parametrize("text", [one for one in CONDITIONS if any(sign in one for sign in ("<", ">", "=", "no data"))])
def test_every_condition_of_the_page_is_understood(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


def test_the_page_has_a_condition_of_every_kind() -> None:
    assert len(CONDITIONS) > 15


def test_the_page_names_every_option_of_a_rule() -> None:
    table = PAGE.split("## A rule's options")[1].split("## Conditions")[0]
    named = set(
        re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2))
    )
    assert {field.alias or name for name, field in RuleConfig.model_fields.items()} == named - {"option"}
    for model in (MaintenanceConfig, HeartbeatConfig):
        assert [name for name in model.model_fields if f"{name}:" not in PAGE and f"{name} " not in PAGE] == []


def test_the_rules_that_the_page_tries_fire_as_it_says(tmp_path: Path) -> None:
    (suite,) = [body for body in blocks(PAGE, "yaml") if body.startswith("# success-rate.yaml")]
    (tmp_path / "success-rate.yaml").write_text(suite)
    outcome = replay(tmp_path / "success-rate.yaml", lambda _: None)
    assert (outcome.problems, outcome.failures, outcome.checked) == ((), (), 7)
    assert f"success-rate.yaml: ok, {outcome.checked} expectations" in PAGE


def test_the_example_of_alerts_yaml_is_valid_beside_the_demo_s_checks(tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    shutil.copytree(ROOT / "examples" / "demo" / "conf.d", conf)
    postgres = (conf / "postgres.yaml").read_text()
    name = re.search(r"- name: (\S+)", postgres)
    assert name is not None
    (conf / "postgres.yaml").write_text(postgres.replace(name[1], "payments-primary"))
    shutil.copy(ROOT / "conf.d" / "alerts.yaml.example", conf / "alerts.yaml")
    configuration = load(conf, Registry(), secrets="lazy", environ={})
    about = [str(problem) for problem in configuration.problems if problem.file.endswith("alerts.yaml")]
    assert [one for one in about if "warning" not in one] == []
    assert configuration.rulebook is not None
    rules = {rule.name: rule for rule in configuration.rulebook.rules}
    assert len(rules) == 7
    assert str(rules["queue is not worked on"].when) == "max(sqs.oldest_message_age) over 5m > 600 by (queue)"
    assert [one.instance for one in rules["something is unhealthy"].sources["health_check.overall"]] == [
        "vedette/agent",
        "statsd/payments",
    ]
