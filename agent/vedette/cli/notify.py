"""`vedette notify`: the notifiers that there are, and a test alert through one of them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from vedette.alerts.keeping import Memory
from vedette.cli import BAD_CONFIGURATION, CRITICAL, OK, USAGE
from vedette.cli.common import conf_directory, print_problems, run_loop, unknown_plugin
from vedette.config import load
from vedette.errors import CheckError, Undelivered
from vedette.logs import set_up
from vedette.notifier import Alert, Evidence
from vedette.outbox import describe
from vedette.plugins import Registry
from vedette.state import state_directory

if TYPE_CHECKING:
    from argparse import Namespace

    from vedette.config import Configuration
    from vedette.notifier import Notifier, NotifierConfig

_VALUES = (99.2, 99.1, 99.3, 99.0, 98.8, 98.1, 97.4, 96.2, 95.1, 94.6)
_STEP = 30.0


def notify(options: Namespace) -> int:
    """List the notifiers, or send a test alert; 2 if it did not arrive."""
    if options.action is None and options.resolve:
        print("vedette notify: --resolve goes with `test NAME`", file=sys.stderr)
        return USAGE
    directory = conf_directory(options.conf)
    configuration = load(directory, Registry(), secrets="lazy" if options.action is None else "resolve", only="\0")
    if configuration.fatal:
        print_problems(configuration.problems)
        return BAD_CONFIGURATION
    if options.action is None:
        return _list(configuration)
    made = {config.name or plugin.name: (plugin, config) for plugin, config in configuration.notifiers}
    if options.name is None:
        print(f"vedette notify: test takes a NAME; there are: {', '.join(made) or 'none'}", file=sys.stderr)
        return USAGE
    if options.name not in made:
        if not made:
            print(f"{directory}/agent.yaml: there are no `notifiers:` in it", file=sys.stderr)
            return BAD_CONFIGURATION
        raise unknown_plugin(options.name, made, f"notifier of {directory}/agent.yaml")
    set_up(configuration.agent.log.model_copy(update={"level": "error"}), configuration.masker)
    return run_loop(_test(*made[options.name], configuration, resolve=options.resolve))


def _list(configuration: Configuration) -> int:
    from vedette.cli.tables import print_notifiers

    if not configuration.notifiers:
        print(f"{configuration.directory}/agent.yaml has no `notifiers:`")
        return OK
    names = [config.name or plugin.name for plugin, config in configuration.notifiers]
    rows = []
    for name, (plugin, _) in zip(names, configuration.notifiers, strict=True):
        told = [
            one.name or ", ".join(f"{key}={'|'.join(values)}" for key, values in one.match.items()) or "every alert"
            for one in configuration.agent.routes
            if name in one.notify
        ]
        without = "" if configuration.agent.routes else "every alert"
        rows.append((name, plugin.name, "; ".join(told) or without or "only rules that name it"))
    print_notifiers(rows)
    return OK


async def _test(
    plugin: type[Notifier[Any]], config: NotifierConfig, configuration: Configuration, *, resolve: bool
) -> int:
    name, host = config.name or plugin.name, configuration.agent.hostname or socket.gethostname()
    notifier = plugin(config)
    folder = state_directory(configuration.agent.state_directory, os.environ) / "notify-test"
    notifier.memory = Memory(folder / f"{name}-{plugin.name}.json")  # not the agent's, which may be running
    notifier.host = host
    began = time.monotonic()
    try:
        async with asyncio.timeout(config.timeout + 1):
            await notifier.open()
            answer = await notifier.send(test_alert(name, host, resolve=resolve))
    except TimeoutError:
        return _not_delivered(name, f"no answer within {config.timeout:g}s", "see its address, and the way there")
    except (Undelivered, CheckError) as error:
        return _not_delivered(name, configuration.masker(error.message), configuration.masker(error.hint))
    except Exception as error:
        return _not_delivered(name, configuration.masker(describe(error)), "it is a fault of the plugin")
    finally:
        try:
            await notifier.close()
        except Exception as error:
            notifier.log.debug("closing failed", exc_info=error)
    took = (time.monotonic() - began) * 1000
    said = configuration.masker(answer) if answer else "it took it"
    print(f"{name} ({plugin.name}): {'resolved' if resolve else 'sent'} in {took:.0f} ms: {said}")
    return OK


def _not_delivered(name: str, what: str, hint: str) -> int:
    print(f"vedette notify: {name}: {what}{f'; {hint}' if hint else ''}", file=sys.stderr)
    return CRITICAL


def test_alert(name: str, host: str, *, resolve: bool) -> Alert:
    """The alert that is sent as a test: its key is the same each time on this host."""
    now = time.time()
    values = tuple((now - _STEP * (len(_VALUES) - place), value) for place, value in enumerate(_VALUES))
    evidence = Evidence(
        condition="avg(test.success_rate) over 5m < 97",
        values=values,
        unit="%",
        threshold=97.0,
        step="this is where a failing step of a flow would stand",
        error="this is where a check's error would stand",
    )
    return Alert(
        rule="vedette test alert",
        key=f"vedette/test/{host}/{name}",
        state="resolved" if resolve else "firing",
        severity="warning",
        summary=f"Somebody ran `vedette notify test {name}` on {host}: nothing is wrong.",
        since=now - 120.0,
        at=now,
        labels={"test": "true", "host": host},
        evidence=evidence,
    )
