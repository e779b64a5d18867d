"""Floor 3: notices who holds the event loop, says so, and has a culprit isolated at its next start.

A thread looks at the loop seven times a second. If it is at work it is asked for a sign of life; where that is missing
the thread sees whose task is running and where. Against code that holds the interpreter's lock, so that no thread runs,
only faulthandler's own C thread helps: it writes where the loop stands and ends the process. Against code that crashes
the process its signal handler helps: it writes where the crash was.
"""

from __future__ import annotations

import _thread
import asyncio
import faulthandler
import json
import logging
import os
import re
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.units import format_duration
from vedette.vitals import INSTANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType
    from typing import TextIO

    from vedette.config import Instance
    from vedette.runner import Runner
    from vedette.secrets import Masker
    from vedette.state import StateStore

EXIT_STATUS = 70
"""Exit status of an agent whose loop was held for too long (EX_SOFTWARE); 1 if faulthandler had to end it."""
KEY = "vedette/watchdog"
"""Where the state store keeps the verdicts."""
_DUMP = "blocked.txt"
_STDERR = 2
_LOG_PAUSE = 60.0
_DEEPEST = 100
_SHOWN = 6
_ARMED_AGAIN = 6
_PAUSE = 0.75
_ROUNDS = 10
_IDLE = ("/selectors.py", "/asyncio/runners.py")
"""Where a loop's thread stands while it waits: asyncio's own, and uvloop's, which is C below the call."""
_AROUND = ("asyncio/events.py", "asyncio/runners.py", "concurrent/futures/thread.py")
_FILE_LINE = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>\S+)')
_THREAD = re.compile(r"0x[0-9a-f]+")
_FAULT = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Illegal instruction": "SIGILL",
    "Floating point exception": "SIGFPE",
    "Floating-point exception": "SIGFPE",
}
"""What faulthandler calls them."""

log = logging.getLogger("vedette.watchdog")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the watchdog puts up with.

    Attributes:
        blocked: seconds that one step of the loop may take without a word.
        fatal: seconds after which nothing but a new process helps.
        repeats: blocks within the life of the process after which an instance is isolated.
    """

    blocked: float = 0.2
    fatal: float = 30.0
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Place:
    """One line of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{'/'.join(Path(self.file).parts[-2:])}:{self.line} {self.function}"


class Verdicts:
    """Which instances have to run in a child process because of what they did.

    A verdict holds for an instance's options as they were: other options, or `isolate` written down, end it.

    Args:
        state: keeps them.
        masker: keeps secrets out of the fingerprint of the options.
        enabled: `auto_isolate` of agent.yaml.
    """

    def __init__(self, state: StateStore, masker: Masker, *, enabled: bool = True) -> None:
        self._state = state
        self._masker = masker
        self._enabled = enabled

    def reason(self, instance: Instance) -> str:
        """Why this instance has to be isolated; empty if it does not have to be."""
        if not self._enabled or "isolate" in instance.config.model_fields_set:
            return ""
        verdict = self._state.view(KEY).get(instance.id)
        if not isinstance(verdict, dict) or verdict.get("options") != self._fingerprint(instance):
            return ""
        return str(verdict.get("reason", ""))

    def convict(self, instance: Instance, reason: str) -> bool:
        """Have it isolated from its next start on; must be called on the event loop. Returns whether that is new."""
        if not self._may(instance):
            return False
        self._state.apply(KEY, [(instance.id, self._verdict(instance, reason))])
        return True

    def convict_now(self, instance: Instance, reason: str) -> bool:
        """The same from another thread, durable at once: the event loop will not do it any more."""
        return self._may(instance) and self._state.record(KEY, instance.id, self._verdict(instance, reason))

    def _may(self, instance: Instance) -> bool:
        return self._enabled and "isolate" not in instance.config.model_fields_set and not self.reason(instance)

    def _verdict(self, instance: Instance, reason: str) -> dict[str, str]:
        return {"reason": f"{reason} on {datetime.now():%Y-%m-%d %H:%M}", "options": self._fingerprint(instance)}

    def _fingerprint(self, instance: Instance) -> str:
        text = self._masker(json.dumps(instance.content, sort_keys=True, default=str))
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def read_last_words(self, instances: Sequence[Instance]) -> None:
        """If the last agent crashed or was ended while something held its loop, have that check's instances isolated.

        Must be called on the event loop or before there is one.
        """
        file = self._state.directory / _DUMP
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
            file.unlink()
        except OSError:
            return
        places, crash = dumped(text), fault(text)
        if not places and not crash:
            return
        culprits = self._in_this_process(at_home(instances, places))
        names, where = ", ".join(instance.id for instance in culprits), self._masker(shown(places))
        if crash:
            who = f"one of {names}" if len(culprits) > 1 else names or "something that is no instance's code"
            log.warning("%s crashed the agent (%s) in %s", who, crash, where)
        else:
            held = names or "no instance that is still there"
            log.warning("the last agent ended because its event loop was held by %s: %s", held, where)
        for instance in culprits:
            self.convict_now(
                instance, "crashed the agent" if crash else "held the event loop and the interpreter's lock"
            )

    def _in_this_process(self, suspects: list[Instance]) -> list[Instance]:
        """Those who were not isolated, and so could do it; all if none is left, as the options may be newer."""
        return [one for one in suspects if not one.config.isolate and not self.reason(one)] or suspects


class Watchdog:
    """Watches one event loop from a thread of its own.

    Args:
        runners: the instances that run now.
        verdicts: where culprits are written down.
        masker: blots secrets out of stacks.
        directory: where faulthandler writes its last words.
        limits: what is put up with.
    """

    def __init__(
        self,
        runners: Callable[[], Iterable[Runner]],
        verdicts: Verdicts,
        masker: Masker,
        directory: Path,
        limits: Limits,
    ) -> None:
        self._runners = runners
        self._verdicts = verdicts
        self._masker = masker
        self._directory = directory
        self._limits = limits
        self._stopped = False
        self._stop = _thread.allocate_lock()
        self._answer = _thread.allocate_lock()
        self._ready = _thread.allocate_lock()
        self._blocks: Counter[str] = Counter()
        self._said: dict[str, float] = {}
        self._armed = float("-inf")
        self._catches_faults = False
        self._enabled_before = False
        self._dump: TextIO | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running loop, from its own thread."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._queueing = _Queueing(threading.get_native_id())
        if sys.version_info < (3, 12):  # later ones tell a task's context
            self._loop.set_task_factory(named_task)
        self._be_ready_for_last_words()
        self._arm_in_time()
        self._answer.acquire()
        self._stop.acquire()
        self._thread = threading.Thread(target=self._watch, name="vedette-watchdog", daemon=True)
        self._ready.acquire()
        self._thread.start()
        self._ready.acquire(timeout=1.0)  # what is begun before it looks would go unseen

    def stop(self) -> None:
        """End the watch."""
        self._stopped = True
        self._stop.release()
        if self._thread is not None:
            self._thread.join(self._limits.blocked * 4)
        if self._dump is not None:
            faulthandler.cancel_dump_traceback_later()
            self._let_go_of_faults()
            self._dump.close()
            with suppress(OSError):
                (self._directory / _DUMP).unlink()
        self._queueing.close()
        if sys.version_info < (3, 12):
            self._loop.set_task_factory(None)

    def _be_ready_for_last_words(self) -> None:
        """Have a crash written down: the thread that crashed only, of all threads faulthandler shows just a hundred."""
        try:
            self._dump = (self._directory / _DUMP).open("w", encoding="utf-8")
            self._dump.write(f"loop {self._watched:#x}\n")
            self._dump.flush()
        except OSError as error:
            log.debug("no file for the last words: %s", error)
            self._dump = None
            return
        self._enabled_before = faulthandler.is_enabled()
        faulthandler.enable(self._dump, all_threads=False)
        self._catches_faults = True
        os.register_at_fork(after_in_child=self._let_go_of_faults)

    def _let_go_of_faults(self) -> None:
        """Back to what it was: the crash of a process that a check forks is not the agent's, nor is a later one."""
        if not self._catches_faults:
            return
        self._catches_faults = False
        faulthandler.disable()
        if self._enabled_before:  # PYTHONFAULTHANDLER
            with suppress(OSError, ValueError):
                faulthandler.enable(_STDERR)

    def _arm_in_time(self) -> None:
        """Have faulthandler end this process if this thread does not get to do it again, for want of the lock."""
        now, fatal = time.monotonic(), self._limits.fatal
        if now - self._armed > fatal / _ARMED_AGAIN and self._dump is not None:
            self._armed = now
            faulthandler.dump_traceback_later(fatal + fatal / _ARMED_AGAIN, exit=True, file=self._dump)

    # The thread

    def _watch(self) -> None:
        pause = _PAUSE * self._limits.blocked
        mine = _Queueing(threading.get_native_id())
        queued, rounds = mine.seconds(), 0
        began = time.monotonic()
        self._ready.release()
        while True:
            if time.monotonic() - began < self._limits.blocked and self._stop.acquire(timeout=pause):
                break
            late, accused = time.monotonic() - began - pause, False
            seen = self._look() if late >= self._limits.blocked else None  # at once: reading a file lets go of the lock
            rounds += 1
            if seen is not None or rounds % _ROUNDS == 0:
                before, queued = queued, mine.seconds()
                on_lock = late - (queued - before) >= self._limits.blocked
                accused = seen is not None and on_lock and self._on_lock(*seen)
            if (accused or rounds % _ROUNDS == 0 or self._at_work()) and not self._ask(accused=accused):
                break
            self._arm_in_time()
            began = time.monotonic()
        mine.close()

    def _at_work(self) -> bool:
        """Whether the loop seems to be doing something: to ask a sleeping one would cost more than all the rest."""
        if asyncio.current_task(self._loop) is not None:
            return True
        frame = sys._current_frames().get(self._watched)
        return frame is None or not frame.f_code.co_filename.endswith(_IDLE)

    def _ask(self, *, accused: bool) -> bool:
        """Ask the loop for a sign of life, and see to it if it gives none; returns whether to go on."""
        asked, queued = time.monotonic(), self._queueing.seconds()
        try:
            self._loop.call_soon_threadsafe(self._answer.release)
        except RuntimeError:  # the loop is closed
            return False
        if not self._answer.acquire(timeout=self._limits.blocked):
            if self._stopped:  # it is the loop's thread that waits for this one to end
                return False
            self._on_block(asked, queued, accused=accused)
        return True

    def _on_lock(self, runner: Runner | None, places: list[Place]) -> bool:
        """This thread had a processor and yet did not run: somebody held the interpreter's lock, and has just let go.

        Python hands the lock over between two steps of the code that held it, so that code still stands there. What
        belongs to no instance may as well be another thread's doing.
        """
        if runner is not None:
            self._accuse(runner, places)
        return runner is not None

    def _on_block(self, asked: float, queued: float, *, accused: bool) -> None:
        """The loop did not answer: accuse whoever holds it, until it answers or must be given up.

        Time in which its thread had no processor to run on does not count: that is the machine's doing.
        """
        seen, blocked = self._look(), self._limits.blocked
        while True:
            held = time.monotonic() - asked - (self._queueing.seconds() - queued)
            if not accused and held >= self._limits.blocked:
                accused = True
                self._accuse(*seen)
            if self._answer.acquire(timeout=self._limits.blocked):
                break
            blocked += self._limits.blocked  # not by the clock: a machine that slept has not held the loop
            if self._stopped:
                return
            seen = self._look()
            if blocked >= self._limits.fatal:
                self._give_up(*seen)
            self._arm_in_time()
        runner, lasted = seen[0], time.monotonic() - asked
        if accused and runner is not None and lasted > 5 * self._limits.blocked:
            log.info("%s let go of the event loop after %s", runner.instance.id, format_duration(lasted))

    def _look(self) -> tuple[Runner | None, list[Place]]:
        """Who holds the loop now, and where. Keeps nothing of the check alive."""
        frame = sys._current_frames().get(self._watched)
        places = [] if frame is None else list(walk(frame))
        return self._culprit(asyncio.current_task(self._loop), places), places

    def _culprit(self, task: asyncio.Task[Any] | None, places: list[Place]) -> Runner | None:
        """The instance whose task is running, else the only one whose code is."""
        runners = {runner.instance.id: runner for runner in self._runners()}
        name = None if task is None else owner(task)
        if name in runners:
            return runners[name]
        found = at_home([runner.instance for runner in runners.values()], places)
        return runners[found[0].id] if len(found) == 1 else None

    def _accuse(self, runner: Runner | None, places: list[Place]) -> None:
        name = "" if runner is None else runner.instance.id
        if runner is not None:
            runner.vitals.blocked += 1
            self._blocks[name] += 1
        now = time.monotonic()
        if now - self._said.get(name, float("-inf")) >= _LOG_PAUSE:
            self._said[name] = now
            log.warning(
                "%s holds the event loop for more than %s, and all others wait: %s",
                name or "something that is no instance",
                format_duration(self._limits.blocked),
                self._masker(shown(places)),
            )
        if runner is not None and self._blocks[name] == self._limits.repeats:
            self._loop.call_soon_threadsafe(self._convict, runner)

    def _convict(self, runner: Runner) -> None:
        reason = f"held the event loop {self._limits.repeats} times"
        if self._verdicts.convict(runner.instance, reason):
            log.warning("%s %s: from its next start on it runs in a child process", runner.instance.id, reason)

    def _give_up(self, runner: Runner | None, places: list[Place]) -> None:
        """Write down who it was and end the process: what waits in the loop can never run again."""
        lasted = format_duration(self._limits.fatal)
        isolated = runner is not None and self._verdicts.convict_now(
            runner.instance, f"held the event loop for {lasted}"
        )
        log.critical(
            "%s has held the event loop for %s (%s): the agent ends with status %d%s",
            "something that is no instance" if runner is None else runner.instance.id,
            lasted,
            self._masker(shown(places)),
            EXIT_STATUS,
            ", and isolates it at its next start" if isolated else "",
        )
        if self._dump is not None:
            with suppress(OSError):
                (self._directory / _DUMP).unlink()
        os._exit(EXIT_STATUS)


class _Queueing:
    """How long a thread has waited for a processor so far; 0 where the system does not tell.

    Source: Documentation/scheduler/sched-stats.rst of Linux, on /proc/<pid>/schedstat.
    """

    def __init__(self, thread: int) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY)

    def seconds(self) -> float:
        """Seconds since the thread began."""
        if self._file is None:
            return 0.0
        try:
            return int(os.pread(self._file, 80, 0).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def named_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """A task factory that gives a task the name of the instance it works for, unless it has one."""
    if options.get("name") is None:
        options["name"] = INSTANCE.get()
    return asyncio.Task(coro, loop=loop, **options)


def owner(task: asyncio.Task[Any]) -> str | None:
    """The id of the instance that a task works for."""
    if sys.version_info >= (3, 12):
        return task.get_context().get(INSTANCE)
    return task.get_name()


def walk(frame: FrameType | None) -> Iterator[Place]:
    """A stack, innermost first."""
    depth = 0
    while frame is not None and depth < _DEEPEST:
        yield Place(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name)
        frame, depth = frame.f_back, depth + 1


def shown(places: Sequence[Place]) -> str:
    """The innermost lines of a stack in one line, without those of the runner and the loop around it."""
    runner = str(Path(__file__).with_name("runner.py"))
    inside = []
    for place in places:
        if place.file == runner or place.file.endswith(_AROUND):
            break
        inside.append(str(place))
    more = f" < {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
    return " < ".join(inside[:_SHOWN]) + more or "no stack"


def dumped(text: str) -> list[Place]:
    """The stack of the thread that crashed, else of the loop's, in what faulthandler wrote; empty if there is none."""
    head, _, rest = text.partition("\n")
    watched, places, within = _THREAD.search(head), [], False
    if crash := _FAULT.search(rest):
        rest, within = rest[crash.end() :], True
    for line in rest.splitlines():
        if line.startswith(("Thread ", "Current thread ")):
            thread = _THREAD.search(line)
            ours = thread is not None and watched is not None and int(thread[0], 16) == int(watched[0], 16)
            within = line.startswith("Current") if crash else ours
        elif within and (match := _FILE_LINE.match(line)):
            places.append(Place(match["file"], int(match["line"]), match["function"]))
    return places


def fault(text: str) -> str:
    """The signal that the agent crashed with, by what faulthandler wrote; empty if it did not."""
    found = _FAULT.search(text)
    return "" if found is None else _SIGNALS.get(found[1], found[1])


def at_home(instances: Iterable[Instance], places: Iterable[Place]) -> list[Instance]:
    """The instances of the check in whose code the innermost place lies that is in any check's code."""
    homes = [(home(instance.plugin), instance) for instance in instances]
    for place in places:
        found = [one for where, one in homes if where and (place.file == where or place.file.startswith(f"{where}/"))]
        if found:
            return found
    return []


def home(plugin: type) -> str:
    """The file of a plugin, or its folder if it is a package; empty if there is none."""
    module = sys.modules.get(plugin.__module__)
    file = getattr(module, "__file__", None)
    if not file:
        return ""
    return str(Path(file).parent) if getattr(module, "__package__", "") else str(file)
