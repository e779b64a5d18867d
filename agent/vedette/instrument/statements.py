"""The verb of an SQL statement, which is all of it that may become a tag."""

from __future__ import annotations

import re
from functools import lru_cache

_BEFORE = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]+")
_SKIPPED = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(?P<quote>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=quote)\$|--[^\n]*|/\*.*?\*/|\(|\)"
    r"|[A-Za-z_]\w*",
    re.DOTALL,
)
_MAIN = frozenset({"select", "insert", "update", "delete", "merge", "values"})
_LOOKED_AT = 2_000  # characters: the verb behind longer WITH clauses is `with`


def verb(statement: str) -> str:
    """The statement's verb in lower case; of `WITH … UPDATE` the main one. Empty if there is none."""
    return _verb(statement[:_LOOKED_AT])


@lru_cache(maxsize=1024)
def _verb(statement: str) -> str:
    before = _BEFORE.match(statement)
    found = _WORD.match(statement, before.end() if before else 0)
    if found is None:
        return ""
    word = found[0].lower()
    return word if word != "with" else _main_verb(statement, found.end())


def _main_verb(statement: str, start: int) -> str:
    """The first verb outside all parentheses."""
    depth = 0
    for token in _SKIPPED.finditer(statement, start):
        text = token[0]
        if text == "(":
            depth += 1
        elif text == ")":
            depth -= 1
        elif depth == 0 and text.lower() in _MAIN:
            return text.lower()
    return "with"
