"""Every folder of tests/bad_configs gives exactly the lines it expects."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vedette.config import Configuration, load
from vedette.plugins import Registry

ROOT = Path(__file__).parent.parent / "bad_configs"
CASES = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
SECRETS = re.compile(r"hunter2|s3cr|5550123|4711|77777", re.IGNORECASE)


def validate(case: str, monkeypatch: pytest.MonkeyPatch, secrets: str = "lazy") -> Configuration:
    monkeypatch.chdir(ROOT / case)
    return load(Path("conf.d"), Registry(), environ={}, secrets=secrets)  # type: ignore[arg-type]


def test_there_are_many() -> None:
    assert len(CASES) >= 90
    assert len({(ROOT / case / "expected.txt").read_text() for case in CASES}) > 75


@pytest.mark.parametrize("libyaml", [True, False], ids=["c", "python"])
@pytest.mark.parametrize("case", CASES)
def test_exact_lines(case: str, libyaml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if libyaml and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    monkeypatch.setattr(yaml, "__with_libyaml__", libyaml)
    configuration = validate(case, monkeypatch)
    assert [str(p) for p in configuration.problems] == (ROOT / case / "expected.txt").read_text().splitlines()


@pytest.mark.parametrize("case", CASES)
def test_no_value_is_printed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = validate(case, monkeypatch, "resolve")
    # reports may name a variable or a file that a reference names, and nothing else of what the user wrote
    text = "\n".join(str(problem) for problem in configuration.problems)
    assert text
    assert not SECRETS.search(text)
    assert "Traceback" not in text
    assert not SECRETS.search(repr(configuration.agent) + repr(configuration.instances))


@pytest.mark.parametrize("case", CASES)
def test_errors_keep_the_instance_out(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started is never something that an error is about."""
    configuration = validate(case, monkeypatch, "resolve")
    for problem in configuration.problems:
        about_alerts = problem.path.startswith("alerts[")  # a rule is left out, and keeps no instance from running
        if problem.severity == "warning" or problem.file.startswith("conf.d/agent.") or about_alerts:
            continue
        started = [instance for instance in configuration.instances if instance.file == problem.file]
        assert all(instance.line != problem.line for instance in started), problem
        if not problem.path.startswith("instances["):
            assert not started, problem
