"""Floor 6: the command line. Each command imports what it needs, so that none pays for another."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vedette import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OK, WARNING, CRITICAL, BAD_CONFIGURATION, USAGE = 0, 1, 2, 3, 64
TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits(3): the same configuration may do a moment later."""
INTERRUPTED = 130

_STATUS_EXITS = (
    "Exit status: 0 all is well, 1 a warning, 2 something is critical, failing or stuck, or no agent answers."
)
_RELOAD_EXITS = "Exit status: 0 done, 2 no agent answers, 3 something in the configuration is wrong."
_CHECK_EXITS = "Exit status: 0 all is well, 1 a warning, 2 critical or failed, 3 a problem in the configuration."

_PLAN_EXITS = (
    "Exit status: 0 all is well, 1 a budget is exceeded, 2 something could not be measured, "
    "3 a problem in the configuration."
)

_NOTIFY_EXITS = "Exit status: 0 it arrived, 2 it did not, 3 a problem in the configuration."
_ALERTS_EXITS = "Exit status: 0 nothing fires, 1 warnings fire, 2 something worse fires, or no agent answers."
_TEST_EXITS = "Exit status: 0 all comes as expected, 2 something does not, 3 a file is wrong."

_SYNC_EXITS = (
    "Exit status: 0 done, 1 --dry-run found differences, 2 Datadog could not be asked or refused something, "
    "3 a problem in the files."
)
_EXPORT_EXITS = "Exit status: 0 written, 1 there is no dashboard to write, 3 a problem in the files."

_IMPORT_EXITS = "Exit status: 0 all of it, 1 something could not be translated or is there already."
_NEW_EXITS = "Exit status: 0 written, 1 the name or the folder does not do."
_DOCTOR_EXITS = "Exit status: 0 all is well, 1 warnings, 2 something lacks, 3 a problem in the configuration."


def parser() -> argparse.ArgumentParser:
    """The whole command line, for running it and for documenting it."""
    top = _Parser(
        prog="vedette",
        description="A lightweight monitoring agent: drop a YAML file into conf.d and a check runs.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"vedette {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    run = _command(commands, "run", "run the agent until it is stopped", conf=True)
    run.add_argument("--once", action="store_true", help="run every instance one time, flush and end")
    run.add_argument("--for", metavar="TIME", dest="duration", help="end by itself after this time, such as 30s")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="overrides agent.yaml")
    run.add_argument("--log-format", choices=("text", "json"), help="overrides agent.yaml")

    check = _command(commands, "check", "run one check now and show what it finds", conf=True, epilog=_CHECK_EXITS)
    check.add_argument("name", metavar="NAME", help="name of the check, such as redis")
    check.add_argument("--instance", metavar="N", help="only this instance (default: all of the check)")
    check.add_argument("--runs", type=_positive, default=1, metavar="N", help="run N times, a second apart (default 1)")
    check.add_argument("--json", action="store_true", help="print the samples of all runs as one JSON array")

    validate = _command(commands, "validate", "say everything that is wrong in the configuration", conf=True)
    validate.add_argument("--secrets", action="store_true", help="an unset secret is an error, not a warning")

    plan = _command(commands, "plan", "say what a configuration will emit and cost", conf=True, epilog=_PLAN_EXITS)
    plan.add_argument("--runs", type=_positive, default=2, metavar="N", help="dry runs, a second apart (default 2)")
    plan.add_argument("--acting", action="store_true", help="also run what changes something at its target")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")

    doctor = _command(
        commands, "doctor", "say what each part needs and lacks, and what mends it", conf=True, epilog=_DOCTOR_EXITS
    )
    doctor.add_argument("instance", metavar="INSTANCE", nargs="?", help="only this instance, or all of this check")
    doctor.add_argument("--json", action="store_true", help="print what was found as JSON")

    bundle = _command(commands, "bundle", "write an archive for whoever is asked for help, secrets masked", conf=True)
    bundle.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="a new file (default: vedette-bundle-DATE.tar.gz)"
    )
    bundle.add_argument("--log", metavar="FILE", type=Path, help="the agent's log, whose last lines go in too")

    notify = _command(
        commands, "notify", "list the notifiers, or send a test alert through one", conf=True, epilog=_NOTIFY_EXITS
    )
    notify.add_argument("action", metavar="test", nargs="?", choices=("test",), help="send a test alert")
    notify.add_argument("name", metavar="NAME", nargs="?", help="name of the notifier to test")
    notify.add_argument("--resolve", action="store_true", help="tell it that the test alert is over")

    _datadog(commands)
    _operate(commands)

    _alerts(commands)

    moving = _command(commands, "import", "translate another agent's configuration", epilog=_IMPORT_EXITS)
    moving.add_argument("agent", choices=("datadog",), help="whose it is")
    moving.add_argument("folder", metavar="DIR", type=Path, help="its folder, such as /etc/datadog-agent/conf.d")
    moving.add_argument("--to", metavar="DIR", type=Path, help="folder to write files to (default: print them)")
    new = _command(commands, "new-plugin", "write the package of a new check, with tests that pass", epilog=_NEW_EXITS)
    new.add_argument("name", metavar="NAME", help="name of the check, such as queue_depth")
    new.add_argument(
        "--in", metavar="DIR", dest="parent", type=Path, default=Path(), help="folder to write it in (default: .)"
    )
    _command(commands, "plugins", "list the installed checks, sinks, fleet engines, notifiers and secret resolvers")
    example = _command(commands, "example", "print a complete example file of a check or sink")
    example.add_argument("name", metavar="NAME", help="name of the check or sink")
    schema = _command(commands, "schema", "print the JSON Schema of a check's file, for editors")
    schema.add_argument("name", metavar="NAME", help="name of the check or sink")
    return top


def _datadog(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Monitors and dashboards as code."""
    top = _command(commands, "datadog", "keep monitors and dashboards as code, at Datadog or in Grafana")
    actions: argparse._SubParsersAction[_Parser] = top.add_subparsers(
        title="actions", metavar="ACTION", dest="action", required=True, parser_class=_Parser
    )
    sync = _command(
        actions, "sync", "create and change monitors and dashboards as files say", conf=True, epilog=_SYNC_EXITS
    )
    sync.add_argument("--dry-run", action="store_true", help="only show what would change")
    sync.add_argument("--prune", action="store_true", help="remove those of ours that no file says any more")
    export = _command(actions, "export", "write dashboards as JSON for Grafana", conf=True, epilog=_EXPORT_EXITS)
    export.add_argument("--grafana", metavar="DIR", type=Path, required=True, help="folder to write to")
    export.add_argument("--honor-labels", action="store_true", help="Prometheus scrapes with honor_labels: true")
    for action in (sync, export):
        action.add_argument(
            "--file",
            metavar="PATH",
            type=Path,
            action="append",
            help="YAML file or folder, repeatable (default: the folder `datadog` beside the configuration folder)",
        )
    listed = _command(actions, "list", "list the ready-made ones, or print the YAML of some")
    listed.add_argument("name", metavar="NAME", nargs="?", help="such as postgres")


def _operate(commands: argparse._SubParsersAction[_Parser]) -> None:
    """The commands that ask something of a running agent."""
    status = _command(commands, "status", "say how the running agent is", conf=True, epilog=_STATUS_EXITS)
    status.add_argument("instance", metavar="INSTANCE", nargs="?", help="only this one, such as redis/cache")
    status.add_argument("--json", action="store_true", help="print it as one JSON object")

    reload = _command(
        commands, "reload", "have the running agent read its configuration again", conf=True, epilog=_RELOAD_EXITS
    )
    reload.add_argument("--check", action="store_true", help="only say what would change")

    run_now = _command(commands, "run-now", "have the running agent run an instance at once", conf=True)
    mute = _command(commands, "mute", "keep an instance out of the overall status and of alerts", conf=True)
    unmute = _command(commands, "unmute", "end the mute of an instance", conf=True)
    for command in (run_now, mute, unmute):
        command.add_argument("instance", metavar="INSTANCE", help="such as redis/cache")
    mute.add_argument("--for", metavar="TIME", dest="duration", help="for so long, such as 30m (default: 1h)")


def _alerts(commands: argparse._SubParsersAction[_Parser]) -> None:
    """The commands about alerts."""
    text = "list the alert rules and what fires; try and explain them"
    alerts = _command(commands, "alerts", text, conf=True, epilog=_ALERTS_EXITS)
    alerts.add_argument("--json", action="store_true", help="print it as JSON")
    actions = alerts.add_subparsers(title="more", metavar="WHAT", dest="action", parser_class=_Parser)
    explain = _command(actions, "explain", "say what a rule sees now")
    explain.add_argument("name", metavar="NAME", help="name of the rule")
    _conf(explain, default=argparse.SUPPRESS)  # else it would undo what stands before `explain`
    explain.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print it as JSON")
    end = _command(actions, "end", "say that an alert is over of which nothing comes any more")
    end.add_argument("name", metavar="NAME", help="name of the rule, or of the rule with its group")
    _conf(end, default=argparse.SUPPRESS)
    test = _command(actions, "test", "run rules over given series and compare what fires", epilog=_TEST_EXITS)
    test.add_argument("files", metavar="FILE", nargs="+", help="YAML with rules, series and what should fire")
    test.add_argument("-v", "--verbose", action="store_true", help="print all that is told")

    silence = _command(commands, "silence", "tell nobody of an alert for a while", conf=True)
    silence.add_argument("what", metavar="WHAT", nargs="*", help="names of rules, and tags such as queue:payments")
    silence.add_argument("--for", metavar="TIME", dest="duration", default="1h", help="for so long (default: 1h)")
    silence.add_argument("--comment", metavar="TEXT", default="", help="why")
    silence.add_argument("--end", metavar="N", type=_positive, help="end this silence instead")
    ack = _command(commands, "ack", "say that somebody works on an alert: no more reminders", conf=True)
    ack.add_argument("name", metavar="NAME", help="name of the rule, or of the rule with its group")


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    text: str,
    *,
    conf: bool = False,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog, allow_abbrev=False
    )
    if conf:
        _conf(made)
    return made


def _conf(command: argparse.ArgumentParser, default: str | None = None) -> None:
    text = "configuration folder (default: ./conf.d, else /etc/vedette/conf.d)"
    command.add_argument("--conf", metavar="DIR", type=Path, default=default, help=text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """Ends with a status of its own on a wrong command line: argparse's 2 means "critical" to `vedette check`."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the process's exit status. No traceback reaches the user."""
    options = parser().parse_args(arguments)
    if arguments is None:  # else it is a guest in somebody's process
        _guard()
    try:
        status = _handler(options.command)(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `vedette … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if os.environ.get("VEDETTE_TRACEBACK"):
            raise
        return _complain(error)


def _guard() -> None:
    from vedette.strays import guard

    guard()


def _complain(error: Exception) -> int:
    from vedette.errors import ConfigError, VedetteError

    if isinstance(error, ConfigError):
        print(error, file=sys.stderr)
        return BAD_CONFIGURATION
    if isinstance(error, VedetteError):
        print(f"vedette: {error}", file=sys.stderr)
        return WARNING
    if isinstance(error, OSError) and error.strerror:
        print(f"vedette: {error.strerror}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return CRITICAL
    kind = type(error).__name__
    print(f"vedette: a fault in vedette itself: {kind}; VEDETTE_TRACEBACK=1 shows where", file=sys.stderr)
    return CRITICAL


def _handler(command: str) -> Callable[[argparse.Namespace], int]:
    if command == "run":
        from vedette.cli.run import run

        return run
    if command == "check":
        from vedette.cli.check import check

        return check
    if command == "plan":
        from vedette.cli.plan import plan

        return plan
    if command == "doctor":
        from vedette.cli.doctor import doctor

        return doctor
    if command == "notify":
        from vedette.cli.notify import notify

        return notify
    if command == "datadog":
        from vedette.cli.datadog import datadog

        return datadog
    if command == "bundle":
        from vedette.cli.bundle import bundle

        return bundle
    if command in ("alerts", "silence", "ack"):
        from vedette.cli import alerts

        chosen: Callable[[argparse.Namespace], int] = getattr(alerts, command)
        return chosen
    if command in ("status", "reload", "run-now", "mute", "unmute"):
        from vedette.cli import operate

        asked: Callable[[argparse.Namespace], int] = getattr(operate, command.replace("-", "_"))
        return asked
    if command == "import":
        from vedette.cli.moving import import_

        return import_
    if command == "new-plugin":
        from vedette.cli.new import new_plugin

        return new_plugin
    from vedette.cli import show

    handlers = {"validate": show.validate, "plugins": show.plugins, "example": show.example, "schema": show.schema}
    return handlers[command]
