"""The language of conditions: what each text means, what is said of a mistake, and that nothing else ever happens."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest

from vedette.rules import Condition, ConditionError, parse
from vedette.rules.tree import (
    COMPARISONS,
    FUNCTIONS,
    STATUSES,
    Absent,
    Arithmetic,
    Both,
    Change,
    Compare,
    Not,
    Number,
    Runs,
    Selector,
    StatusIs,
    Tag,
    Value,
)

RATE = Selector("business.hourly.success_rate", (Tag("currency", "USD"),))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        (
            "avg(business.hourly.success_rate{currency:USD}) over 3h < 97",
            Compare("<", Value("avg", RATE, 10_800.0), Number(97.0)),
        ),
        (
            "status(synthetic/payment-flow) == critical for 2 of 3 runs",
            Runs(StatusIs("synthetic/payment-flow", (), "==", "critical"), 2, 3),
        ),
        ("queue.depth > 5 for 3 runs", Runs(Compare(">", Value("last", Selector("queue.depth")), Number(5.0)), 3, 3)),
        ("no data for 10m", Absent(None, 600.0)),
        ("no data(redis/cache) for 10m", Absent("redis/cache", 600.0)),
        ("no data(a.b{c:d}) for 90s", Absent(Selector("a.b", (Tag("c", "d"),)), 90.0)),
        (
            "sum(a) / sum(b) over 5m > 5%",
            Compare(
                ">",
                Arithmetic("/", Value("sum", Selector("a"), 300.0), Value("sum", Selector("b"), 300.0)),
                Number(5.0, "%"),
            ),
        ),
        (
            "change(avg(a) over 5m, 1h) < -30%",
            Compare("<", Change(Value("avg", Selector("a"), 300.0), 3600.0), Number(-30.0, "%")),
        ),
        ("http.ssl.days_left < 14d", Compare("<", Value("last", Selector("http.ssl.days_left")), Number(14.0, "d"))),
        (
            'a{x:"two words",!y:z*,ip:10.0.0.1:80} >= 1e3',
            Compare(
                ">=",
                Value(
                    "last",
                    Selector("a", (Tag("x", "two words"), Tag("y", "z*", wanted=False), Tag("ip", "10.0.0.1:80"))),
                ),
                Number(1000.0),
            ),
        ),
        (
            "not (a > 1 or b > 2) and c > 3",
            Both(
                "and",
                (
                    Not(
                        Both(
                            "or",
                            (
                                Compare(">", Value("last", Selector("a")), Number(1.0)),
                                Compare(">", Value("last", Selector("b")), Number(2.0)),
                            ),
                        )
                    ),
                    Compare(">", Value("last", Selector("c")), Number(3.0)),
                ),
            ),
        ),
        ("status(redis.can_connect{server:a}) != ok", StatusIs("redis.can_connect", (Tag("server", "a"),), "!=", "ok")),
    ],
)
def test_a_text_means_this(text: str, tree: Any) -> None:
    made = parse(text)
    assert made == Condition(tree)
    assert parse(str(made)) == made


@pytest.mark.parametrize(
    "text",
    ["max(q) over 5m by (queue) > 3", "max(q) over 5m > 3 by (queue)", "max(q) over 5m > 3 by (queue) and w > 1"],
)
def test_by_counts_for_all_wherever_it_stands(text: str) -> None:
    assert parse(text).by == ("queue",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; such as `avg(redis.mem.used) over 5m > 90`"),
        ("a = 3", "column 3: `=` compares nothing; write =="),
        ("averag(a) over 5m > 3", "column 1: unknown function; did you mean 'avg'?"),
        ("avg(a) > 3", "over which time?; such as avg(a) over 5m"),
        ("a over 5m > 3", "column 3: what is to be made of the samples?; such as avg(a) over 5m"),
        ("avg(a) over 5 > 3", "column 13: a length of time was expected; such as `over 5m`"),
        ("a > 3 for 10m", "column 7: a condition counts runs; the rule's own `for:` says for how long it must hold"),
        ("a > 3 for 3 of 2 runs", "3 of 2 runs cannot be; the first is 1 or more, the second at most 1000"),
        ("(a > 3", "at the end: a bracket is not closed; write )"),
        ("avg(a) over 5m", "at the end: a value alone is no condition; compare it, such as `> 90`"),
        ("status(a/b) == criticl", "column 16: no status; did you mean 'critical'?"),
        ("status(a/b) < ok", "column 13: a status is compared with ==, != or >=; "
         "such as status(redis/cache) == critical"),
        ('a{b:"c} > 3', "column 5: the text in quotes has no end; close it with \""),
        ("a{b} > 3", "column 4: a tag has a value; such as {currency:USD}; {currency:*} is any"),
        ("a > 3 adn b > 4", "column 7: nothing more was expected; did you mean 'and'?"),
        ("3 > 4", "at the end: two numbers are always the same; one side must be a value, such as last(queue.depth)"),
        ("max(a) over 5m by (x) > max(b) over 5m by (y)", "all of a condition is grouped by the same tags; "
         "such as by (queue), once"),
        ("a > $", "column 5: a character that means nothing here; such as `avg(redis.mem.used) over 5m > 90`; "
         "docs/alerts.md has the language"),
        ("(" * 40 + "a > 3", "column 32: is nested too deep; make several rules of it"),
        ("a > 3 or " * 400 + "a > 3", "is longer than 2000 characters; make several rules of it"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_mends_it(text: str, said: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(text)
    assert str(caught.value) == said


class Author:
    """Writes conditions of every kind."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def word(self) -> str:
        pick = self.random
        return "".join(pick.choices(string.ascii_lowercase + "_.", k=pick.randint(1, 8))).strip("._") or "x"

    def text(self) -> str:
        letters = 'abc XYZ09/:,{}()"\\*@-._é'
        return "".join(self.random.choices(letters, k=self.random.randint(1, 8)))

    def selector(self) -> Selector:
        tags = tuple(
            Tag(self.text(), self.text(), self.random.random() < 0.8) for _ in range(self.random.choice((0, 0, 1, 2)))
        )
        return Selector(self.word(), tags)

    def seconds(self) -> float:
        return self.random.choice((0.5, 1.0, 15.0, 90.0, 300.0, 5400.0, 3600.0, 86_400.0 * 7))

    def number(self) -> Number:
        return Number(
            self.random.choice((0.0, -1.0, 97.0, 0.05, 1e6, 1e-7, 123456.789)), self.random.choice(("", "", "%", "d"))
        )

    def expression(self, depth: int) -> Any:
        kind = self.random.choice(("value", "value", "change", "arithmetic" if depth else "value"))
        if kind == "change":
            functions = [one for one in FUNCTIONS if one not in ("rate", "days_left")]
            return Change(Value(self.random.choice(functions), self.selector(), self.seconds()), self.seconds())
        if kind == "arithmetic":
            sides = self.expression(depth - 1), self.expression(depth - 1)
            return Arithmetic(self.random.choice("+-*/"), *sides)  # type: ignore[arg-type]
        over = None if self.random.random() < 0.2 else self.seconds()
        return Value("last" if over is None else self.random.choice(FUNCTIONS), self.selector(), over)

    def test(self, depth: int) -> Any:
        kind = self.random.choice(("compare", "status", "absent", "runs", *(("not", "both") if depth else ())))
        if kind == "compare":
            sides = self.expression(2), self.number() if self.random.random() < 0.8 else self.expression(1)
            return Compare(self.random.choice(COMPARISONS), *sides)
        if kind == "status":
            target = f"{self.word()}/{self.text()}" if self.random.random() < 0.7 else self.word()
            return StatusIs(target, (), self.random.choice(("==", "!=", ">=")), self.random.choice(STATUSES))
        if kind == "absent":
            return Absent(self.random.choice((self.selector(), f"{self.word()}/{self.text()}")), self.seconds())
        if kind == "runs":
            of = self.random.randint(1, 9)
            inner = self.test(0)
            return Runs(inner, self.random.randint(1, of), of) if isinstance(inner, Compare | StatusIs) else inner
        if kind == "not":
            return Not(self.test(depth - 1))
        return Both(
            self.random.choice(("and", "or")), tuple(self.test(depth - 1) for _ in range(self.random.randint(2, 3)))
        )

    def condition(self) -> Condition:
        by = tuple(dict.fromkeys(self.text() for _ in range(self.random.choice((0, 0, 1, 2)))))
        return Condition(self.test(2), by)


def test_what_is_printed_parses_to_the_same() -> None:
    done = 0
    for seed in range(1500):
        made = Author(seed).condition()
        text = str(made)
        if len(text) <= 2000:
            assert parse(text) == made, text
            done += 1
    assert done > 1400


def test_any_text_parses_or_is_a_mistake_and_nothing_else() -> None:
    said = (
        "avg( a.b ) over 5m 3h > < == 97 5% status( x/y critical for 2 of runs no data and or not ( { } : , by change("
    )
    words = [*said.split(), "/", "-", '"', "\\", "é", "\0"]
    good = 0
    for seed in range(3000):
        pick = random.Random(seed)
        if seed % 2:
            text = " ".join(pick.choices(words, k=pick.randint(1, 14)))
        else:  # a right one with a few characters changed
            letters = list(str(Author(seed).condition()))
            for _ in range(pick.randint(1, 3)):
                letters[pick.randrange(len(letters))] = pick.choice("(){}\"'<>=%,:/ x5\\")
            text = "".join(letters)
        try:
            made = parse(text)
        except ConditionError:
            continue
        good += 1
        assert parse(str(made)) == made, text
    assert good > 100
