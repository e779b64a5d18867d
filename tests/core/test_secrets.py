"""Secrets are masked as they are, and however agents, servers and drivers write them."""

from __future__ import annotations

import asyncio
import base64
import html
import io
import json
import logging
import random
import string
from datetime import UTC, datetime
from decimal import Decimal
from time import thread_time
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest

from checks.log_file.plants import CARDS
from vedette.config.model import LogConfig
from vedette.control.wire import perform
from vedette.emit import Channel, Emit, masked_values
from vedette.logs import set_up
from vedette.metrics import Status
from vedette.secrets import OF_THIS_TASK, Masker, cut_tag, cut_text, mask, mask_urls

VISA = CARDS["visa"]
SPECIAL = (
    "my dog is purple", 'p@ss w/ord+&"é', 'qu"ote\\back/é<z>', 'a/b+c@d$e"f', "it's", "two\nlines\tof it", "a~b-c.d_e",
    "smile😀x", "100%sure", "$(x)^[y]{z}|", "C:\\new\\table", "50%abc", "rtz 0neq\\é<&",
)  # fmt: skip


def written(secret: str) -> dict[str, str]:
    """How others write it."""
    asked = httpx.Request("GET", "http://h", params={"a": secret}).url
    return {
        "itself": secret,
        "percent": quote(secret, safe=""),
        "path": quote(secret),
        "small": quote(secret, safe="").lower() if secret.islower() else quote(secret, safe=""),
        "form": quote_plus(secret),
        "httpx query": asked.query.decode().removeprefix("a="),
        "httpx path": httpx.URL(f"http://h/{quote(secret, safe='/+@$&<>')}").raw_path.decode().removeprefix("/"),
        "twice": quote(quote(secret, safe=""), safe=""),
        "JSON": json.dumps(secret)[1:-1],
        "JSON, UTF-8": json.dumps(secret, ensure_ascii=False)[1:-1],
        "JSON of PHP": json.dumps(secret)[1:-1].replace("/", "\\/"),
        "JSON of Go": json.dumps(secret)[1:-1].replace("<", "\\u003c").replace(">", "\\u003E").replace("&", "\\u0026"),
        "JSON in JSON": json.dumps(json.dumps(secret))[3:-3],
        "HTML": html.escape(secret),
        "HTML of JSON": html.escape(json.dumps(secret)[1:-1]),
        "HTML, twice": html.escape(html.escape(secret)),
        "HTML, ASCII": secret.encode("ascii", "xmlcharrefreplace").decode(),
        "repr": repr(secret)[1:-1],
        "repr of bytes": repr(secret.encode())[2:-1],
        "Latin-1": secret.encode().decode("latin-1"),
        "on one line": " ".join(secret.split()),
    }


@pytest.mark.parametrize("secret", SPECIAL)
def test_whatever_way_it_is_written(secret: str) -> None:
    masker = Masker()
    masker.add(secret)
    found = {name: masker(f"say '{form}'!") for name, form in written(secret).items()}
    assert found == dict.fromkeys(found, "say '****'!")


def test_any_letters() -> None:
    chance = random.Random(4)
    letters = string.ascii_letters + string.digits + string.punctuation + " éß😀漢"
    for _ in range(300):
        secret = "".join(chance.choices(letters, k=chance.randrange(6, 30))).strip()
        masker = Masker()
        masker.add(secret)
        for name, form in written(secret).items():
            assert "****" in masker(f"<{form}>"), (secret, name)
            assert secret[1:-1] not in masker(f"<{form}>"), (secret, name)


def test_what_overlaps_is_one_gap_and_the_whole_goes_with_its_pieces() -> None:
    masker = Masker()
    for one in ("purple-haired", "my dog is purple-haired now", "haired no"):
        masker.add(one)
    assert masker("<p>my dog is purple-haired now</p> my purple-haired cat") == "<p>****</p> my **** cat"
    assert masker("purple-haired nobody") == "****body"


def test_the_password_of_a_url_is_one_on_its_own_too() -> None:
    masker = Masker()
    masker.add("http://agent:pr%2Fox-y1@proxy:3128")
    masker.add("postgres://postgres:postgres@db/shop")
    assert masker.known("pr/ox-y1, pr%2Fox-y1, http://agent:pr%2Fox-y1@proxy:3128") == "****, ****, ****"
    assert masker.known("postgres is down") == "postgres is down"


def test_what_is_no_secret_stays() -> None:
    masker = Masker()
    for one in ("a++", "C:\\", "   ", "\\\\\\\\", "ab", "x&y"):
        masker.add(one)
    assert masker("a b 100% C: c:\\new %41 &amp; a plus b") == "a b 100% C: c:\\new %41 &amp; a plus b"
    assert masker("a++, C:\\") == "****, ****"


def test_many_secrets_and_long_ones_cost_little() -> None:
    """Not a matter of time but of effort: none of them becomes a pattern as long as itself."""
    masker = Masker()
    for number in range(1000):
        masker.add(f'{number}-"é/ <p>secret&' * 20)
    text = f'{7}-"é/ <p>secret&' * 20
    assert masker(f"{text} {json.dumps(text)}") == '**** "****"'


def test_a_long_word_before_a_url_costs_little() -> None:
    """A second's CPU has a hundredfold room; with a scheme of any length it took eight."""
    masker = Masker()
    masker.add("p%s/w+d#1")
    begun = thread_time()
    for text in ("x" * 64_000 + " a://", "password" + " " * 64_000, "a://b:" * 10_000, "token:" * 10_000):
        masker(text)
    assert thread_time() - begun < 2
    assert masker(f"{'y' * 99}postgres://u:pw@h and failed.postgres://u:pw@h") == (
        f"{'y' * 99}postgres://u:****@h and failed.postgres://u:****@h"
    )


def test_the_digest_of_an_image_is_no_host() -> None:
    assert mask_urls("docker://app:1.0@sha256:ab") == "docker://app:1.0@sha256:ab"
    assert mask_urls("docker://app:1.0@sha256.example") == "docker://app:****@sha256.example"


def test_rules_do_not_take_each_other_s_halves() -> None:
    masker = Masker()
    for one in ("4111", "order 5555 of"):
        masker.add(one)
    for text, said in {
        "token: 4111 1111 1111 1111 x": "token: **** x",
        "password=4111 1111 1111 1111": "password=****",
        "order 5555 5555 5555 4444": "order ****",
        "card 4111 1111 1111 1111": "card ****",
        "order 5555 of 4111": "**** ****",
    }.items():
        assert masker(text) == said
    assert mask("secret : 5555 5555 5555 4444") == "secret : ****"


def test_a_secret_in_tags_and_in_names_that_others_chose() -> None:
    masker = Masker(outer := Masker())
    outer.add("hunter2/Secret")
    outer.add("node-17", certain=False)
    outer.add("abcd")  # too short to be told from a word
    channel = Channel("a/b", "a", (), (), ("own:hunter2/Secret",), open_names=True, masker=masker)
    emit = Emit(channel, 0.0)
    tags = ("q:hunter2%2FSecret", "host:node-17", "x:abcd")
    emit.gauge("app.hunter2/Secret.y", 1, tags)
    emit.status(f"pay hunter2/Secret {VISA}", Status.OK, tags=tags)
    emit.event("t", tags=tags)
    emit.log("m", tags=tags)
    batch = emit.batch()
    expected = ("host:node-17", "own:****", "q:****", "x:abcd")
    assert {one.tags for one in (*batch.samples, *batch.statuses, *batch.events, *batch.logs)} == {expected}
    assert (batch.samples[0].name, batch.statuses[0].name) == ("app.****.y", "pay **** ****")
    outer.add("learnt-later")
    emit = Emit(channel, 0.0)
    emit.gauge("x", 1, ["a:learnt-later"])
    outer.add("and-later-still")
    assert emit.tag_set(["a:learnt-later"]) == ("a:****", "own:****")
    assert Emit(channel, 0.0).tag_set(["a:and-later-still"]) == ("a:****", "own:****")


def test_members_that_differ_still_do_also_in_the_child_of_an_isolated_check() -> None:
    masker, child = Masker(), Masker()
    masker.add("hunter2-Secret")
    members = {
        masker.member(text) for text in ("token:alice", "token:bob", "u hunter2-Secret", "reset-password:17", VISA)
    }
    assert len(members) == 5
    assert not [one for one in members if "hunter2" in one or VISA in one or "alice" in one]
    child.give_pseudonyms_of(masker.salt)
    assert child.member(VISA) == masker.member(VISA) == Masker(masker).member(VISA)


def test_within_base64() -> None:
    masker = Masker()
    masker.add("hunter2-Secret?")
    for before in ("", "u:", "user:", "some:"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            form = encode(f"{before}hunter2-Secret?".encode()).decode()
            assert masker(f"sent Basic-{form}.") == "sent ****."


def test_masked_first_then_cut() -> None:
    masker = Masker()
    masker.add("hunter2-Secret/of-another")
    OF_THIS_TASK.set(masker)
    for text in (f"eeee {VISA} {'x' * 99}", f"eeee hunter2-Secret%2Fof-another {'x' * 99}"):
        for most in range(6, 40):
            shown = masker.cut(text, most)
            assert shown == f"eeee ****{text[text.index(' ', 5) : most] if most > text.index(' ', 5) else ''}"
            assert cut_text(text, most) in ("eeee ", "eeee ****", "eeee **** ")
    assert cut_tag(f"key:{VISA}:x", 9) == "key:****"
    assert cut_tag(f"key_{VISA}_x", 9) == "key_"  # no card's for sure, but nobody looks at it again
    assert cut_tag("job 20261127-1", 9) == "job 20261"
    assert cut_text("words that nobody hides", 12) == "words that "
    OF_THIS_TASK.set(None)


def test_a_silence_s_comment_and_tags() -> None:
    masker, said = Masker(), []
    masker.add("hunter2-Secret")
    operations: Any = SimpleNamespace(masker=masker, alerting=SimpleNamespace(silence=lambda *one: said.append(one)))
    request = {"what": ["queue:hunter2-Secret"], "for": "1h", "comment": f"{VISA} {'x' * 180} hunter2-Secret"}
    asyncio.run(perform(operations, {"op": "silence", **request}))
    assert said == [(["queue:****"], 3600.0, f"**** {'x' * 180} ****")]


def test_attributes_of_any_type() -> None:
    masker, card, moment = Masker(), int(VISA), datetime(2026, 11, 27, tzinfo=UTC)
    masker.add("hunter2-Secret")
    given = {
        "a": Decimal(card), "b": {VISA}, "c": VISA.encode(), "d": -card, "e": ValueError("of hunter2-Secret"),
        "f": card + 0.5, "g": moment, "h": Decimal("1.5"), "i": Decimal("nan"), "j": True, "k": None, VISA: 1,
        CARDS["mastercard"]: 2,
    }  # fmt: skip
    made = masked_values(given, masker)
    expected = {
        **dict.fromkeys("adf", "****"), "b": ["****"], "c": "****", "e": "of ****", "g": moment, "h": Decimal("1.5"),
        "i": given["i"], "j": True, "k": None, "****": 1, "*****": 2,
    }  # fmt: skip
    assert made == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('password="hunter2 x" y', 'password="****" y'),
        ("password='hunter2'", "password='****'"),
        ('{"password": "hun\\"ter2", "a": 1}', '{"password": "****", "a": 1}'),
        (r"in {\"api_key\": \"hunter2\"}", r"in {\"api_key\": \"****\"}"),
        ("DB_PASSWORD=hunter2 PGPASSWORD=hunter2", "DB_PASSWORD=**** PGPASSWORD=****"),
        ("passphrase: hunter2, token=>hunter2", "passphrase: ****, token=>****"),
        ("Authorization: Basic aHVudGVy", "Authorization: Basic ****"),
        ("sent Bearer abcdefgh.ijklmnop", "sent Bearer ****"),
        ("ALTER USER u IDENTIFIED BY 'hunter2'", "ALTER USER u IDENTIFIED BY '****'"),
        ('password: "never closed', 'password: "**** closed'),
        ("OLDPWD=/root, bearer of news, identified by name", "OLDPWD=/root, bearer of news, identified by name"),
        ("arn:aws:secretsmanager:eu:1:secret:shop/db", "arn:aws:secretsmanager:eu:1:secret:shop/db"),
    ],
)
def test_what_is_called_a_password(text: str, said: str) -> None:
    assert mask(text) == said


def test_a_log_call_that_does_not_fit_shows_no_arguments() -> None:
    logger, stream, masker = logging.getLogger("vedette.misfit"), io.StringIO(), Masker()
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    set_up(LogConfig(), masker, stream)
    try:
        logger.warning("login %d refused", "hunter2-Secret")
    finally:
        logging.basicConfig(handlers=before, level=level, force=True)
    (line,) = stream.getvalue().splitlines()
    assert "ERROR   misfit: a line of the log cannot be written (TypeError)" in line
    assert "test_secrets.py:" in line
    assert "hunter2" not in line
