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
