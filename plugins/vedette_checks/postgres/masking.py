"""Takes the values out of SQL, so that a query can be shown without what its users typed."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\* )
  | (?P<value>
        \$(?P<tag>[^\W\d]\w*)\$ .*? (?:\$(?P=tag)\$|\Z)    # $tag$…$tag$; one that was cut off goes to the end
      | \$\$ .*? (?:\$\$|\Z)
      | \bE'(?: [^'\\] | \\. | '' )*(?:'|\Z)                # escape strings
      | (?:\b[BXN]|\bU&)?'(?: [^'] | '' )*(?:'|\Z)
      | (?<![\w$.])[+-]?\.?\d[\w.]*                         # not the 1 of $1 or of table1
    )
  | (?P<name> "(?: [^"] | "" )*(?:"|\Z) )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_COMMENT = re.compile(r"/\*|\*/")
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r'"(?:[^"]|"")*(?:"|\Z)|\$\d+|\w+|[^\w\s]')
_CAST = r"(?: : : \w+(?: \. \w+)?(?: \( \?(?: , \?)* \))?(?: \[ \])*)*"
_LIST = re.compile(rf"\b(in \(|array \[) (?:[-+] )?\?{_CAST}(?: , (?:[-+] )?\?{_CAST})* ([)\]])")
_SET = re.compile(r"(set (?:session |local )?\S+(?: \. \S+)*) (?:=|to) (?!default\Z).*")
_NAMED = re.compile(
    r"(savepoint|release(?: savepoint)?|rollback(?: \w+)? to(?: savepoint)?|deallocate(?: prepare)?) (?!all\Z)\S+"
)


def mask_sql(query: str, longest: int = 200) -> str:
    """The query with `?` for each string and number, on one line, without comments.

    Lexical rules: PostgreSQL documentation, 4.1 Lexical Structure. A string that the server cut off
    (`track_activity_query_size`) is masked to the end.

    Args:
        query: SQL text.
        longest: characters to keep.
    """
    text = _SPACE.sub(" ", "".join(_pieces(query))).strip()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def canonical_sql(query: str) -> str:
    """A form of the query that does not depend on the version of the server that tells of it, or on who wrote it first.

    What it says is no SQL. pg_stat_statements shows the text of whoever came first; values are `$1` or, in a command
    before 16, still there; from 18 on a list of values counts as one.
    """
    words = ("?" if word[0] == "$" else word if word[0] == '"' else word.lower() for word in _words(query))
    text = _LIST.sub(r"\1 ? \2", " ".join(words))
    if found := _SET.fullmatch(text):
        return f"{found[1]} = ?"
    found = _NAMED.fullmatch(text)
    return f"{found[1]} ?" if found else text


def _words(query: str) -> Iterator[str]:
    return (match[0] for match in _WORD.finditer("".join(_pieces(query))))


def bare_sql(query: str) -> str:
    """The query without its comments, and with `?` for each string, number and quoted name."""
    return "".join(_pieces(query, name="?"))


def _pieces(query: str, name: str | None = None) -> Iterator[str]:
    """The query piece by piece, each value replaced; quoted names by `name`, if that is given."""
    position = 0
    while match := _TOKEN.search(query, position):
        yield query[position : match.start()]
        position = match.end()
        if match["comment"] is not None:
            yield " "
            position = _end_of_comment(query, match)
        elif match["value"] is not None:
            yield "?"
        else:
            yield match[0] if name is None else name
    yield query[position:]


def _end_of_comment(query: str, opening: re.Match[str]) -> int:
    """Where a comment ends: `/* … */` nests, one that was cut off goes to the end."""
    depth, position = (1, opening.end()) if opening[0] == "/*" else (0, opening.end())
    while depth:
        mark = _COMMENT.search(query, position)
        if mark is None:
            return len(query)
        depth += 1 if mark[0] == "/*" else -1
        position = mark.end()
    return position
