"""`vedette alerts`, `silence` and `ack`: what a person asks about alerts, and rules tried over given series."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vedette.cli import BAD_CONFIGURATION, CRITICAL, OK, USAGE, WARNING
from vedette.cli.common import print_problems
from vedette.cli.operate import with_agent
from vedette.units import format_duration, parse_duration

if TYPE_CHECKING:
    from argparse import Namespace

    from vedette.rules import Rulebook

_BAD = frozenset({"firing"})


def alerts(options: Namespace) -> int:
    """List the rules with where they stand, explain or end one, or try rules over given series."""
    if options.action == "test":
        return _test(options)
    if options.action == "explain":
        return with_agent(options, {"op": "explain", "name": options.name}, _show_explained)
    if options.action == "end":
        return with_agent(options, {"op": "end", "name": options.name}, _show_ended)
    return with_agent(options, {"op": "alerts"}, _show_list)


def silence(options: Namespace) -> int:
    """Tell nobody of something for a while, or end that."""
    if options.end is not None:
        request: dict[str, Any] = {"op": "unsilence", "id": options.end}
        return with_agent(options, request, lambda _, answer: _print(f"silence {answer['id']} has ended"))
    if not options.what:
        print("vedette silence: say what: names of rules, or tags such as queue:payments", file=sys.stderr)
        return USAGE
    try:
        seconds = parse_duration(options.duration)
    except ValueError as error:
        print(f"vedette silence: --for {error}", file=sys.stderr)
        return USAGE
    request = {"op": "silence", "what": options.what, "for": seconds, "comment": options.comment}
    return with_agent(options, request, _show_silence)


def ack(options: Namespace) -> int:
    """Say that somebody works on an alert."""
    return with_agent(options, {"op": "ack", "name": options.name}, _show_acknowledged)


def _print(text: str) -> int:
    print(text)
    return OK


def _show_silence(_: Namespace, answer: dict[str, Any]) -> int:
    what = " ".join([*answer["rules"], *answer["tags"]])
    length = format_duration(answer["until"] - answer["created"])
    return _print(f"silence {answer['id']}: nobody is told of {what} for {length}")


def _show_acknowledged(_: Namespace, answer: dict[str, Any]) -> int:
    for key in answer["acknowledged"]:
        print(f"{key} is acknowledged: no reminders until it is over")
    return OK


def _show_ended(_: Namespace, answer: dict[str, Any]) -> int:
    for key in answer["ended"]:
        print(f"{key} has ended; it fires again if its condition holds at the next run")
    return OK


def _show_list(options: Namespace, answer: dict[str, Any]) -> int:
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        from vedette.cli.alerttables import print_alerts

        print_alerts(answer)
    firing = [row for row in answer["alerts"] if row["state"] in ("firing", "acknowledged")]
    return CRITICAL if any(row["severity"] in ("critical", "error") for row in firing) else WARNING if firing else OK


def _show_explained(options: Namespace, answer: dict[str, Any]) -> int:
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        from vedette.cli.alerttables import print_explained

        print_explained(answer)
    return OK


def _test(options: Namespace) -> int:
    """Try rules over given series; 2 if something does not come as expected, 3 if a file is wrong."""
    import logging

    from vedette.alerts.replay import line, replay

    logging.getLogger("vedette.alerts").setLevel(logging.CRITICAL)  # what is told is compared, not logged
    status = OK
    for path in map(Path, options.files):
        outcome = replay(path, _rules_of)
        print_problems(outcome.problems)
        for failure in outcome.failures:
            print(f"{path}: {failure}")
        if outcome.problems:
            status = BAD_CONFIGURATION
            continue
        if outcome.failures:
            status = max(status, CRITICAL)
        if outcome.failures or options.verbose:
            for seconds, alert in outcome.told:
                print(f"{path}: told: {line(seconds, alert)}: {alert.summary}")
        if not outcome.failures:
            print(f"{path}: ok, {outcome.checked} expectation{'' if outcome.checked == 1 else 's'}")
    return status


def _rules_of(directory: Path) -> Rulebook | None:
    from vedette.config import load
    from vedette.errors import ConfigError
    from vedette.plugins import Registry

    configuration = load(directory, Registry(), secrets="lazy")
    errors = [one for one in configuration.problems if one.severity == "error"]
    if errors:
        raise ConfigError(errors)
    return configuration.rulebook
