"""Floor 2: our own sentence for every mistake that the YAML parser finds.

The parser's texts quote the file and may hold a password, so only their fixed words are looked at.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from vedette.config.problems import QUOTE

_RISKY: Final = re.compile(
    r"""(?:^|:|-|,|\[|\{)[ ]*(?:[^\s'"#{}\[\],:]+:[ ]+)?   # where a value may begin
        ([^'"\s#][^'"#]*\$\{|\$\{|\{\{|[%@`\[*&!|>{])""",
    re.VERBOSE,
)
_FIXED: Final[tuple[tuple[str, str, str], ...]] = (
    # (fixed words of the parser's context and problem, our sentence, our hint)
    ("unknown escape", "a backslash in double quotes that is no escape", "use single quotes"),
    ("hexadecimal", "a backslash in double quotes that is no escape", "use single quotes"),
    ("while scanning an alias", "a value cannot start with '*'", QUOTE),
    ("while scanning an anchor", "a value cannot start with '&'", QUOTE),
    ("while scanning a tag", "a value cannot start with '!'", QUOTE),
    ("while parsing a tag", "a value cannot start with '!'", QUOTE),
    ("undefined tag handle", "a value cannot start with '!'", QUOTE),
    ("while scanning a block scalar", "a text after '|' or '>' must begin on the next line", f"else {QUOTE}"),
    ("while scanning a directive", "a line cannot start with '%'", QUOTE),
    ("directive", "a line cannot start with '%'", QUOTE),
    ("incompatible YAML document", "a line cannot start with '%'", QUOTE),
    ("sequence entries are not allowed", "a list item ('- ') cannot stand here", "begin it on a line of its own"),
    ("expected '<document start>'", "does not belong to what stands above", "mind the indentation"),
)


def syntax_problem(error: Exception, text: str) -> tuple[int, str, str]:
    """Line, message and hint for an exception of PyYAML's Python parser; neither repeats anything from the file."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return 0, "holds an escape that is no character", ""
    problem_mark: Any = error.problem_mark
    context_mark: Any = error.context_mark or problem_mark
    words = f"{error.context or ''} {error.problem or ''}"
    here = _line_at(text, problem_mark)
    if _tab_at(here, problem_mark.column):
        return problem_mark.line + 1, "a tab where only spaces may stand", "indent with spaces"
    if "quoted scalar" in words and ("end of stream" in words or "document separator" in words):
        return context_mark.line + 1, "a quote is opened and never closed", ""
    if "expected '<document start>'" in words and text.lstrip().startswith("%"):
        return text[: text.index("%")].count("\n") + 1, "a line cannot start with '%'", QUOTE
    for fixed, message, hint in _FIXED:
        if fixed in words:
            return problem_mark.line + 1, message, hint
    if "cannot start any token" in words:
        character = here[problem_mark.column : problem_mark.column + 1]
        return problem_mark.line + 1, f"a value cannot start with {character!r}", QUOTE
    if "while parsing a flow" in words:
        return _flow(text, problem_mark, context_mark)
    return _block(words, here, text, problem_mark, context_mark)


def _flow(text: str, problem_mark: Any, context_mark: Any) -> tuple[int, str, str]:
    bracket = text[context_mark.index : context_mark.index + 1]
    if not bracket:  # the text ends where a value was expected
        return context_mark.line + 1, "a bracket is opened and never closed", f"if it is text, {QUOTE}"
    if bracket not in "{[":
        return problem_mark.line + 1, "a bracket or comma that does not fit", f"if it is text, {QUOTE}"
    close = "}" if bracket == "{" else "]"
    here = text[problem_mark.index - problem_mark.column : problem_mark.index + 1]
    if "${" in here or "{{" in here:
        return problem_mark.line + 1, "braces in unquoted text", QUOTE
    if _RISKY.search(_line_at(text, context_mark)[: context_mark.column + 1]):
        hint = f"close it with '{close}', or if it is text, {QUOTE}"
        return context_mark.line + 1, f"'{bracket}' is opened and not closed properly", hint
    return problem_mark.line + 1, f"expected ',' or '{close}'", f"if it is text, {QUOTE}"


def _block(words: str, here: str, text: str, problem_mark: Any, context_mark: Any) -> tuple[int, str, str]:
    line: int = problem_mark.line + 1
    before = here[: problem_mark.column]
    if "could not find expected ':'" in words:
        start = _line_at(text, context_mark)
        return context_mark.line + 1, "expected 'key: value'", "put a space after ':'" if ":" in start else ""
    if "mapping values are not allowed" in words:
        if ": " in before:
            return line, "a second ':' in unquoted text", QUOTE
        return line, "is indented deeper than the line above allows", "mind the indentation"
    if before.strip(" -") and "expected <block end>" in words:
        hint = QUOTE if _RISKY.search(here) else "put quotes around all of it"
        return line, "text follows where the value has ended", hint
    if "expected <block end>" in words or "mapping keys are not allowed" in words:
        return line, "does not fit the indentation of the lines above", "mind the indentation"
    return line, "is not YAML", QUOTE if _RISKY.search(here) else "mind quotes and indentation"


def _line_at(text: str, mark: Any) -> str:
    start = mark.index - mark.column
    end = text.find("\n", start)
    return text[start : end if end >= 0 else len(text)]


def _tab_at(line: str, column: int) -> bool:
    indent = line[: len(line) - len(line.lstrip())]
    return "\t" in indent or line[column : column + 1] == "\t"
