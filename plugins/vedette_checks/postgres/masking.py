"""Takes the values out of SQL, so that a query can be shown without what its users typed."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
  | (?P<value>
        \$(?P<tag>[^\W\d]\w*)\$ .*? (?:\$(?P=tag)\$|\Z)    # $tag$…$tag$; one that was cut off goes to the end
      | \$\$ .*? (?:\$\$|\Z)
      | \bE'(?: [^'\\] | \\. | '' )*(?:'|\Z)                # escape strings
      | (?:\b[BXN]|\bU&)?'(?: [^'] | '' )*(?:'|\Z)
      | (?<![\w$.])[+-]?\d[\w.]*                            # not the 1 of $1 or of table1
    )
  | (?P<name> "(?: [^"] | "" )*(?:"|\Z) )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_SPACE = re.compile(r"\s+")


def mask_sql(query: str, longest: int = 200) -> str:
    """The query with `?` for each string and number, on one line, without comments.

    Lexical rules: PostgreSQL documentation, 4.1 Lexical Structure. A string that the server cut off
    (`track_activity_query_size`) is masked to the end.

    Args:
        query: SQL text.
        longest: characters to keep.
    """
    text = _SPACE.sub(" ", _TOKEN.sub(_replacement, query)).strip()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _replacement(match: re.Match[str]) -> str:
    if match["comment"] is not None:
        return " "
    return "?" if match["value"] is not None else match[0]
