"""Every fenced block of the README and of docs/ has a test that runs it, or a reason why none can."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.process import Running, vedette
from servers import RedisServer, free_port, redis62, until
from vedette.cli import main, parser

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```(?P<language>\w*)(?P<file> \S+)?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
THIS = "test_docs_blocks.py"
YAML = "test_readme.py::test_every_yaml_example_parses_and_every_named_file_is_valid"
OPERATE = (ROOT / "docs" / "operate.md").read_text()
UNDERSTOOD = f"{THIS}::test_every_command_line_is_understood"
IN_A_MACHINE = "not run: installs a package; packaging/test_systemd.py does, in a machine"
WALK = "test_docs_pages.py::test_a_reader_gets_what_the_page_shows"


class Claim(NamedTuple):
    """Who runs some blocks.

    Attributes:
        page: a page's name, or a pattern of several.
        language: of the fence.
        begins: a regular expression for how the text begins.
        by: the test that runs it; or `not run: ` and why it cannot be.
    """

    page: str
    language: str
    begins: str
    by: str


CLAIMS = (
    Claim(r".*", "yaml", r"# conf\.d/[\w-]+\.yaml\n", YAML),
    Claim(r".*", "sh", r"pip install 'vedette\[\w+\]'\n", f"{THIS}::test_every_extra_exists"),
    Claim(r".*", "json", r"\{\s*\"Version\"", f"{THIS}::test_policies_are_json"),
    Claim(r"plugins\.md", r".*", "", "test_docs_plugins.py::test_the_page_works_as_written"),
    Claim(r"(watch-a-users-journey|numbers-from-sql|plan-and-doctor|logs)\.md", r"python|sh|text|yaml", "", WALK),
    Claim(r"plan-and-doctor\.md", "console", "", "test_doctor.py::test_the_page_shows_what_redis_lacks"),
    Claim(r"README\.md", "sh", "make demo", "test_readme.py::test_the_two_commands_do_what_the_readme_says"),
    Claim(r"README\.md", "text", "instance  ", "not run: times of one run of the demo, whose shape test_readme.py has"),
    Claim(r"README\.md", "sh", "python3 -m venv", "not run: fetches 70 packages; the same, without, is the next test"),
    Claim(
        r"README\.md",
        "sh",
        "vedette validate --conf conf.d    ",
        "test_readme.py::test_the_first_yaml_file_and_its_commands",
    ),
    Claim(r"README\.md", "sh", "vedette doctor", "test_readme.py::test_send_to_datadog_and_what_doctor_says_of_it"),
    Claim(
        r"README\.md",
        "python|toml",
        '("""Counts|\\[build)',
        "test_readme.py::test_install_and_the_first_plugin_in_a_fresh_environment",
    ),
    Claim(
        r"README\.md",
        "python|sh|text",
        "(# service|DD_DOGSTATSD|business)",
        "instrument/test_pages.py::test_the_readme",
    ),
    Claim(r"README\.md", "sh", "mkdir -p log", "test_readme.py::test_ship_logs"),
    Claim(
        r"README\.md",
        "yaml|sh",
        "(# cache-down|vedette validate --conf conf.d  .*rule)",
        "alerts/test_commands.py::test_alert_me",
    ),
    Claim(r"README\.md", "yaml", "# datadog/", "ascode/test_docs.py::test_the_readme_says_what_is_so"),
    Claim(r"README\.md", "sh", "vedette status", UNDERSTOOD),
    Claim(
        r"alerts\.md",
        "text",
        "condition ",
        "not run: a grammar; test_every_condition_of_the_page_is_understood has what it makes",
    ),
    Claim(r"alerts\.md", "text", "vedette alerts", UNDERSTOOD),
    Claim(
        r"alerts\.md",
        "yaml|sh|text",
        "(vedette alerts test |# )?success-rate",
        "alerts/test_docs.py::test_the_rules_that_the_page_tries_fire_as_it_says",
    ),
    Claim(
        r"autodiscovery\.md",
        "yaml|text",
        "(apiVersion|payments/)",
        "core/test_autodiscovery_docs.py::test_the_examples_work",
    ),
    Claim(r"datadog-as-code\.md", "yaml", "# datadog/", "ascode/test_docs.py::test_the_yaml_is_valid"),
    Claim(r"datadog-as-code\.md", "console", "", "not run: asks Datadog; ascode/test_docs.py has its number"),
    Claim(r"datadog-as-code\.md", "sh", "vedette datadog export", UNDERSTOOD),
    Claim(
        r"engines\.md", "sh", "pip install", "not run: changes a cluster; engines/test_kubernetes.py has what it names"
    ),
    Claim(r"engines\.md", "text", "ACL", "engines/test_docs.py::test_the_rights_are_those_that_were_tried"),
    Claim(r"engines\.md", "python", "", "engines/test_docs.py::test_the_engine_of_the_page_is_one"),
    Claim(r"fleet\.md", "text", "", "not run: a moment in the life of three agents, with its times"),
    Claim(
        r"instrument\.md",
        "python|sh|text",
        '("""A payment|DD_|business)',
        "instrument/test_pages.py::test_the_service_of_the_docs_sends_every_metric_of_the_strategy",
    ),
    Claim(r"instrument\.md", "python", "(from|import)", "instrument/test_pages.py::test_the_other_python_of_the_page"),
    Claim(r"instrument\.md", "text", "ACL", "instrument/test_realtime.py::test_the_rights_that_the_page_asks_for"),
    Claim(r"README\.md", "sh", "docker build", "not run: changes a cluster; packaging/test_image.py builds the image"),
    Claim(r"README\.md", "sh", "make deb", IN_A_MACHINE),
    Claim(r"install\.md", "sh", "", IN_A_MACHINE),
    Claim(
        r"install\.md",
        "ini",
        "# /etc/systemd",
        "packaging/test_systemd.py::test_a_credential_reaches_the_agent_and_doctor_says_what_a_rotation_takes",
    ),
    Claim(r"kubernetes\.md", "sh", "", "not run: a registry and a cluster; packaging/test_image.py and test_chart.py"),
    Claim(r"kubernetes\.md", "yaml", r"# values\.yaml", "packaging/test_chart.py::test_the_values_of_the_page_work"),
    Claim(r"kubernetes\.md", "yaml", "env:", "not run: a part of somebody's pod"),
    Claim(r"notifiers\.md", "console", "", "not run: tells PagerDuty"),
    Claim(r"notifiers\.md", "text", "", "notifiers/test_docs.py::test_what_a_mail_and_a_message_look_like"),
    Claim(
        r"notifiers\.md",
        "python",
        "import base64",
        "notifiers/test_http.py::test_the_documented_verification_accepts_a_message_and_nothing_else",
    ),
    Claim(r"notifiers\.md", "python", "from vedette", "notifiers/test_docs.py::test_the_example_of_a_plugin"),
    Claim(r"operate\.md", "sh", "(vedette|curl)", f"{THIS}::test_the_commands_of_operate_in_a_running_agent"),
    Claim(r"sinks\.md", "json|text", "", "sinks/test_docs.py::test_the_examples_of_what_is_written"),
)


def blocks() -> list[tuple[str, re.Match[str]]]:
    return [(page.name, found) for page in PAGES for found in FENCE.finditer(page.read_text(encoding="utf-8"))]


def commands(text: str) -> list[str]:
    """The lines of a shell block without their comments; in a table of commands, without what they do."""
    lines = [re.split(r"\s+# |\s{3,}", line.removeprefix("$ "))[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]


def test_every_block_is_claimed_and_every_claim_has_its_test() -> None:
    used: set[Claim] = set()
    for page, found in blocks():
        claims = [
            claim
            for claim in CLAIMS
            if re.fullmatch(claim.page, page)
            and re.fullmatch(claim.language, found["language"])
            and re.match(claim.begins, found["text"])
        ]
        assert claims, f"{page}: no test claims the block that begins with {found['text'][:60]!r}"
        used.update(claims)
    assert [claim for claim in CLAIMS if claim not in used] == []
    for claim in CLAIMS:
        file, _, test = claim.by.partition("::")
        if not claim.by.startswith("not run: "):
            text = (ROOT / "tests" / file).read_text()
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), claim.by


def test_every_extra_exists() -> None:
    extras = set(distribution("vedette").metadata.get_all("Provides-Extra") or ())
    for page in PAGES:
        for one in re.findall(r"vedette\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(one.split(",")) <= extras, f"{page.name}: {one}"


def test_policies_are_json() -> None:
    policies = [json.loads(found["text"]) for _, found in blocks() if re.match(r"\{\s*\"Version\"", found["text"])]
    assert len(policies) == 2
    actions = [statement["Action"] for policy in policies for statement in policy["Statement"]]
    assert actions == ["sns:Publish", "secretsmanager:GetSecretValue", "ssm:GetParameter"]


def test_every_command_line_is_understood() -> None:
    """The options are read as the command itself reads them; nothing runs."""
    lines = [
        (page, re.split(r" (?:\|\||&|>)", line)[0])
        for page, found in blocks()
        if found["language"] in ("sh", "console") or found["text"].startswith("vedette alerts")
        for line in commands(found["text"])
        if line.startswith("vedette ")
    ]
    known = parser()
    for page, line in lines:
        try:
            known.parse_args(shlex.split(line)[1:])
        except SystemExit:
            pytest.fail(f"{page}: {line}")
    assert len(lines) > 40


def test_the_commands_of_operate_in_a_running_agent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """Each does what is said beside it, in the page's order; `curl` asks the page's address."""
    port = str(free_port())
    texts = [found["text"] for page, found in blocks() if page == "operate.md" and found["language"] == "sh"]
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (options,) = re.findall(r"^# conf\.d/agent\.yaml\n(http:\n.*?)^```", OPERATE, re.MULTILINE | re.DOTALL)
    (conf / "agent.yaml").write_text(f"sinks: []\nreload: {{watch: false}}\n{options}".replace("8127", port))
    redis = RedisServer(redis62(), tmp_path / "redis")  # its first run may come before the first line is done
    redis.start()
    request.addfinalizer(redis.stop)
    (conf / "redis.yaml").write_text(f"instances: [{{name: cache, port: {redis.port}, interval: 30s}}]\n")
    said = []
    with Running(cwd=tmp_path, VEDETTE_TOKEN="page-token") as agent:
        until(lambda: vedette("status", cwd=tmp_path).returncode == 0, "the agent's answer")
        for name, value in agent.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        for line in [line for text in texts for line in commands(text) if not line.startswith("pip ")]:
            if line.startswith("curl "):
                said.append(_told(line.replace("8127", port), tmp_path, agent.env))
            else:
                assert main(shlex.split(line)[1:]) == 0, line
                said.append(capsys.readouterr().out.partition("\n")[0])
        assert agent.end(signal.SIGTERM) == 0
    same, ok = "+0 ~0 -0 =1", '{"ok":true,"result":{'
    assert said[0].startswith("all is well: 1 instances on ")
    assert said[1].startswith("redis/cache ")
    assert said[3:8] == [
        same, same, "redis/cache runs now", "redis/cache is muted for 2h", "redis/cache is not muted"
    ]  # fmt: skip
    assert said[8] == f'{ok}"instance":"redis/cache"}}}}'
    assert float(said[9].removeprefix(f'{ok}"instance":"redis/cache","until":').rstrip("}")) > 1e9
    assert said[10] == f'{ok}"instance":"redis/cache","until":0.0}}}}'
    assert said[11].startswith(f'{ok}"summary":"{same}"')
    assert said[12:] == [same, same]


def _told(line: str, folder: Path, variables: dict[str, str]) -> str:
    words = ["sh", "-ec", f"{line} -sS"]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout.strip()
