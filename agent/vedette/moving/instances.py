"""Floor 5: one instance of a Datadog check in our words; nothing rather than something that means another thing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from vedette.moving.translation import Move, Translation
from vedette.moving.values import Partly, seconds, truth
from vedette.moving.words import Words

LEFT_OUT: Final = "the instance is left out"
COMMON: Final = frozenset(("min_collection_interval", "tags", "service", "name"))
"""Options that every check of Datadog has."""
_SHAPE: Final = "is not of the shape that Datadog documents"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]+")


class _Refused(Exception):
    """The instance would mean something else here; the notes say why."""


def translated(translation: Translation, given: dict[str, Any], where: str, words: Words) -> dict[str, Any] | None:
    """The options here without a name, or None: the notes say why."""
    if translation.aims and not any(given.get(aim) not in (None, "", []) for aim in translation.aims):
        words.say(where, f"has none of {', '.join(translation.aims)}: {LEFT_OUT}")
        return None
    made: dict[str, Any] = {}
    try:
        for key, value in given.items():
            if key in translation.options:
                _take(made, translation.options[key], value, f"{where}.{key}", words)
            elif key not in COMMON and key not in translation.more:
                _judge(translation, key, value, where, words)
        _around(translation, made, given, where, words)
        _say_all(translation.settle(made, given), where, words)
    except _Refused:
        return None
    except ValueError as error:
        words.say(where, f"{error}: {LEFT_OUT}")
        return None
    except (TypeError, KeyError, AttributeError, RecursionError):
        words.say(where, f"{_SHAPE}: {LEFT_OUT}")
        return None
    return made


def _take(made: dict[str, Any], move: Move, value: Any, where: str, words: Words) -> None:
    """Put an option in its place. One that decides what is watched, and what is right, is not left out alone."""
    try:
        value = move.how(words.read(value, where))
    except Partly as some:
        _say_all(some.lost, where, words)
        if not some.value:
            return
        value = some.value
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) and type(error) is ValueError else _SHAPE
        words.say(where, why if move.minor else f"{why}: {LEFT_OUT}")
        if move.minor:
            return
        raise _Refused from None
    *outer, last = move.to.split(".")
    for name in outer:
        made = made.setdefault(name, {})
    made[last] = value


def _say_all(lost: Iterable[str], where: str, words: Words) -> None:
    for one in lost:
        place, _, what = one.partition(": ")
        words.say(where + place, what)


def _judge(translation: Translation, key: str, value: Any, where: str, words: Words) -> None:
    """Say what an option without a counterpart asks for, unless it is so here anyway."""
    missing = f"there is nothing like it in check {translation.check}"
    if key in translation.needed:
        if not _same(value, translation.needed[key]):
            words.say(f"{where}.{key}", f"{missing}: {LEFT_OUT}")
            raise _Refused
    elif key not in translation.idle or not _same(value, translation.idle[key]):
        words.say(f"{where}.{key}", missing)


def _same(value: Any, here: Any) -> bool:
    if here is ... or value == here:
        return True
    try:
        return isinstance(here, bool) and truth(value) == here
    except ValueError:
        return False


def _around(translation: Translation, made: dict[str, Any], given: dict[str, Any], where: str, words: Words) -> None:
    """What every check has: interval and tags. An instance that is for several of Datadog's checks takes none's."""
    own = {"interval": interval(given, where, words), "tags": words.tags(given, where)}
    for key, value in own.items():
        if value and not translation.one:
            made[key] = value
        elif value and value != "15s":
            words.say(f"{where}: {key}", f"check {translation.check} is one for all its parts, so it is not written")


def interval(given: dict[str, Any], where: str, words: Words) -> str | None:
    """`min_collection_interval`; 0 is Datadog's word for its default, which is ours."""
    value = given.get("min_collection_interval")
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    try:
        return seconds(words.read(value, f"{where}.min_collection_interval"))
    except ValueError as error:
        words.say(f"{where}.min_collection_interval", f"{error}: left out")
        return None


def named(called: tuple[str, ...], given: dict[str, Any], otherwise: str) -> str:
    """A name for an instance, from the first of these options that it has."""
    for option in called:
        if isinstance(given.get(option), str | int):
            text = str(given[option])
            place = urlsplit(text).netloc.rpartition("@")[2] if "://" in text else text
            port = f"-{given['port']}" if option == "host" and "port" in given else ""
            return _NOT_IN_NAMES.sub("-", place + port).strip("-") or otherwise
    return otherwise


def unused(name: str, taken: set[Any]) -> str:
    """The name, or with a number if another has it."""
    number, made = 2, name
    while made in taken:
        number, made = number + 1, f"{name}-{number}"
    return made
