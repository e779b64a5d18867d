"""The language of conditions: text to tree, by recursive descent. docs/alerts.md has the grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, cast

from vedette.rules.scanner import ConditionError, Scanner
from vedette.rules.tree import (
    COMPARISONS,
    FUNCTIONS,
    STATUSES,
    Absent,
    Arithmetic,
    Both,
    Change,
    Compare,
    Condition,
    Not,
    Number,
    Runs,
    Selector,
    StatusIs,
    Tag,
    Value,
    walk,
)
from vedette.units import parse_duration

if TYPE_CHECKING:
    from vedette.rules.tree import Expression, Node, Test

_DEEPEST: Final = 30
_MOST_RUNS: Final = 1_000
_LONGEST: Final = 90 * 86_400.0
_NUMBERS = (Number, Value, Change, Arithmetic)
_EXAMPLE: Final = "such as `avg(redis.mem.used) over 5m > 90`"
_STATUS: Final = "`status(redis/cache) == critical`"
_AFTER: Final = frozenset({"{", "over", "for", "by", *COMPARISONS, "+", "-", "*", "/", ")", ",", "and", "or", "="})
"""What may follow a metric's name."""
_CALLS: Final = (*FUNCTIONS, "change", "status")


def parse(text: str) -> Condition:
    """The tree of a condition.

    Raises:
        ConditionError: it cannot be understood; the text says where and how to mend it.
    """
    return _Parser(Scanner(text)).condition()


class _Parser:
    """One method for each rule of the grammar; what it returns may be a value or a test until an operator decides."""

    def __init__(self, words: Scanner) -> None:
        self._words = words
        self._by: tuple[str, ...] = ()
        self._depth = 0

    def condition(self) -> Condition:
        if self._words.word.kind == "end":
            raise ConditionError("is empty", _EXAMPLE)
        test = self._test(self._or())
        self._grouped()
        if self._words.word.kind != "end":
            self._words.fail("nothing more was expected", "join tests with `and` or `or`", ("and", "or", "by", "over"))
        for one in walk(test):
            if isinstance(one, Value) and one.over is None and one.function != "last":
                raise ConditionError("over which time?", f"such as {one} over 5m")
        if all(isinstance(one, Absent) and one.target is None for one in _leaves(test)) and self._by:
            raise ConditionError("`no data` without a name takes no `by`", "say of what: no data(metric) for 10m")
        return Condition(test, self._by)

    # Tests

    def _or(self) -> Node:
        return self._joined("or", self._and)

    def _and(self) -> Node:
        return self._joined("and", self._not)

    def _joined(self, word: Literal["and", "or"], inner: object) -> Node:
        read = self._not if word == "and" else self._and
        first = read()
        if not self._words.says(word):
            return first
        tests = [self._test(first)]
        while self._words.taken(word):
            tests.append(self._test(read()))
        return Both(word, tuple(tests))

    def _not(self) -> Node:
        if self._words.says("not"):
            self._deeper()
            self._words.take()
            made = Not(self._test(self._not()))
            self._depth -= 1
            return made
        return self._runs(self._comparison())

    def _comparison(self) -> Node:
        left = self._sum()
        words = self._words
        if words.says("="):
            words.fail("`=` compares nothing", "write ==")
        if not words.says(*COMPARISONS):
            return left
        if not isinstance(left, _NUMBERS):
            words.fail("what stands before is true or false already", "join tests with `and` or `or`")
        operator = words.take().text
        right = self._sum()
        if not isinstance(right, _NUMBERS):
            words.fail("a comparison needs a number or a value on its right", _EXAMPLE)
        if isinstance(left, Number) and isinstance(right, Number):
            words.fail("two numbers are always the same", "one side must be a value, such as last(queue.depth)")
        self._grouped()
        return Compare(operator, self._over(left), self._over(right))

    def _runs(self, node: Node) -> Node:
        words = self._words
        if not words.says("for"):
            return node
        if not isinstance(node, Compare | StatusIs):
            words.fail("`for … runs` belongs to one comparison", f"such as {_STATUS} for 2 of 3 runs")
        if words.ahead().kind == "number" and words.ahead().unit:
            words.fail("a condition counts runs", "the rule's own `for:` says for how long it must hold")
        words.take()
        number = self._whole()
        of = self._whole() if words.taken("of") else number
        if not words.taken("runs", "run"):
            words.fail("`runs` is missing", "such as `for 2 of 3 runs`")
        if not 1 <= number <= of <= _MOST_RUNS:
            hint = f"the first is 1 or more, the second at most {_MOST_RUNS}"
            raise ConditionError(f"{number} of {of} runs cannot be", hint)
        return Runs(node, number, of)

    def _whole(self) -> int:
        word = self._words.word
        if word.kind != "number" or word.unit or not word.text.isdecimal() or len(word.text) > 6:
            self._words.fail("a number of runs was expected", "such as `for 2 of 3 runs`")
        return int(self._words.take().text)

    def _test(self, node: Node) -> Test:
        if isinstance(node, _NUMBERS):
            self._words.fail("a value alone is no condition", "compare it, such as `> 90`")
        return node

    # Values

    def _sum(self) -> Node:
        return self._chain(("+", "-"))

    def _product(self) -> Node:
        return self._chain(("*", "/"))

    def _chain(self, signs: tuple[str, ...]) -> Node:
        read = self._product if "+" in signs else self._primary
        left = read()
        while self._words.says(*signs):
            operator = cast("Literal['+', '-', '*', '/']", self._words.taken(*signs))
            left = Arithmetic(operator, self._number(left), self._number(read()))
        return left

    def _number(self, node: Node) -> Expression:
        if not isinstance(node, _NUMBERS):
            self._words.fail("only values can be added, subtracted, multiplied or divided", "such as sum(a) / sum(b)")
        return node

    def _over(self, node: Expression) -> Expression:
        """What stands last says for those before it that have none: `sum(a) / sum(b) over 5m`."""
        over = next((one for one in _overs(node) if one is not None), None)
        return node if over is None else _with_over(node, over)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._words.fail("is nested too deep", "make several rules of it")

    def _primary(self) -> Node:
        words = self._words
        if words.taken("("):
            self._deeper()
            inner = self._or()
            words.expect(")", "a bracket is not closed", "write )")
            self._depth -= 1
            if isinstance(inner, Arithmetic) and words.taken("over"):
                return _with_over(inner, self._seconds("over"))
            return inner
        if words.word.kind == "number" or (words.says("-") and words.ahead().kind == "number"):
            return self._literal()
        if words.says("no") and words.ahead().text.lower() == "data":
            return self._absent()
        if words.word.kind != "name" or words.says("and", "or", "not", "over", "by", "for"):
            words.fail("a value or a test was expected", _EXAMPLE)
        if words.ahead().text != "(":
            return self._bare()
        return self._call()

    def _literal(self) -> Number:
        sign = -1.0 if self._words.taken("-") else 1.0
        word = self._words.take()
        value = float(word.text)
        if value > 1e300:
            raise ConditionError(f"column {word.at + 1}: the number is too large")
        return Number(sign * value if value else 0.0, word.unit)

    def _bare(self) -> Value:
        """A metric by itself is its latest value."""
        words = self._words
        if words.ahead().text not in _AFTER and words.ahead().kind != "end":
            words.fail("a value or a test was expected", _EXAMPLE, _CALLS)
        selector = self._selector()
        if self._words.says("over"):
            words.fail("what is to be made of the samples?", f"such as avg({selector}) over 5m")
        return Value("last", selector)

    def _call(self) -> Node:
        words = self._words
        name = words.word.text.lower()
        if name not in _CALLS:
            words.fail("unknown function", f"there are {', '.join(_CALLS)}", _CALLS)
        words.take()
        words.take()
        if name == "status":
            return self._status()
        if name == "change":
            return self._change()
        selector = self._selector()
        words.expect(")", "a bracket is not closed", "write )")
        over = self._seconds("over") if words.taken("over") else None
        self._grouped()
        return Value(name, selector, over)

    def _change(self) -> Change:
        words = self._words
        inner = self._call() if words.word.kind == "name" and words.ahead().text == "(" else None
        if not isinstance(inner, Value) or inner.over is None or inner.function in ("days_left", "rate"):
            words.fail("`change` takes a value and a time", "such as change(avg(queue.depth) over 5m, 1h) > 50%")
        words.expect(",", "compared with when?", "such as change(avg(queue.depth) over 5m, 1h) > 50%")
        ago = self._seconds("change")
        words.expect(")", "a bracket is not closed", "write )")
        self._grouped()
        return Change(inner, ago)

    def _status(self) -> StatusIs:
        words = self._words
        target = self._text("the name of an instance or a service check", "such as status(redis/cache) == critical")
        tags = self._tags() if words.says("{") else ()
        words.expect(")", "a bracket is not closed", "write )")
        self._grouped()
        if tags and "/" in target:
            words.fail("an instance's status has no tags", "name the instance, or a service check with tags")
        if not words.says("==", "!=", ">="):
            words.fail("a status is compared with ==, != or >=", "such as status(redis/cache) == critical")
        operator = words.take().text
        if not words.says(*STATUSES):
            words.fail("no status", f"there are {', '.join(STATUSES)}", STATUSES)
        made = StatusIs(target, tags, operator, words.take().text.lower())
        self._grouped()
        return made

    def _absent(self) -> Absent:
        words = self._words
        words.take()
        words.take()
        target: Selector | str | None = None
        if words.taken("("):
            if words.word.kind == "text" or "/" in words.word.text:
                target = self._text("what should come", "such as no data(redis/cache) for 10m")
                if "/" not in target:
                    words.fail("an instance is `check/name`", "such as no data(redis/cache) for 10m")
            else:
                target = self._selector()
            words.expect(")", "a bracket is not closed", "write )")
        self._grouped()
        words.expect("for", "for how long?", "such as `no data(redis/cache) for 10m`")
        made = Absent(target, self._seconds("for"))
        self._grouped()
        return made

    # Parts

    def _selector(self) -> Selector:
        word = self._words.word
        if word.kind != "name" or "/" in word.text or "*" in word.text:
            self._words.fail("the name of a metric was expected", "such as redis.mem.used")
        self._words.take()
        return Selector(word.text, self._tags() if self._words.says("{") else ())

    def _tags(self) -> tuple[Tag, ...]:
        words, tags = self._words, []
        words.take()
        while not words.taken("}"):
            wanted = not words.taken("!")
            key = self._text("a tag was expected", "such as {currency:USD}")
            words.expect(":", "a tag has a value", "such as {currency:USD}; {currency:*} is any")
            value = [self._text("a tag has a value", "put quotes around a value with other characters")]
            while words.taken(":"):  # host:port
                value.append(self._text("a tag has a value", "put quotes around a value with other characters"))
            tags.append(Tag(key, ":".join(value), wanted))
            if not words.taken(",") and not words.says("}"):
                words.fail("a tag ends with , or }", "put quotes around a value with other characters")
        return tuple(tags)

    def _text(self, message: str, hint: str) -> str:
        if self._words.word.kind not in ("name", "text", "number"):
            self._words.fail(message, hint)
        word = self._words.take()
        if not (text := f"{word.text}{word.unit}").isprintable() or not text:
            raise ConditionError(f"column {word.at + 1}: a text of printable characters was expected", hint)
        return text

    def _seconds(self, after: str) -> float:
        word = self._words.word
        hint = f"such as `{after} 5m`" if after != "change" else "such as 1h"
        if word.kind != "number" or word.unit == "%" or not word.unit:
            self._words.fail("a length of time was expected", hint)
        try:
            seconds = parse_duration(f"{word.text}{word.unit}")
        except ValueError:
            self._words.fail("a length of time was expected", hint)
        if not 0.001 <= seconds <= _LONGEST:
            self._words.fail("a length of time is between 1ms and 90d", hint)
        self._words.take()
        return seconds

    def _grouped(self) -> None:
        """`by (queue)`, which counts for the whole condition wherever it stands."""
        words = self._words
        if not words.taken("by"):
            return
        words.expect("(", "the tags stand in brackets", "such as by (queue)")
        keys: list[str] = []
        while not words.taken(")"):
            keys.append(self._text("a tag's name was expected", "such as by (queue)"))
            if not words.taken(",") and not words.says(")"):
                words.fail("a tag's name ends with , or )", "such as by (queue, region)")
        made = tuple(dict.fromkeys(keys))
        if not made or (self._by and self._by != made):
            message = "`by` names no tag" if not made else "all of a condition is grouped by the same tags"
            raise ConditionError(message, "such as by (queue), once")
        self._by = made


def _leaves(test: Test) -> list[Node]:
    if isinstance(test, Both):
        return [leaf for one in test.tests for leaf in _leaves(one)]
    return _leaves(test.test) if isinstance(test, Not) else [test]


def _overs(node: Expression) -> list[float | None]:
    """The `over` of each value, the last one first."""
    if isinstance(node, Arithmetic):
        return _overs(node.right) + _overs(node.left)
    return [node.over] if isinstance(node, Value) else []


def _with_over(node: Expression, over: float) -> Expression:
    if isinstance(node, Arithmetic):
        return Arithmetic(node.operator, _with_over(node.left, over), _with_over(node.right, over))
    if isinstance(node, Value) and node.over is None and node.function != "last":
        return Value(node.function, node.selector, over)
    return node
