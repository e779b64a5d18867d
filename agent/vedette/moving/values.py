"""Floor 5: values of Datadog's options in our words."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

_Item = TypeVar("_Item")


class Partly(ValueError):
    """A value of which some could not be said here.

    Args:
        value: the rest.
        lost: what could not, each with its place within the option.
    """

    def __init__(self, value: Any, lost: Iterable[str]) -> None:
        super().__init__()
        self.value = value
        self.lost = tuple(lost)


def partly(value: list[_Item], lost: list[str]) -> list[_Item]:
    """The value, if nothing of it is lost.

    Raises:
        Partly: something is.
    """
    if lost:
        raise Partly(value, lost)
    return value


def seconds(value: Any) -> str:
    """A number of seconds as a file has it, with every figure."""
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise ValueError("is not a number of seconds above 0")
    return f"{Decimal(repr(number)):f}".removesuffix(".0") + "s"


def opposite(value: Any) -> bool:
    """For an option that means the contrary."""
    return not truth(value)


def truth(value: Any) -> bool:
    """True and false as YAML and people have them."""
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "1", "on", "false", "no", "0", "off"):
        return str(value).lower() in ("true", "yes", "1", "on")
    raise ValueError("is neither true nor false")


def listed(value: Any) -> list[str]:
    """What Datadog writes with commas."""
    return [one.strip() for one in str(value).split(",") if one.strip()]


def names(value: Any) -> list[str]:
    """Names of programs; `All` meant every process there is."""
    found = [str(one) for one in value] if isinstance(value, list) else [str(value)]
    if "All" in found:
        raise ValueError("'All' processes: `search_string: [.]` with `exact_match: false` finds those of users")
    return found


def sslmode(value: Any) -> str:
    """`ssl` of Datadog's postgres check: a mode of libpq, or true and false."""
    if isinstance(value, bool) or str(value).lower() in ("true", "false"):
        return "require" if truth(value) else "disable"
    return str(value).replace("_", "-")


def text(value: Any) -> str:
    """A name or a password that YAML read as a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("is not text")
    return value


_RELATION: Final = frozenset(("relation_name", "relation_regex", "schemas"))


def relations(value: Any) -> list[dict[str, Any]]:
    """Tables by name, pattern and schemas."""
    made: list[dict[str, Any]] = []
    lost: list[str] = []
    for number, one in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(one, str):
            made.append({"name": one})
            continue
        pattern = one.get("relation_regex")
        named: dict[str, Any] = {"name": one["relation_name"]} if "relation_name" in one else {}
        named |= {"regex": pattern} if pattern not in (None, ".*") else {}
        made += [{**named, "schema": schema} for schema in one.get("schemas") or ()] or [named]
        lost += [f"[{number}].{key}: there is nothing like it here" for key in one if key not in _RELATION]
    return partly(made, lost)


def queries(value: Any) -> list[dict[str, Any]]:
    """`custom_queries`: statements with columns. One that cannot be said here keeps no other one out."""
    made: list[dict[str, Any]] = []
    lost: list[str] = []
    given: list[dict[str, Any]] = value or []
    for number, one in enumerate(given):
        try:
            made.append(_query(one, number + 1))
        except ValueError as error:
            lost.append(f"[{number}]: {error}: left out")
            continue
        known = ("metric_prefix", "query", "columns", "collection_interval")
        lost += [f"[{number}].{key}: there is nothing like it in a query here" for key in one if key not in known]
    return partly(made, lost)


_COLUMNS: Final = {"gauge": "gauge", "count": "count", "monotonic_count": "counter", "rate": "rate", "tag": "tag"}


def _query(one: dict[str, Any], number: int) -> dict[str, Any]:
    prefix = str(one.get("metric_prefix", "postgresql"))
    if f"{prefix}.".startswith("postgresql."):
        raise ValueError("needs a metric_prefix, since names that begin with 'postgresql.' are the check's own")
    columns = []
    for column in one.get("columns") or ():
        kind = _COLUMNS.get(str(column.get("type", "gauge")))
        if kind is None:
            raise ValueError(f"has a column of type {column.get('type')}, which there is none of")
        name = str(column["name"])
        columns.append({"name": name if kind == "tag" else f"{prefix}.{name}", "type": kind})
    made = {"name": f"{prefix} {number}", "sql": str(one["query"]).strip(), "columns": columns}
    return made | ({"interval": seconds(one["collection_interval"])} if one.get("collection_interval") else {})


def status_codes(value: Any) -> list[str]:
    """`(1|2|3)\\d\\d` and the like, as classes and codes."""
    text = str(value).strip("^$")
    found = []
    for part in text.removeprefix("(").removesuffix(")").split("|") if "|" in text and "\\d" not in text else [text]:
        found += _codes(part)
    return found


def _codes(text: str) -> list[str]:
    if text.isdigit() and len(text) == 3:
        return [text]
    head = text.removesuffix("\\d\\d")
    digits = head.strip("()[]").replace("|", "").replace("-", "")
    if head != text and digits.isdigit() and (len(digits) == 1 or "|" in head or head.startswith("(")):
        return [f"{digit}xx" for digit in digits]
    raise ValueError("is a pattern; name the codes, such as [200, 3xx]")


def login(made: dict[str, Any], url: str, username: str, password: str) -> None:
    """Take the login out of an address, to where it belongs here."""
    parts = urlsplit(str(made.get(url, "")))
    if parts.username is None:
        return
    made[url] = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    for path, value in ((username, parts.username), (password, parts.password or "")):
        place = made
        *outer, last = path.split(".")
        for name in outer:
            place = place.setdefault(name, {})
        place.setdefault(last, unquote(value))
