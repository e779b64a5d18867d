"""Card numbers are masked in whatever is said, and ids, times and series are left alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from checks.log_file.plants import CARDS, forms
from vedette.cards import card_numbers, may_hold_one
from vedette.config import load
from vedette.emit import Channel, Emit, masked_values
from vedette.metrics import Kind, Metric
from vedette.plugins import Registry
from vedette.secrets import Masker, mask

VISA, AMEX = CARDS["visa"], CARDS["amex"]


@pytest.mark.parametrize("card", CARDS.values())
def test_in_any_text(card: str) -> None:
    for form in (*forms(card), card + "\n", f"0{card}"):
        for text in (
            "{}",
            "duplicate key: Key (card)=({}) already exists.",
            "GET /cards/{}/pay",
            'redis key "card:{}"',
        ):
            assert card not in (said := mask(text.format(form))), said
            assert "****" in said


def test_the_first_look_misses_none() -> None:
    chance = random.Random(5)
    between = [
        "",
        " ",
        "-",
        "+",
        ".",
        "\t",
        "_",
        "/",
        "  ",
        " - ",
        "--",
        "%20",
        "&nbsp;",
        "\\t",
        "\r\n",
        "\u00a0",
        "\u2013",
    ]
    found = 0
    for _ in range(4_000):
        card, by = chance.choice(list(CARDS.values())), chance.choice(between)
        text = f"a {by.join(card[at : at + 4] for at in range(0, len(card), 4))} b"
        found += (there := any(card_numbers(text)))
        assert may_hold_one(text) or not there, text
    assert found > 3_000
    assert mask("4.111111111111111e+15 or \uff14\uff11\uff11\uff11" + "\uff11" * 12) == "**** or ****"


def test_what_is_none_stays() -> None:
    text = (
        "1795687200000 1795687200123456 at 2026-10-05 12:00:00.123456789 took 4.111111111111111 s, "
        "order 4111111111111112, 10.0.3.17:5432, 9b2e1111-4111-4111-a111-111111111111, AWS 123456789012, +49 30 1234567"
    )
    assert mask(text) == text


def test_in_a_tag_only_what_stands_alone_and_is_as_long_as_most() -> None:
    tag = Masker().tag
    for card in (VISA, "4111-1111-1111-1111", "4111 1111 1111 1111", AMEX, "3782-822463-10005", CARDS["diners"]):
        assert tag(f"card:{card}") == "card:****"
        assert tag(f"path:/cards/{card}/pay") == "path:/cards/****/pay"
    for value in (
        "4222222222222",  # as long as a time
        "4000000000000000006",  # as long as a 64-bit id
        f"job-{VISA}", f"{VISA}-x", f"v1.{VISA}", f"x{VISA}", "4111111111111112", "5900000000000007", "1795687200000",
    ):  # fmt: skip
        assert tag(f"id:{value}") == f"id:{value}"


def emitted(masker: Masker) -> Emit:
    metrics = (Metric("cards.seen", Kind.SET), Metric("cards.level", Kind.GAUGE))
    return Emit(Channel("cards/main", "cards", metrics, (), (f"own:{VISA}",), masker=masker), 0.0)


def test_members_of_a_set_are_counted_right_and_values_are_values() -> None:
    emit = emitted(Masker())
    emit.gauge("cards.level", int(VISA), [f"card:{VISA}"])
    for card in (VISA, AMEX, VISA, "4111 1111 1111 1111"):
        emit.set("cards.seen", card)
    level, *members = emit.batch().samples
    assert (level.value, level.tags) == (int(VISA), ("card:****", "own:****"))
    first, second, again, spaced = (str(one.value) for one in members)
    assert first == again == spaced != second
    assert all(one.startswith("****") and len(one) == 20 for one in (first, second))
    assert emitted(Masker())._channel.member(VISA) not in (first, VISA)  # another process's differs


def test_attributes_of_logs() -> None:
    trace = CARDS["visa 19"]
    given = {
        "card": int(VISA),
        "list": [float(AMEX), VISA],
        "dd.trace_id": trace,
        "span_id": int(trace),
        "n": 12,
        "t": 1.5,
    }
    expected = {**given, "card": "****", "list": ["****", "****"]}
    assert masked_values(given, mask) == expected


def test_agent_yaml_switches_it_off(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("mask_card_numbers: false\n")
    masker = load(tmp_path, Registry()).masker
    assert Masker(masker)(f"order {VISA}") == masker(f"order {VISA}") == f"order {VISA}"
    assert masker.tag(f"order:{VISA}") == f"order:{VISA}"
    assert masker.member(VISA) == VISA
    (tmp_path / "agent.yaml").write_text(f"sinks: [{{type: '{VISA}'}}]\n{VISA}: 1\n")
    problems = load(tmp_path, Registry()).problems
    assert len(problems) > 1
    assert all(VISA not in str(one) for one in problems)
    assert "****" in " ".join(map(str, problems))


def test_rows_of_numbers_and_bank_accounts_stay() -> None:
    chance = random.Random(1)
    rows = [" ".join(str(chance.randrange(10_000, 200_000)) for _ in range(17)) for _ in range(500)]
    rows += ["ports 5432 6379 8125 8126 27017 32005 41003", "size 60000 61000 62000", "to DE89 3704 0044 0532 0130 00."]
    rows += ["FR14 2004 1010 0505 0001 3M02 606", " ".join(VISA + "5554"), "41 11 11 11 11 11 11 11 22 33"]
    assert [row for row in rows if mask(row) != row] == []
    wrong = "DE89 4111 1111 1111 1111 00"  # no account: its check digits are wrong
    assert mask(wrong) == "DE89 ****"


def test_in_ones_in_twos_and_with_any_blank() -> None:
    for by in ("\u2003", "\u200a", "\u3000", "\u200b", "\u00ad", "%2D", "%2d"):
        assert mask(f"a {by.join(['4111', '1111', '1111', '1111'])} b") == "a **** b", by
    assert mask(f"{' '.join(VISA)}; 41 11 11 11 11 11 11 11, 3782 822463 10005") == "****; ****, ****"
    assert mask("".join(chr(0x660 + int(digit)) for digit in VISA)) == "****"
