"""Card numbers, passwords, tokens and keys, planted everywhere, show in nothing that is written."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from checks.log_file.parts import append, following
from checks.log_file.plants import CARDS, CONFIGURED, forms, lines, planted, shown
from cli.process import Running, vedette, wait_until
from vedette.cards import card_numbers, is_card_number
from vedette_checks.log_file.config import LogFileConfig
from vedette_checks.log_file.lines import Taken
from vedette_checks.log_file.records import Records


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_card_numbers_are_found_in_every_form(card: str) -> None:
    for form in forms(card):
        for before, after in [("", ""), ("pan=", ";"), ("12 ", " 03/29"), ("x", "y"), ("id 7 ", " 123"), ("\n", "\t")]:
            text = f"{before}{form}{after}"
            assert [text[begin:end] for begin, end in card_numbers(text)] == [form], text
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert list(card_numbers(wrong)) == []


def masked(line: str) -> tuple[str, dict[str, Any]]:
    """Message and attributes of a line."""
    records = Records(LogFileConfig.model_validate({"name": "x", "paths": ["/x"]}))
    rows, _ = records.rows(Taken([line.encode()]))
    ((message, attributes),) = zip(rows.messages, rows.attributes, strict=False)
    return message, dict(attributes)


def test_card_numbers_are_found_in_unusual_forms() -> None:
    fours = ["4111", "1111", "1111", "1111"]
    cards = [mark.join(fours) for mark in (".", "  ", "\t", "_", "\u00a0", "\u202f")]
    cards += [mark.join(fours) for mark in ("--", " - ", "/", "&nbsp;", "\u2011", "\u2013", "\u2014")]
    cards += ["3782.822463.10005", "4000.0000.0000.0000.006", "4.111111111111111E15", "4.111111111111111e+15"]
    cards += ["".join(chr(0xFF10 + int(digit)) for digit in "".join(fours))]
    for card in cards:
        assert masked(f"pan={card} ok") == ("pan=**** ok", {}), card
        assert masked(json.dumps({"message": "m", "a": card})) == ("m", {"a": "****"}), card
    assert masked("164111111111111111 0000004111111111111111") == ("16**** 000000****", {})  # ISO 8583, padding
    assert masked('{"message": "m", "pan": 4.111111111111111e15}') == ("m", {"pan": "****"})


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("pass=hunter2 DB_PASS=hunter3 pin=1234", "pass=**** DB_PASS=**** pin=****"),
        ("login --password hunter2 --user bob", "login --password **** --user bob"),
        ("curl -s -u bob:hunter2 https://h", "curl -s -u bob:**** https://h"),
        ("postgres://u:p@ss@h", "postgres://u:****@h"),
        ("auth=Basic Ym9iOmh1bnRlcjI=", "auth=Basic ****"),
        ("<a><db-password>hunter2</db-password></a>", "<a><db-password>****</db-password></a>"),
        ("<token type='x'>hunter2</token>", "<token type='x'>****</token>"),
        ("password=&quot;hunter2&quot; x", "password=****&quot; x"),
        ('in [{"key":"apiKey","value":"hunter2"}]', 'in [{"key":"apiKey","value":****}]'),
        ("SECRET_KEY_BASE=hunter2 a", "SECRET_KEY_BASE=**** a"),
        ("GET /a?sv=1&sig=hunter2&x=1", "GET /a?sv=1&sig=****&x=1"),
        ("mysql -P 3306 -phunter2 -u root", "mysql -P 3306 -p**** -u root"),
        (f"pull dckr_pat_{'aB3' * 8} hf_{'aB3' * 12}", "pull **** ****"),
        ("<p class='token'>words</p> signed=1 mysql -P 3306", "<p class='token'>words</p> signed=1 mysql -P 3306"),
        ("compass: north, bypass=1, spin=2, author: me", "compass: north, bypass=1, spin=2, author: me"),
    ],
)
def test_credentials_in_more_forms(line: str, shown: str) -> None:
    assert masked(line) == (shown, {})


def test_fields_with_more_names() -> None:
    fields = {"pass": "a1", "auth": "Basic YTph", "security_code": "999", "pin": 1234, "spin": 2, "auths": "Basics"}
    assert masked(json.dumps({"message": "m", **fields})) == (
        "m",
        {"pass": "****", "auth": "Basic ****", "security_code": "****", "pin": "****", "spin": 2, "auths": "Basics"},
    )


def test_what_is_no_card_number() -> None:
    for text in ["4111.1111.1111.1112", "10.4111.1111.1111.1111", "16411111111111111", "172812345678901234",
                 "4.111111111111112e15", "5.123456789012e3", "4111..1111..1111..1111",
                 "1728123456789", "1728123456789012345", "0.4111111111111111", "2026-10-05 12:00:00", "1" * 16,
                 "41111111111111111111111", "10.0.0.1 8080 443", "+49 30 1234567 89"]:  # fmt: skip
        assert list(card_numbers(text)) == [], text
    assert is_card_number("4111111111111111")
    assert not is_card_number("4111111111111111 ")


def test_the_plants_are_found_where_nothing_is_replaced() -> None:
    assert len(shown("\n".join(lines()))) > 0.9 * len(planted())


def test_nothing_that_an_agent_writes_shows_any_of_them(tmp_path: Path) -> None:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "agent.yaml").write_text(
        "sinks: [{type: file, path: ../out.jsonl}, {type: console}]\nlog: {level: debug}\n"
    )
    (conf / "log_file.yaml").write_text(
        "defaults: {start_position: beginning, poll: 50ms, timeout: 3s}\ninstances:\n"
        f"  - {{name: plain, paths: ['{tmp_path}/log/*.log'], tags: ['x:${{env:CONFIGURED}}']}}\n"
        f"  - {{name: cri, paths: ['{tmp_path}/cri/*.log'], format: container}}\n"
    )
    (tmp_path / "log").mkdir()
    (tmp_path / "cri").mkdir()
    texts = lines()
    (tmp_path / "log" / "a.log").write_text("".join(f"{line}\n" for line in [*texts, "the end"]))
    parts = [f"2026-10-05T12:00:00Z stdout P {line[:9]}\n2026-10-05T12:00:00Z stdout F {line[9:]}\n" for line in texts]
    (tmp_path / "cri" / "a.log").write_text("".join(parts) + "2026-10-05T12:00:00Z stdout F the end\n")
    out = tmp_path / "out.jsonl"
    with Running(cwd=tmp_path, CONFIGURED=CONFIGURED) as agent:
        wait_until(lambda: out.exists() and out.read_text().count('"the end"') == 2, "all lines", 60)
        agent.end(signal.SIGTERM)
    text = out.read_text()
    assert shown(text.replace(f'"x:{CONFIGURED}"', "")) == []
    assert shown("\n".join(agent.lines).replace(f"x:{CONFIGURED}", "")) == []
    for path in (tmp_path / "state").rglob("*"):
        assert path.is_dir() or shown(path.read_bytes().decode("latin-1")) == [], path
    rows = [json.loads(line) for line in text.splitlines() if '"kind":"log"' in line]
    assert len(rows) == 2 * (len(texts) + 1)
    assert sum(row["value"] == "after the key" for row in rows) == 2
    done = vedette("check", "log_file", "--json", cwd=tmp_path, CONFIGURED=CONFIGURED)
    assert shown((done.stdout + done.stderr).replace(f'"x:{CONFIGURED}"', "")) == []


@pytest.mark.anyio
async def test_rules_of_ones_own_and_what_is_counted(tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"name": "email"},
        {"name": "iban"},
        {"name": "ip_address"},
        {"name": "customer", "pattern": r"customer-(\d)\d+", "replace": r"customer-\1***"},
        {"name": "umlaut", "pattern": "ä+"},
    ]
    content = (
        'a@b.example DE89370400440532013000 10.1.2.3 fe80::1 customer-12345\n{"message": "m", "to": "c@d.example"}\n'
        '{"message": "m", "to": "\\u0063ustomer-77"}\nääh\n4111111111111111\n'
    )
    async with following(tmp_path, redact=rules) as follow:
        append(tmp_path / "a.log", content)
        first, second, third, fourth, fifth = await follow.wait_for(5)
        await follow.until(lambda: follow.total("log_file.redacted", "rule:umlaut") == 1)
        assert follow.total("log_file.redacted", "rule:email") == 2
        assert follow.total("log_file.redacted", "rule:customer") == 2
        assert follow.total("log_file.redacted", "rule:card_numbers") == 1
    assert first.message == "**** **** **** **** customer-1***"
    assert (second.attributes["to"], third.attributes["to"]) == ("****", "customer-7***")
    assert (fourth.message, fifth.message) == ("****h", "****")


@pytest.mark.anyio
async def test_what_is_switched_off_passes_and_ids_of_traces_stay(tmp_path: Path) -> None:
    card, trace = CARDS["visa"], "4000000000000000006"
    (tmp_path / "off").mkdir()
    append(tmp_path / "off" / "a.log", f"{card} password=abc\n")
    append(tmp_path / "a.log", json.dumps({"message": "m", "dd.trace_id": trace, "a": trace}) + "\n")
    async with following(tmp_path / "off", card_numbers=False, credentials=False) as follow:
        await follow.wait_for(1)
    assert follow.messages == [f"{card} password=abc"]
    async with following(tmp_path) as follow:
        (record,) = await follow.wait_for(1)
    assert record.attributes == {"dd.trace_id": trace, "a": "****"}


def test_a_card_number_over_two_lines_of_an_event_and_what_is_said_in_pairs() -> None:
    for card in ("4111 1111\n1111 1111", "4111-1111-\n  1111-1111", "4111\n1111\n1111\n1111"):
        assert masked(f"pan={card} ok") == ("pan=**** ok", {}), card
    pair = {"message": "m", "a": [{"key": "apiKey", "value": "hunter2"}, {"name": "user", "value": "bob"}]}
    expected = {"a": [{"key": "apiKey", "value": "****"}, {"name": "user", "value": "bob"}]}
    assert masked(json.dumps(pair)) == ("m", expected)
