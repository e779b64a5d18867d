"""Runs one check of `datadog-checks-base` in a process of its own, under any Python that has that package.

A script of its own, which needs nothing of vedette: the agent starts it with two inherited descriptors, a socket that
carries JSON lines both ways and the leash, a pipe that nobody writes to. It offers the modules that the Datadog Agent
offers to checks (`aggregator`, `datadog_agent`, …) and says what the check submits.

Source: rtloader's builtins in DataDog/datadog-agent, and the stubs of DataDog/integrations-core.
"""

from __future__ import annotations

import _thread
import ctypes
import fcntl
import importlib
import importlib.util
import inspect
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

EXHAUSTED = 71
"""Exit status of a process that had no memory left."""
_dumps, _loads = json.dumps, json.loads  # checks replace such things for their own ends
_now, _clock, _sleep = time.time, time.monotonic, time.sleep
_PORTION = 64 << 10
"""Characters of submissions that go in one message."""
_PACE = 0.5
"""Seconds after which what was submitted is on its way, however little: a run that is killed keeps it."""
_STACK = 256 << 10
_LOOK_EACH = 10.0
"""Seconds between two looks at what the check left running."""
_LONGEST_ENTRY = 4 << 20
"""Characters of one submission; a longer one is lost."""
_MOST_WAITING = 64 << 20
"""Characters of submissions between two runs that are kept."""
_LONGEST_TEXT = 100_000
_PR_SET_PDEATHSIG = 1
_KINDS = ("GAUGE", "RATE", "COUNT", "MONOTONIC_COUNT", "COUNTER", "HISTOGRAM", "HISTORATE")
_IDLE = ("set_check_metadata", "set_external_tags", "emit_agent_telemetry", "report_issue", "resolve_issue")
_BELOW = "datadog_checks."
_TRACEBACK = "Traceback (most recent call last):"


class Refusal(Exception):
    """The check cannot be made; the text says why, and the hint how to mend it."""

    def __init__(self, message: str, hint: str = "", trace: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.trace = trace


class Line:
    """The way to the agent. What is submitted between two runs waits for the next."""

    def __init__(self, pair: socket.socket) -> None:
        """Must be made before the check, which may replace what a thread is made of."""
        self._pair = pair
        self._commands = pair.makefile("r", encoding="utf-8")
        self._waiting: list[str] = []
        self._size = 0
        self._lock = threading.RLock()
        self._open = False
        self._lost = 0
        self._idle = _thread.allocate_lock()  # held between two runs
        self._idle.acquire()
        before = threading.stack_size(_STACK)  # of the check's memory_limit
        _thread.start_new_thread(self._keep_pace, ())
        threading.stack_size(before)

    def hear(self) -> dict[str, Any]:
        """The agent's next word; ends the process where the agent is gone."""
        text = self._commands.readline()
        if not text:
            _end(0)
        order: dict[str, Any] = _loads(text)
        return order

    def tell(self, **word: Any) -> None:
        """Say something."""
        self._send(_dumps(word, default=_text))

    def submit(self, *entry: Any) -> None:
        """Say what the check submitted."""
        text = _dumps(entry, default=_text)
        with self._lock:
            if len(text) > _LONGEST_ENTRY or self._size + len(text) > _MOST_WAITING:
                self._lost += 1
                return
            self._waiting.append(text)
            self._size += len(text)
            if self._open and (self._size >= _PORTION or entry[0] == "log"):
                self._flush()

    def begin(self) -> None:
        """A run begins."""
        with self._lock:
            self._open = True
            self._flush()
        self._idle.release()

    def end(self, **word: Any) -> None:
        """A run is over."""
        self._idle.acquire()
        with self._lock:
            self._open = False
            self._flush()
            lost, self._lost = self._lost, 0
        self.tell(done=dict(word, lost=lost))

    def cut_off(self) -> None:
        """In a fork of this process: it is not the one that speaks to the agent."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self._pair.fileno())
        os.close(null)
        self._lock = threading.RLock()  # the thread that may hold it is not here

    def _keep_pace(self) -> None:
        """While a run lasts, hand over what waits; in a thread of its own."""
        while True:
            with self._idle:
                pass
            _sleep(_PACE)
            try:
                with self._lock:
                    if self._open:
                        self._flush()
            except MemoryError:
                _end(EXHAUSTED)

    def _flush(self) -> None:
        """Hand over what waits, in portions that hold up nobody."""
        some, size = [], 0
        waiting, self._waiting, self._size = self._waiting, [], 0
        for number, text in enumerate(waiting, 1):
            some.append(text)
            size += len(text)
            if size >= _PORTION or number == len(waiting):
                self._send(f'{{"said": [{", ".join(some)}]}}')
                some, size = [], 0

    def _send(self, text: str) -> None:
        with self._lock:
            try:
                self._pair.sendall(text.encode("ascii") + b"\n")
            except OSError:
                _end(0)


def _text(value: Any) -> str:
    """Any value as text that any receiver takes, cut where it is very long."""
    if isinstance(value, (bytes, bytearray)):
        made = bytes(value).decode("utf-8", "replace")
    else:
        made = value if isinstance(value, str) else str(value)
    return made[:_LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple, set)):
        return [_text(one) for one in value]
    return value if isinstance(value, (int, float)) else _text(value)


def _texts(values: Any) -> list[str]:
    return [_text(value) for value in values or ()]


def _aggregator(line: Line) -> dict[str, Any]:
    """The module `aggregator`: what a check submits."""

    def submit_metric(
        check: Any, check_id: str, kind: int, name: str, value: float, tags: Any, hostname: str, first: bool = False
    ) -> None:
        line.submit("metric", kind, _text(name), float(value), _texts(tags), _text(hostname), bool(first), _now())

    def submit_service_check(
        check: Any, check_id: str, name: str, status: int, tags: Any, hostname: str, message: str
    ) -> None:
        line.submit("status", _text(name), int(status), _texts(tags), _text(hostname), _text(message))

    def submit_event(check: Any, check_id: str, event: dict[str, Any]) -> None:
        line.submit("event", {_text(key): _plain(value) for key, value in event.items() if value is not None})

    def submit_event_platform_event(check: Any, check_id: str, raw_event: Any, event_type: str) -> None:
        line.submit("platform", _text(event_type))

    def submit_histogram_bucket(
        check: Any,
        check_id: str,
        name: str,
        value: int,
        lower: float,
        upper: float,
        monotonic: bool,
        hostname: str,
        tags: Any,
        first: bool = False,
    ) -> None:
        bounds = (float(lower), float(upper), bool(monotonic))
        line.submit("bucket", _text(name), int(value), *bounds, _text(hostname), _texts(tags), bool(first))

    given = (submit_metric, submit_service_check, submit_event, submit_event_platform_event, submit_histogram_bucket)
    return {
        **{name: number for number, name in enumerate(_KINDS)},
        **{function.__name__: function for function in given},
        "submit_histogram_bucket_multi": submit_histogram_bucket,
    }


def _datadog_agent(line: Line, hello: dict[str, Any]) -> dict[str, Any]:
    """The module `datadog_agent`: what a check asks of its agent."""
    cache: dict[str, str] = dict(hello["cache"])
    options = {"log_level": hello["log_level"], "hostname": hello["hostname"], "logs_enabled": True}
    started = int(time.time())

    def log(message: str, level: int) -> None:
        head, _, trace = _text(message).partition(_TRACEBACK)
        text = head.partition(" | ")[2] or head  # the agent's log says itself which check it is
        last = trace.strip().rpartition("\n")[2].strip()
        line.submit("log", int(level), text.strip() + (f": {last}" if last else ""))
        if trace and hello["log_level"] == "DEBUG":
            line.submit("log", 10, _TRACEBACK + trace)

    def write_persistent_cache(key: str, value: str) -> None:
        cache[_text(key)] = _text(value)
        line.submit("cache", _text(key), _text(value))

    def send_log(data: str, check_id: str) -> None:
        line.submit("entry", _text(data))

    return {
        "log": log,
        "send_log": send_log,
        "write_persistent_cache": write_persistent_cache,
        "read_persistent_cache": lambda key: cache.get(_text(key), ""),
        "get_config": options.get,
        "get_hostname": lambda: hello["hostname"],
        "get_host_tags": lambda: "{}",
        "get_clustername": lambda: "",
        "get_version": lambda: "7.0.0",
        "get_process_start_time": lambda: started,
        "headers": lambda *_, **__: {"User-Agent": "Datadog Agent/7.0.0"},
        "obfuscate_sql": _obfuscated,
        "obfuscate_sql_exec_plan": lambda plan, normalize=False: plan,
        "obfuscate_mongodb_string": lambda command: command,
        "tracemalloc_enabled": lambda *_, **__: False,
        **dict.fromkeys(_IDLE, _nothing),
    }


def _nothing(*_: Any, **__: Any) -> None:
    """What the Datadog Agent does with it has no counterpart here."""


def _obfuscated(query: Any, options: str | None = None) -> str:
    """A statement without comments, texts and numbers."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", _text(query or ""), flags=re.S)
    text = re.sub(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b", "?", text)
    plain = re.sub(r"\s+", " ", text).strip()
    if options and json.loads(options).get("return_json_metadata"):
        return json.dumps({"query": plain, "metadata": {}})
    return plain


class SubprocessOutputEmptyError(Exception):
    """A command printed nothing."""


def _subprocess_output(command: list[str], raise_on_empty: bool = True, env: dict[str, str] | None = None) -> Any:
    done = subprocess.run(command, capture_output=True, env=env, check=False, stdin=subprocess.DEVNULL)
    if raise_on_empty and not done.stdout:
        raise SubprocessOutputEmptyError("get_subprocess_output expected output but had none.")
    return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"), done.returncode


def _offer(line: Line, hello: dict[str, Any]) -> None:
    """Put the agent's modules where `import` finds them."""
    modules: dict[str, dict[str, Any]] = {
        "aggregator": _aggregator(line),
        "datadog_agent": _datadog_agent(line, hello),
        "tagger": {
            "LOW": 0,
            "ORCHESTRATOR": 1,
            "HIGH": 2,
            **{name: lambda *_: [] for name in ("tag", "get_tags", "global_tags")},
        },
        "_util": {
            "subprocess_output": _subprocess_output,
            "get_subprocess_output": _subprocess_output,
            "SubprocessOutputEmptyError": SubprocessOutputEmptyError,
        },
        "util": {"headers": lambda *_, **__: {"User-Agent": "Datadog Agent/7.0.0"}},
        "kubeutil": {"get_connection_info": dict},
        "containers": {"is_excluded": lambda *_: False},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module


def _describe(error: BaseException) -> str:
    said = "; ".join(filter(None, (part.strip() for part in str(error).splitlines())))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _base() -> Any:
    try:
        return importlib.import_module("datadog_checks.base")
    except BaseException as error:
        missing = isinstance(error, ModuleNotFoundError)
        raise Refusal(
            f"{sys.executable} cannot import datadog_checks.base: {_describe(error)}",
            "pip install 'vedette[datadog-checks]', or `python` names an interpreter that has it" if missing else "",
            traceback.format_exc(),
        ) from error


def _found(hello: dict[str, Any], base: Any) -> Any:
    """The check's class, of a file, or of the module by its name alone or below `datadog_checks` as in the Agent."""
    path, name, wanted = hello["path"], hello["module"], hello["check_class"]
    if path:
        sys.path.append(str(Path(path).parent))
        return _class(_imported(path, lambda: _from_file(path, hello["name"])), wanted, base)
    names = [one for one in dict.fromkeys((name, f"{_BELOW}{name.replace(_BELOW, '')}")) if _is_there(one)]
    for number, full in enumerate(names, 1):
        module = _imported(full, lambda full=full: importlib.import_module(full))
        if number == len(names) or _checks(module, base):  # some driver may have the same name
            return _class(module, wanted, base)
    also = "" if name.startswith(_BELOW) else f" nor {_BELOW}{name}"
    raise Refusal(
        f"there is no module {name}{also} for {sys.executable}",
        "install its package there, or give `path` for a file of checks.d",
    )


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
    except BaseException:
        return True  # importing it says why


def _from_file(path: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)  # a file may be called as a module that others need
    spec.loader.exec_module(module)
    return module


def _imported(what: str, load: Any) -> Any:
    try:
        return load()
    except BaseException as error:
        hint = f"install it for {sys.executable}" if isinstance(error, ModuleNotFoundError) else ""
        raise Refusal(f"{what} cannot be imported: {_describe(error)}", hint, traceback.format_exc()) from error


def _class(module: Any, wanted: str, base: Any) -> Any:
    """The check's class: the module's own subclass of AgentCheck that has no subclass itself."""
    if wanted:
        found = getattr(module, wanted, None)
        if not (inspect.isclass(found) and issubclass(found, base)):
            raise Refusal(f"{module.__name__} has no subclass of AgentCheck that is called {wanted}")
        return found
    found = _checks(module, base)
    if not found:
        raise Refusal(f"{module.__name__} has no subclass of AgentCheck")
    if len(found) > 1:
        names = " and ".join(one.__name__ for one in found)
        raise Refusal(f"{module.__name__} has several checks, {names}", "`check_class` says which")
    return found[0]


def _checks(module: Any, base: Any) -> list[Any]:
    every = {one for _, one in inspect.getmembers(module, inspect.isclass) if issubclass(one, base) and one is not base}
    every = {one for one in every if not one.__subclasses__()}
    home = ".".join(module.__name__.split(".")[: 2 if module.__name__.startswith(_BELOW) else 1])
    own = {one for one in every if one.__module__ == home or one.__module__.startswith(f"{home}.")}
    return sorted(own or every, key=lambda one: str(one.__name__))


def _made(found: Any, hello: dict[str, Any]) -> Any:
    given: dict[str, Any] = {"name": hello["name"], "init_config": hello["init_config"]}
    given["instances"] = [hello["instance"]]
    try:
        try:
            check = found(**given)
        except TypeError:
            check = found(**given, agentConfig={})  # a signature of Agent 5
        check.check_id = hello["check_id"]
        check.provider = "file"
    except BaseException as error:
        raise Refusal(f"{found.__name__} refuses: {_describe(error)}", "", traceback.format_exc()) from error
    return check


def _validate(check: Any) -> None:
    """Have the check's own models look at its options, for `vedette doctor`."""
    if hasattr(check, "load_configuration_models"):
        try:
            check.load_configuration_models()
        except BaseException as error:
            text = f"{type(check).__name__} refuses: {_describe(error)}"
            raise Refusal(text, "see `init_config` and `instance`", traceback.format_exc()) from error


class _Brood:
    """What the check started, and what that started."""

    def __init__(self) -> None:
        self._due = 0.0

    def running(self) -> int:
        """How many of them there are; 0 where that was looked at lately."""
        if _clock() < self._due:
            return 0
        me = os.getpid()
        known = {me}
        children: dict[int, list[int]] = {}
        for pid, parent, session in _processes():
            children.setdefault(parent, []).append(pid)
            if session == me:  # also those whose parents are gone
                known.add(pid)
        todo = list(known)
        while todo:
            new = [pid for pid in children.get(todo.pop(), ()) if pid not in known]
            known.update(new)
            todo += new
        self._due = _clock() + _LOOK_EACH
        return len(known) - 1


def _processes() -> Iterator[tuple[int, int, int]]:
    """Of each process: its id, its parent's, its session's."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                fields = path.joinpath("stat").read_bytes().rpartition(b")")[2].split()
                yield int(path.name), int(fields[1]), int(fields[3])
            except (OSError, ValueError, IndexError):  # it has just ended
                continue


def _run(check: Any) -> dict[str, Any]:
    """One run: its error in one line, its trace, its warnings."""
    error = trace = ""
    try:
        report = check.run()
        if report:
            first = _loads(report)[0]
            trace = _text(first.get("traceback", ""))
            error = _named(_text(first.get("message", "")), trace)
    except SystemExit as ended:
        error, trace = f"the check called sys.exit({ended.code!r})", traceback.format_exc()
    except BaseException as other:
        error, trace = _describe(other), traceback.format_exc()
    warnings = _texts(check.get_warnings()) if hasattr(check, "get_warnings") else []
    return {"error": _text(error), "trace": trace, "warnings": warnings[:20]}


def _named(message: str, trace: str) -> str:
    """The check's error in one line, with the name of its class where that says something."""
    lines = [part.strip() for part in message.splitlines() if part.strip()]
    said = "; ".join(lines)
    start = lines[0] if lines else ""
    for text in reversed(trace.splitlines()):
        kind, _, rest = text.partition(": ")
        if re.fullmatch(r"[\w.]+", kind) and rest.startswith(start):
            name = kind.rpartition(".")[2]
            return said if name == "Exception" else f"{name}: {said}" if said else name
    return said or "the check failed"


def _end(status: int) -> NoReturn:
    os._exit(status)  # no waiting for threads that do not end


def _leave_it_to_the_agent(number: int, frame: object) -> None:
    """Not SIG_IGN, which programs that a check starts would inherit."""


def _tie(leash: int, agent: int) -> None:
    """Have the kernel kill this process, and its group too, as soon as the agent is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    fcntl.fcntl(leash, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(leash, fcntl.F_SETSIG if hasattr(fcntl, "F_SETSIG") else 10, int(signal.SIGKILL))
    fcntl.fcntl(leash, fcntl.F_SETFL, fcntl.fcntl(leash, fcntl.F_GETFL) | os.O_ASYNC)
    if os.getppid() != agent:
        _end(0)


def _serve(line: Line) -> None:
    hello = line.hear()
    if hello["memory_limit"]:
        resource.setrlimit(resource.RLIMIT_DATA, (hello["memory_limit"], hello["memory_limit"]))
    try:
        _offer(line, hello)
        base = _base()
        found = _found(hello, base.AgentCheck)
        check = _made(found, hello)
        if hello["only_look"]:
            _validate(check)
    except Refusal as refusal:
        line.tell(refused={"message": _text(refusal), "hint": refusal.hint, "trace": _text(refusal.trace)})
        return
    version = getattr(base, "__version__", "") or getattr(sys.modules.get("datadog_checks.base"), "__version__", "")
    python = ".".join(map(str, sys.version_info[:3]))
    line.tell(ready={"base": _text(version), "python": python, "check": f"{found.__module__}.{found.__name__}"})
    brood = _Brood()
    while "run" in line.hear():
        line.begin()
        line.end(**_run(check), running=brood.running())
    try:
        check.cancel()
    except BaseException:
        return


def main() -> None:
    """Live until the agent says stop or is gone."""
    descriptor, leash, agent = map(int, sys.argv[1:4])
    here = Path(__file__).resolve().parent
    sys.path[:] = [one for one in sys.path if Path(one).resolve() != here]  # its siblings are no modules of the check
    _tie(leash, agent)
    for one in (descriptor, leash):
        os.set_inheritable(one, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # systemd sends them to all; the agent decides
        signal.signal(number, _leave_it_to_the_agent)
    sys.argv = ["agent"]
    line = Line(socket.socket(fileno=descriptor))
    os.register_at_fork(after_in_child=line.cut_off)
    try:
        _serve(line)
    except MemoryError:
        _end(EXHAUSTED)
    _end(0)


if __name__ == "__main__":
    main()
