"""What a query compares its bounds with, and where a stored value of that can be looked at.

Only as much of SQL is read as that takes: the operand beside `:start_time` or `:end_time`, and the tables. A parser
would know more and cost the agent 30 MB; what is not understood here is said to be unclear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|/\*.*?\*/)|(?P<text>'(?:[^']|'')*'|\$\$.*?\$\$)|(?P<cast>::)"""
    r"""|(?P<bound>:(?:start_time|end_time)\b)|(?P<name>"(?:[^"]|"")*"|`[^`]*`|[^\W\d]\w*)|(?P<number>\d[\w.]*)"""
    r"""|(?P<sign><=|>=|<>|!=|\|\||.)""",
    re.DOTALL,
)
_COMPARES = frozenset({"<", "<=", ">", ">=", "="})
_COUNTS = frozenset({"+", "-", "*", "/", "%", "||"})
_WORDS = frozenset(
    {"and", "or", "not", "where", "on", "having", "when", "then", "else", "in", "between", "case", "select", "from",
     "join", "left", "right", "inner", "outer", "full", "cross", "group", "order", "limit", "union", "using", "as",
     "is", "natural", "window"}
)  # fmt: skip
_NUMBERS = frozenset({"bigint", "int8", "int", "integer", "numeric", "real", "float8", "double"})
Bound = Literal["bare", "counted", "wrapped"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """An operand that is compared with a bound.

    Attributes:
        operand: its SQL.
        bound: what stands on the other side: the bound itself, a sum or product of it, or a function or cast of it.
    """

    operand: str
    bound: Bound


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        return self.text.lower()

    @property
    def names(self) -> bool:
        """Whether it names something, and is no keyword."""
        return self.kind == "name" and self.word not in _WORDS


_END = _Token("end", "")


class Reading:
    """A query, as far as its bounds go.

    Args:
        sql: its text.
        brackets: write quoted names in brackets: SQLite takes an unknown name in double quotes for a text.
    """

    def __init__(self, sql: str, *, brackets: bool) -> None:
        self._brackets = brackets
        found = ((str(one.lastgroup), one[0]) for one in _TOKEN.finditer(sql))
        self._tokens = [_Token(kind, text) for kind, text in found if kind != "skip"]

    def _at(self, place: int) -> _Token:
        return self._tokens[place] if 0 <= place < len(self._tokens) else _END

    def _text(self, first: int, last: int) -> str:
        tokens = self._tokens[first : last + 1]
        return " ".join(
            f"[{one.text[1:-1]}]" if self._brackets and one.text[0] == '"' and "]" not in one.text else one.text
            for one in tokens
        ).replace(" . ", ".")

    def comparisons(self) -> list[Comparison | None]:
        """What each bound is compared with, each operand once; None for a bound of which that is unclear."""
        bounds = [place for place, token in enumerate(self._tokens) if token.kind == "bound"]
        return list(dict.fromkeys(self._comparison(place) for place in bounds))

    def _comparison(self, place: int) -> Comparison | None:
        first, last, bound = self._side(place)
        if self._at(first - 1).word == "and" and self._at(first - 2).kind == "bound":
            return self._comparison(first - 2)  # the other bound of a BETWEEN
        if self._at(first - 1).text in _COMPARES or self._at(first - 1).word == "between":
            end = first - 2 if self._at(first - 2).word != "not" else first - 3
            begin = self._before(end)
            return self._made(begin, end, bound)
        if self._at(last + 1).text in _COMPARES:
            return self._made(last + 2, self._after(last + 2), bound)
        return None

    def _made(self, first: int | None, last: int | None, bound: Bound) -> Comparison | None:
        if first is None or last is None or any(one.kind == "bound" for one in self._tokens[first : last + 1]):
            return None
        return Comparison(self._text(first, last), bound)

    def _side(self, place: int) -> tuple[int, int, Bound]:
        """From where to where a bound goes with all that is counted with it or wrapped around it."""
        first = last = place
        bound: Bound = "bare"
        while True:
            before, after = self._at(first - 1), self._at(last + 1)
            if after.kind == "cast" and self._at(last + 2).kind == "name":
                last, bound = last + 2, "wrapped"
            elif before.text in _COUNTS and (begin := self._before(first - 2)) is not None:
                first, bound = begin, "wrapped" if bound == "wrapped" else "counted"
            elif after.text in _COUNTS and (end := self._after(last + 2)) is not None:
                last, bound = end, "wrapped" if bound == "wrapped" else "counted"
            elif before.text in ("(", ",") or after.text in (")", ","):
                group = self._group(first)
                if group is None:
                    return first, last, bound
                first, last = group
                if self._at(first - 1).names:
                    cast = self._at(first - 1).word == "cast" and self._at(last - 1).word in _NUMBERS
                    first, bound = first - 1, "counted" if cast and bound != "wrapped" else "wrapped"
            else:
                return first, last, bound

    def _group(self, place: int) -> tuple[int, int] | None:
        """The parentheses around a token, unless they hold more than an expression."""
        depth, first = 1, place
        while depth and first >= 0:
            first -= 1
            depth += {")": 1, "(": -1}.get(self._at(first).text, 0)
            if self._at(first).word in ("select", "where", "and", "or", "on") or self._at(first).text in _COMPARES:
                return None
        last = self._closing(first) if first >= 0 else None
        inside = self._tokens[place : last or place]
        if last is None or any(one.text in _COMPARES or one.word in ("and", "or") for one in inside):
            return None
        return first, last

    def _closing(self, first: int) -> int | None:
        depth = 0
        for place in range(first, len(self._tokens)):
            depth += {"(": 1, ")": -1}.get(self._tokens[place].text, 0)
            if not depth:
                return place
        return None

    def _opening(self, last: int) -> int | None:
        depth = 0
        for place in range(last, -1, -1):
            depth += {")": 1, "(": -1}.get(self._tokens[place].text, 0)
            if not depth:
                return place
        return None

    def _before(self, last: int) -> int | None:
        """Where the operand begins that ends here."""
        token = self._at(last)
        if token.text == ")":
            opening = self._opening(last)
            if opening is None:
                return None
            first = self._chain(opening - 1) if self._at(opening - 1).names else opening
        elif token.names or token.kind in ("number", "text"):
            first = self._chain(last)
        else:
            return None
        before = self._at(first - 1)
        return self._before(first - 2) if before.kind == "cast" or before.text in _COUNTS else first

    def _chain(self, last: int) -> int:
        while self._at(last - 1).text == "." and self._at(last - 2).kind == "name":
            last -= 2
        return last

    def _after(self, first: int) -> int | None:
        """Where the operand ends that begins here."""
        token, last = self._at(first), first
        if token.names:
            while self._at(last + 1).text == "." and self._at(last + 2).kind == "name":
                last += 2
            if self._at(last + 1).text == "(":
                last = self._closing(last + 1) or last
        elif token.text == "(":
            closing = self._closing(first)
            if closing is None:
                return None
            last = closing
        elif token.kind not in ("number", "text"):
            return None
        after = self._at(last + 1)
        return self._after(last + 2) if after.kind == "cast" or after.text in _COUNTS else last

    def tables(self) -> list[str]:
        """What may stand behind FROM to see a column, with aliases: each table, and each subquery without a bound."""
        return list(dict.fromkeys(self._tables()))

    def _tables(self) -> Iterator[str]:
        for place, token in enumerate(self._tokens):
            at = place
            while self._at(at).word in ("from", "join") or (at > place and self._at(at).text == ","):
                at += 1
                if token.word not in ("from", "join"):
                    break
                if self._at(at).word in ("lateral", "only"):
                    at += 1
                end = self._after(at)
                if end is None:
                    break
                alias = end + 1 + (self._at(end + 1).word == "as")
                last = alias if self._at(alias).names else end
                if not any(one.kind == "bound" for one in self._tokens[at : last + 1]):
                    yield self._text(at, last)
                at = last + 1

    def probes(self, operand: str, kind_of: str) -> Iterator[str]:
        """Queries of which one gives the type and a value of this operand, unless nothing is stored yet.

        Args:
            operand: of a comparison.
            kind_of: the database's function that names a value's type.
        """
        what = f"CAST({kind_of}({operand}) AS text), {operand}"
        for table in self.tables():
            yield f"SELECT {what} FROM {table} WHERE {operand} IS NOT NULL LIMIT 1"  # noqa: S608 - the user's own SQL
