"""`vedette datadog sync` against a Datadog of our own: once, again, after hands were at it, and when it fails."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from ascode.server import API_KEY, APP_KEY, Datadog, serving
from cli.process import vedette
from vedette.cli import main
from vedette.datadog import api
from vedette.datadog.compare import dashboard_form, differences, monitor_form
from vedette.datadog.reading import files_of, read, ready_made
from vedette.datadog.sync import survey
from vedette.secrets import Masker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = """\
set: payments
notify: {critical: ["@pagerduty-payments", "@sns-alerts"], warning: ["@slack-payments"]}
tags: [team:payments]
monitors:
  - id: connections
    name: Connections run out
    metric: postgresql.percent_usage_connections
    take: max
    by: [instance]
    above: 0.9
    warning: 0.8
    message: Look at the pools.
  - id: down
    name: PostgreSQL is down
    status: postgres.can_connect
    by: [instance]
dashboards:
  - id: pools
    title: Pools
    variables: [instance]
    groups:
      - title: All
        widgets:
          - {title: Connections, metric: postgresql.connections, take: sum, by: [db]}
          - {title: Use, show: value, metric: postgresql.percent_usage_connections, take: max}
"""


class Desk:
    """A folder with files, and the command on it."""

    def __init__(self, folder: Path, url: str, datadog: Datadog, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.url, self.datadog, self.capsys = folder, url, datadog, capsys
        self.waited: list[float] = []
        (folder / "conf.d").mkdir()
        (folder / "datadog").mkdir()

    def write(self, text: str, name: str = "payments.yaml") -> None:
        (self.folder / "datadog" / name).write_text(f"base_url: {self.url}\n{text}")

    def sync(self, *more: str) -> tuple[int, str, str]:
        status = main(["datadog", "sync", "--conf", str(self.folder / "conf.d"), *more])
        out, err = self.capsys.readouterr()
        assert API_KEY not in out + err
        assert APP_KEY not in out + err
        return status, out.replace(str(self.folder), "."), err.replace(str(self.folder), ".")

    def writes(self) -> list[str]:
        made = [method for method, _ in self.datadog.writes]
        self.datadog.writes.clear()
        return made

    def one(self, kind: str, key: str) -> dict[str, Any]:
        name = "name" if kind == "monitor" else "title"
        (found,) = [each for each in self.datadog.objects[kind].values() if each[name] == key]
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Datadog]]:
    with serving() as made:
        yield made


@pytest.fixture
def desk(
    tmp_path: Path,
    server: tuple[str, Datadog],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    url, datadog = server
    fresh = Datadog()
    datadog.__dict__.update(fresh.__dict__)
    for name in ("DATADOG_API_KEY", "DATADOG_APP_KEY", "DD_SITE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DD_API_KEY", API_KEY)
    monkeypatch.setenv("DD_APP_KEY", APP_KEY)
    desk = Desk(tmp_path, url, datadog, capsys)
    monkeypatch.setattr("vedette.datadog.api.wait", desk.waited.append)
    return desk


def test_the_second_time_changes_nothing(desk: Desk) -> None:
    desk.write("set: all\nnotify: {critical: '@pagerduty-a', warning: '@slack-a'}\nuse: ['*']\n")
    status, out, err = desk.sync()
    assert (status, err) == (0, "")
    made = len(desk.datadog.objects["monitor"]) + len(desk.datadog.objects["dashboard"])
    assert len(desk.datadog.objects["dashboard"]) == len(ready_made())
    assert desk.writes() == ["POST"] * made
    assert out.splitlines()[-1] == f"{made} created, 0 changed, 0 removed, 0 as they should be"
    before = copy.deepcopy(desk.datadog.objects)
    status, out, err = desk.sync("--prune")
    assert (status, err) == (0, "")
    assert out == f"0 created, 0 changed, 0 removed, {made} as they should be\n"
    assert desk.writes() == []
    assert desk.datadog.objects == before
    assert desk.sync("--dry-run")[0] == 0


def test_what_is_ours_is_tagged_so(desk: Desk) -> None:
    desk.write(SMALL)
    assert desk.sync()[0] == 0
    monitor = desk.one("monitor", "Connections run out")
    assert sorted(monitor["tags"]) == ["managed_by:vedette", "team:payments", "vedette_id:payments/connections"]
    board = desk.one("dashboard", "Pools")
    assert board["description"] == "Managed by vedette as payments/pools. What is changed here is put back."
    assert board["tags"] == []  # teams are all that Datadog takes


def test_a_dry_run_shows_and_does_nothing(desk: Desk) -> None:
    desk.write(SMALL)
    status, out, _ = desk.sync("--dry-run")
    assert status == 1
    assert out.splitlines()[0] == "+ monitor payments/connections: Connections run out  ./datadog/payments.yaml:6"
    assert out.splitlines()[-1] == "would be: 3 created, 0 changed, 0 removed, 0 as they should be"
    assert desk.writes() == []


def test_what_hands_changed_is_shown_and_put_back(desk: Desk) -> None:
    desk.write(SMALL)
    desk.sync()
    clean = copy.deepcopy(desk.datadog.objects)
    desk.writes()
    monitor = desk.one("monitor", "Connections run out")
    monitor["query"] = monitor["query"].replace("0.9", "0.99")
    monitor["options"]["thresholds"]["critical"] = 0.99
    monitor["options"]["renotify_interval"] = 30
    monitor["message"] = monitor["message"].replace("Look at the pools.", "Call Bob.")
    board = desk.one("dashboard", "Pools")
    widgets = board["widgets"][0]["definition"]["widgets"]
    widgets[0]["definition"]["title"] = "Mine now"
    widgets.append({"id": 99, "definition": {"type": "note", "content": "hello"}})
    status, out, _ = desk.sync("--dry-run")
    assert status == 1
    shown = [line.strip() for line in out.splitlines()]
    assert "options.thresholds.critical: 0.99 -> 0.9" in shown
    assert "options.renotify_interval: 30 -> (nothing)" in shown
    assert shown[shown.index("message:") :][:3] == ["message:", '- "Call Bob."', '+ "Look at the pools."']
    assert 'widgets[0].definition.widgets[0].definition.title: "Mine now" -> "Connections"' in shown
    assert 'widgets[0].definition.widgets[2]: widget "note" -> (nothing)' in shown
    assert desk.writes() == []
    status, out, _ = desk.sync()
    assert status == 0
    assert out.splitlines()[-1] == "0 created, 2 changed, 0 removed, 1 as they should be"
    for kind, form in (("monitor", monitor_form), ("dashboard", dashboard_form)):
        for own, body in clean[kind].items():
            assert form(desk.datadog.objects[kind][own]) == form(body)
    assert desk.sync()[1] == "0 created, 0 changed, 0 removed, 3 as they should be\n"


def test_what_is_not_ours_is_left_alone_even_with_our_names(desk: Desk) -> None:
    foreign = {"id": 7, "name": "Connections run out", "type": "metric alert", "query": "x", "tags": ["a:b"]}
    tagged = {**foreign, "id": 8, "tags": ["vedette_id:payments/connections"]}  # not managed_by:vedette
    board = {"id": "xyz-1", "title": "Pools", "description": "mine", "widgets": [], "layout_type": "ordered"}
    quoted = {**board, "id": "xyz-2", "description": "Managed by vedette as payments/pools. What is changed\nhere"}
    theirs = {**board, "id": "xyz-3"}
    theirs["description"] = "Managed by vedette as billing/pools. What is changed here is put back."
    other = {**foreign, "id": 9, "tags": ["managed_by:vedette", "vedette_id:billing/connections"]}
    desk.datadog.objects["monitor"] |= {"7": foreign, "8": tagged, "9": other}
    desk.datadog.objects["dashboard"] |= {"xyz-1": board, "xyz-2": quoted, "xyz-3": theirs}
    before = copy.deepcopy(desk.datadog.objects)
    desk.write(SMALL)
    assert desk.sync("--prune")[0] == 0
    desk.write(SMALL.partition("monitors:")[0] + "dashboards: []\n")
    assert desk.sync("--prune")[1].splitlines()[-1] == "0 created, 0 changed, 3 removed, 0 as they should be"
    assert desk.datadog.objects == before


def test_prune_takes_only_what_no_file_says(desk: Desk) -> None:
    desk.write(SMALL)
    desk.sync()
    first, _, rest = SMALL.partition("  - id: down")
    desk.write(first + rest[rest.index("dashboards:") :])
    status, out, _ = desk.sync()
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("?")]
    assert line.startswith("? monitor payments/down: PostgreSQL is down (id ")
    assert line.endswith("in no file: --prune removes it")
    assert desk.sync("--prune", "--dry-run")[0] == 1
    assert len(desk.datadog.objects["monitor"]) == 2
    assert desk.sync("--prune")[1].splitlines()[-1] == "0 created, 0 changed, 1 removed, 2 as they should be"
    assert [one["name"] for one in desk.datadog.objects["monitor"].values()] == ["Connections run out"]


def test_a_broken_item_keeps_no_other_out_and_prunes_nothing(desk: Desk) -> None:
    desk.write(SMALL)
    desk.sync()
    desk.writes()
    desk.write(SMALL.replace("above: 0.9", "abov: 0.9").replace("title: Pools", "title: Pools of all"))
    status, out, err = desk.sync("--prune")
    assert status == 3
    assert "./datadog/payments.yaml:11: monitors[0].abov: unknown option; did you mean 'above'?" in err
    assert out.splitlines()[-1] == "0 created, 1 changed, 0 removed, 1 as they should be, 1 in no file"
    assert desk.writes() == ["PUT"]


def test_what_datadog_refuses_fails_alone(desk: Desk) -> None:
    odd = "  - {id: odd, name: Odd, type: query alert, query: 'avg(last_5m):nonsense > 1'}\n"
    desk.write(SMALL.replace("monitors:\n", f"monitors:\n{odd}"))
    status, out, err = desk.sync()
    assert status == 2
    assert err == (
        "./datadog/payments.yaml:6: monitor payments/odd: Datadog refuses it: The value provided for parameter "
        "'query' is invalid: nonsense\n"
    )
    assert out.splitlines()[-1] == "3 created, 0 changed, 0 removed, 0 as they should be, 1 failed"


def test_datadogs_own_words_are_sent_as_they_are(desk: Desk) -> None:
    widget = '{definition: {type: note, content: "hello"}}'
    desk.write(
        "monitors:\n  - {id: raw, name: Raw, type: query alert, query: 'avg(last_5m):avg:a.b{*} > 1',"
        " message: '@slack-a', options: {thresholds: {critical: 1}}}\n"
        f"dashboards:\n  - {{id: raw, title: Raw, layout: ordered, widgets: [{widget}]}}\n"
    )
    assert desk.sync()[0] == 0
    assert desk.one("monitor", "Raw")["query"] == "avg(last_5m):avg:a.b{*} > 1"
    assert desk.sync()[1] == "0 created, 0 changed, 0 removed, 2 as they should be\n"


def test_ready_made_ones_can_be_chosen_and_changed(desk: Desk) -> None:
    desk.write(
        "notify: {critical: '@pagerduty-a', warning: '@slack-a'}\n"
        "use:\n"
        "  - name: postgres\n"
        "    dashboards: false\n"
        "    where: {env: prod}\n"
        "    without: [postgres.down]\n"
        "    change:\n"
        "      postgres.connections: {above: 0.95, recover: 0.9}\n"
    )
    assert desk.sync()[0] == 0
    queries = {one["name"]: one["query"] for one in desk.datadog.objects["monitor"].values()}
    assert queries["{{instance.name}}: connections are running out"] == (
        "avg(last_5m):max:postgresql.percent_usage_connections{env:prod} by {instance} > 0.95"
    )
    assert all("env:prod" in query for query in queries.values())
    assert not any("can_connect" in query for query in queries.values())
    assert desk.datadog.objects["dashboard"] == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("use: [postgress]\n", "2: use[0]: there is nothing ready-made of this name; did you mean 'postgres'?"),
        (
            "use: [{name: redis, without: [redis.dwn]}]\n",
            "2: use[0]: names an id that is not among these; did you mean",
        ),
        ("use: redis\n", "2: use: must be a list; begin each item with '- '"),
        ("usse: [redis]\n", "2: usse: unknown option; did you mean 'use'?"),
        ("notify: {critical: slack}\n", "2: notify.critical: must be a handle of Datadog's, such as '@slack-payments'"),
        (
            "monitors: [{id: a, name: A, metric: a.b, above: 1, below: 2}]\n",
            "2: monitors[0]: needs above or below, the threshold of an alert",
        ),
        (
            "monitors: [{id: a, name: A, metric: a.b, above: 1, warning: 2}]\n",
            "2: monitors[0]: warning must come before the threshold of an alert",
        ),
        (
            "monitors: [{id: a, name: A, metric: a.b, kind: count, take: avg, above: 1}]\n",
            "2: monitors[0]: take: of a count there is sum",
        ),
        (
            "monitors:\n- {id: a, name: A, status: x}\n- {id: a, name: B, status: x}\n",
            "4: monitors[1].id: a second monitor of this id; the first is at F:3",
        ),
        (
            "monitors:\n- id: a\n  name: A\n  of: {x: {metric: a.b}}\n  formula: x + y\n  above: 1\n",
            "3: monitors[0]: formula: names something that is not in of",
        ),
        ("dashboards: [{id: a, title: A}]\n", "2: dashboards[0]: needs either groups or widgets"),
        ("- a\n", "2: must be a mapping with use, monitors or dashboards"),
    ],
)
def test_every_mistake_has_its_line(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "a.yaml").write_text(f"# a comment\n{text}")
    said = [str(one).replace(str(tmp_path / "a.yaml"), "F") for one in read(files_of(tmp_path)).problems]
    assert any(line.startswith(f"F:{problem}") for line in said), said


def test_monitors_that_tell_nobody_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("use: [sqs]\n")
    (problem,) = read(files_of(tmp_path)).problems
    assert (problem.severity, problem.message) == ("warning", "these monitors tell nobody")


# What fails


def test_what_datadog_adds_by_itself_is_said_and_no_change(desk: Desk) -> None:
    desk.datadog.adds = {"of_next_year": 5}
    desk.write(SMALL)
    desk.sync()
    status, out, _ = desk.sync()
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("= monitor payments/connections: Connections run out (id ")
    assert lines[0].endswith("Datadog keeps it as it was")
    assert lines[1] == "    options.of_next_year: 5 -> (nothing)"
    summary = "0 created, 0 changed, 0 removed, 1 as they should be, 2 that Datadog keeps otherwise"
    assert lines[-1] == summary


def test_an_object_that_others_restricted_fails_alone(desk: Desk) -> None:
    desk.datadog.planned = [("/monitor", "POST", 403, {}, False)]
    desk.datadog.words = "Forbidden"
    desk.write(SMALL)
    status, out, err = desk.sync()
    assert status == 2
    assert "./datadog/payments.yaml:6: monitor payments/connections: the keys are refused (Forbidden)" in err
    assert out.splitlines()[-1] == "2 created, 0 changed, 0 removed, 0 as they should be, 1 failed"
    desk.datadog.planned = [("/monitor", "POST", 403, {}, False)] * 2 + [("/dashboard", "POST", 403, {}, False)]
    desk.datadog.objects = {"monitor": {}, "dashboard": {}}
    assert desk.sync()[2].splitlines()[-1] == "vedette datadog: the rest is not tried"


def test_a_dashboard_that_cannot_be_fetched_keeps_no_other_out(desk: Desk) -> None:
    desk.write(SMALL)
    desk.sync()
    desk.writes()
    changed = SMALL.replace("above: 0.9", "above: 0.95")
    desk.write(changed)
    for status, words in ((403, "Forbidden"), (400, "restricted")):
        desk.datadog.words, desk.datadog.planned = words, [("/dashboard/", "GET", status, {}, False)]
        code, out, err = desk.sync("--dry-run")
        assert (code, err, out.splitlines()[-1]) == (
            2, "", "would be: 0 created, 1 changed, 0 removed, 1 as they should be, 1 failed"
        )  # fmt: skip
        assert any(line.startswith("! dashboard payments/pools: Pools (id abc-") for line in out.splitlines())
        assert any(words in line for line in out.splitlines())
    desk.datadog.planned = [("/dashboard/", "GET", 503, {}, False)] * 5
    code, out, err = desk.sync()
    assert (code, err) == (2, "./datadog/payments.yaml:19: dashboard payments/pools: Datadog answers 503, 5 times\n")
    assert desk.writes() == ["PUT"]
    desk.datadog.words, desk.datadog.planned = "Dashboard not found", [("/dashboard/", "GET", 404, {}, False)]
    assert desk.sync()[1].splitlines()[-1] == "1 created, 0 changed, 0 removed, 2 as they should be"


def test_prune_removes_nothing_that_may_be_anothers(desk: Desk) -> None:
    desk.write(SMALL)
    desk.write("set: payments\nmonitors: [{id: own, name: Own, status: a.ok, message: '@a'}]\n", "own.yaml")
    assert desk.sync()[0] == 0
    one = desk.folder / "datadog" / "payments.yaml"
    status, _, err = desk.sync("--prune", "--file", str(one))
    assert (status, err) == (
        3,
        "./datadog/own.yaml: set: is 'payments' too, and this file is left out; --prune would remove what it says; "
        "give --file the folder, or each a set of its own\n",
    )
    assert desk.sync("--prune", "--file", str(one.parent))[0] == 0
    assert len(desk.datadog.objects["monitor"]) == 3
    one.write_text(one.read_text().replace("set: payments\n", ""))
    status, _, err = desk.sync("--prune")
    assert (status, err) == (
        3,
        "./datadog/payments.yaml: set: has no name, so that it is anybody's; --prune needs one, such as set: "
        "payments\n",
    )


def test_what_somebody_removed_first_is_removed(desk: Desk) -> None:
    desk.write(SMALL)
    desk.sync()
    desk.write(SMALL.partition("monitors:")[0])
    desk.datadog.planned = [("/monitor", "DELETE", 504, {}, True)]
    status, out, err = desk.sync("--prune")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "0 created, 0 changed, 3 removed, 0 as they should be"
    assert desk.datadog.objects == {"monitor": {}, "dashboard": {}}


def test_bad_keys_are_said_once_without_the_keys(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_APP_KEY", "0000000000")
    desk.write(SMALL)
    status, out, err = desk.sync()
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "the keys are refused (Forbidden): see that both belong to this site" in err
    assert "0000000000" not in err


def test_a_limit_is_waited_for_as_long_as_its_header_says(desk: Desk) -> None:
    headers = {"X-RateLimit-Limit": "10", "X-RateLimit-Period": "60", "X-RateLimit-Remaining": "0"}
    again = {**headers, "X-RateLimit-Reset": "17"}
    desk.datadog.planned = [("/monitor", "GET", 429, again, False), ("/monitor", "POST", 429, again, False)]
    desk.datadog.planned += [("/dashboard", "GET", 503, {}, False), ("/dashboard", "GET", 500, {}, False)]
    desk.write(SMALL)
    assert desk.sync()[0] == 0
    assert desk.waited == [17.0, 1.0, 2.0, 17.0]
    assert len(desk.datadog.objects["monitor"]) == 2


def test_a_lost_answer_makes_no_twin(desk: Desk) -> None:
    desk.datadog.planned = [("/monitor", "POST", 504, {}, True), ("/dashboard", "POST", 502, {}, False)]
    desk.write(SMALL)
    status, out, _ = desk.sync()
    assert status == 0
    assert out.splitlines()[-1] == "3 created, 0 changed, 0 removed, 0 as they should be"
    assert sorted(one["name"] for one in desk.datadog.objects["monitor"].values()) == [
        "Connections run out",
        "PostgreSQL is down",
    ]
    assert len(desk.datadog.objects["dashboard"]) == 1


def test_a_server_that_stays_ill_is_said(desk: Desk) -> None:
    desk.datadog.planned = [("/monitor", "GET", 503, {}, False)] * 5
    desk.write(SMALL)
    status, _, err = desk.sync()
    assert status == 2
    assert err == f"vedette datadog: {desk.url}: Datadog answers 503, 5 times\n"
    (desk.folder / "datadog" / "payments.yaml").write_text(f"base_url: http://127.0.0.1:1\n{SMALL}")
    assert desk.sync() == (2, "", "vedette datadog: http://127.0.0.1:1: no connection, 5 times\n")


def test_many_pages_are_read_to_the_end(desk: Desk) -> None:
    desk.write(SMALL)
    desk.sync()
    monitor, board = desk.one("monitor", "PostgreSQL is down"), desk.one("dashboard", "Pools")
    many = {
        str(n): {**monitor, "id": n, "tags": ["managed_by:vedette", f"vedette_id:x/{n}"]} for n in range(1000, 1410)
    }
    desk.datadog.objects["monitor"] = {**many, **desk.datadog.objects["monitor"]}
    boards = {f"b-{n}": {**board, "id": f"b-{n}", "description": ""} for n in range(250)}
    desk.datadog.objects["dashboard"] = {**boards, **desk.datadog.objects["dashboard"]}
    assert desk.sync()[1] == "0 created, 0 changed, 0 removed, 3 as they should be\n"
    with api.Account(api.Access(desk.url, API_KEY, APP_KEY), Masker()) as account:
        found = survey(account).found
    assert len([key for kind, key in found if kind == "monitor"]) == 412
    assert [key for kind, key in found if kind == "dashboard"] == ["payments/pools"]


def test_twins_of_ours_are_told_and_pruned_to_the_oldest(desk: Desk) -> None:
    desk.write(SMALL)
    desk.sync()
    monitor = desk.one("monitor", "PostgreSQL is down")
    desk.datadog.objects["monitor"]["999"] = {**monitor, "id": 999, "created": "2026-02-01T00:00:00.000000+00:00"}
    assert desk.sync()[1].splitlines()[-1].endswith("3 as they should be, 1 in no file")
    desk.sync("--prune")
    assert "999" not in desk.datadog.objects["monitor"]
    assert len(desk.datadog.objects["monitor"]) == 2


# The command


def test_keys_come_from_the_datadog_sink_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DD_API_KEY", "DD_APP_KEY"):
        monkeypatch.delenv(name)
    (desk.folder / "datadog" / "payments.yaml").write_text(SMALL)
    status, _, err = desk.sync()
    assert status == 3
    assert "there is no api_key; set DD_API_KEY, or `api_key` of the datadog sink in ./conf.d/agent.yaml" in err
    (desk.folder / "key").write_text(f"{APP_KEY}\n")
    (desk.folder / "conf.d" / "agent.yaml").write_text(
        f"sinks:\n- type: datadog\n  base_url: {desk.url}\n  api_key: {API_KEY}\n  app_key: '${{file:../key}}'\n"
    )
    assert desk.sync()[0] == 0
    assert len(desk.datadog.objects["monitor"]) == 2


def test_the_command_as_a_process(desk: Desk) -> None:
    desk.write(SMALL)
    done = vedette("datadog", "sync", "--dry-run", cwd=desk.folder, DD_API_KEY=API_KEY, DD_APP_KEY=APP_KEY)
    assert (done.returncode, done.stderr) == (1, "")
    assert "+ dashboard payments/pools: Pools  datadog/payments.yaml:19" in done.stdout.splitlines()
    assert desk.sync("--file", "nowhere.yaml") == (3, "", "nowhere.yaml: does not exist\n")


def test_export_writes_json_for_grafana(desk: Desk) -> None:
    desk.write(SMALL)
    folder = desk.folder / "grafana"
    assert main(["datadog", "export", "--conf", str(desk.folder / "conf.d"), "--grafana", str(folder)]) == 0
    (path,) = folder.iterdir()
    made = json.loads(path.read_text())
    assert (path.name, made["title"]) == ("vedette-pools.json", "Pools")
    expressions = [target["expr"] for panel in made["panels"] for target in panel.get("targets", ())]
    assert expressions == [
        'sum by (db) (postgresql_connections{exported_instance=~"$instance"})',
        'max (postgresql_percent_usage_connections{exported_instance=~"$instance"})',
    ]


def test_the_list_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datadog", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "postgres: 1 dashboard, 9 monitors" in lines
    assert "  postgres.connections" in lines
    assert main(["datadog", "list", "redis"]) == 0
    assert "redis.mem.used" in capsys.readouterr().out
    assert main(["datadog", "list", "rediss"]) == 3
    assert "did you mean 'redis'?" in capsys.readouterr().err


def test_differences_are_readable() -> None:
    there = {"a": 1, "list": [{"x": 1}, {"x": 2}], "gone": "b", "text": "one\ntwo"}
    wanted = {"a": 2, "list": [{"x": 1}], "text": "one\n\x1b[31mthree"}
    assert differences(there, wanted) == [
        "a: 1 -> 2",
        'list[1]: {"x": 2} -> (nothing)',
        "text:",
        '  - "two"',
        '  + "\\u001b[31mthree"',
        'gone: "b" -> (nothing)',
    ]
    assert differences(there, there) == []
