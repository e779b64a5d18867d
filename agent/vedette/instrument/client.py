"""The client: callers put finished lines into a bounded queue, one daemon thread sends them through Datadog's client.

A caller opens no socket and looks up no name, and takes no lock but to count a loss, so that it neither waits nor
raises, in threads, event loops and signal handlers alike. Where the queue grows long it sends a packet too, if the
system takes that at once. What cannot be sent is dropped and counted.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from queue import Empty, SimpleQueue
from typing import TypeVar

from vedette.instrument.sender import Sender, packets
from vedette.instrument.settings import Settings, say

_MOST_WAITING = 40_000  # calls, of some 350 bytes each: 15 MB
_HURRY_AT = 2_000
_HELP_AT = 4_000
_FLUSH_AFTER = 0.1  # seconds that a first line waits for company
_PIECE = 16  # calls, of some 50 lines, that are sent in one go
_BREATH, _SHORT_BREATH = 0.0005, 0.0001  # seconds that the thread sleeps after that; and where much waits
_RETRY_START = 1.0  # seconds until it is tried again to start a thread
_FIRST_READ = 1.0
_PERIOD = 10.0  # seconds between two readings of pools and queues; what Datadog's agent flushes by
_AT_EXIT = 1.0
_TRY_FOR = 0.9  # of the time to close: what is left then is dropped, and counted in the rest of it
_MOST_POLLS = 100

_Item = TypeVar("_Item")
Poll = Callable[[], None]
"""Sends what it reads, or raises ReferenceError when that is gone."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of an application's metrics, since its start or the fork that made its process.

    Attributes:
        sent: metrics that the system took.
        dropped: metrics that were lost, because the queue was full or the receiver not there.
        waiting: calls whose metrics are not sent yet.
        invalid: values that were no finite numbers, or of the wrong type; they were left out.
        other: values outside the vocabulary, by tag.
        failed: calls in which the library itself failed.
        trouble: why metrics were lost last, empty if none was or sending works again.
    """

    sent: int
    dropped: int
    waiting: int
    invalid: int
    other: dict[str, int]
    failed: int
    trouble: str


class _Tally:
    """Counts by name, from all threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.counts: dict[str, int] = {}

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self.counts[name] = self.counts.get(name, 0) + number


class Client:
    """Sends lines to one target. Get one by `shared_client`; equal settings share it.

    Args:
        settings: target and constant tags.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._polls: dict[object, Poll] = {}
        self._refused = False
        self._begin()
        me: weakref.ref[Client] = weakref.ref(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: _with(me, Client._forked))
        atexit.register(lambda: _with(me, lambda client: client.close(_AT_EXIT)))

    def _begin(self) -> None:
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._hurry: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._no_start_before = 0.0
        self._close_by: float | None = None
        self._ended = False
        self._marks: SimpleQueue[threading.Event] = SimpleQueue()
        self._sender: Sender | None = None
        self._tally = _Tally()
        self._told: dict[str, int] = {}
        self._overflowed = False

    # The callers' side

    def put(self, lines: str) -> None:
        """Queue one or more lines, joined by newlines. Never waits; drops and counts when the queue is full."""
        if not self.settings.enabled:
            return
        waiting = self._queue.qsize()
        if waiting >= _MOST_WAITING:
            self._tally.add("dropped", lines.count("\n") + 1)
            self._overflowed = True
            return
        self._queue.put(lines)
        if waiting >= _HURRY_AT:
            if waiting == _HURRY_AT:
                self._hurry.put(None)
            elif waiting >= _HELP_AT:
                self._help()
        if self._thread is None:
            self._start()

    def _help(self) -> None:
        """Send one packet in the caller's thread, if the system takes it at once.

        In a loop that does nothing but track, the sender gets the interpreter's lock once in 5 ms, for one packet.
        """
        sender = self._sender
        if sender is None or not sender.takes_help():
            return
        lines: list[str] = []
        size = 0
        with suppress(Empty):
            while size < sender.largest // 2:
                line = self._queue.get_nowait()
                if not line:  # a sign for the thread
                    self._queue.put(line)
                    break
                lines.append(line)
                size += len(line)
        for packet in packets(lines, sender.largest):
            number = packet.count(b"\n")
            taken = sender.offer(packet)
            if taken is None:
                self._queue.put(packet.decode()[:-1])
            else:
                self._tally.add("sent" if taken else "dropped", number)

    def count(self, name: str) -> None:
        """Count what went wrong on the caller's side: `invalid`, `failed`, or `other` and the tag."""
        self._tally.add(name)

    def poll(self, read: Poll, key: object) -> None:
        """Have the sender's thread call this every ten seconds. It must not wait.

        Args:
            read: what to call.
            key: what it is about: a later one of the same key takes its place.
        """
        if not self.settings.enabled:
            return
        if key not in self._polls and len(self._polls) >= _MOST_POLLS:
            self._tally.add("failed")
            if not self._refused:
                self._refused = True
                say(logging.WARNING, "there are gauges for %d pools and queues, and for no more", _MOST_POLLS)
            return
        self._polls[key] = read
        if self._thread is None:
            self._start()

    def stats(self) -> Stats:
        """What became of the metrics so far."""
        counts, sender = self._tally.counts, self._sender
        return Stats(
            sent=counts.get("sent", 0),
            dropped=counts.get("dropped", 0),
            waiting=self._queue.qsize(),
            invalid=counts.get("invalid", 0),
            other={name[6:]: count for name, count in list(counts.items()) if name.startswith("other ")},
            failed=counts.get("failed", 0),
            trouble=sender.trouble if sender is not None else "",
        )

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until everything queued so far is sent or dropped; for tests and short scripts.

        Args:
            timeout: seconds.

        Returns:
            Whether it was, in time.
        """
        if self._thread is None:
            if self._queue.empty():
                return True
            self._start()
        done = threading.Event()
        self._marks.put(done)
        self._hurry.put(None)
        self._queue.put("")
        return done.wait(timeout)

    def close(self, timeout: float = _AT_EXIT) -> None:
        """Send what is queued, then end the thread and close the socket; a later metric opens both anew.

        Args:
            timeout: seconds after which what is left is given up, to a daemon thread.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._close_by = time.monotonic() + timeout * _TRY_FOR
        self._hurry.put(None)
        self._queue.put(None)
        with suppress(RuntimeError):  # it is about to be started
            thread.join(timeout)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread is about it, or this one, interrupted by a signal
        try:
            if self._thread is None and time.monotonic() >= self._no_start_before:
                self._close_by = None
                self._thread = threading.Thread(target=self._work, name="vedette-instrument", daemon=True)
                self._thread.start()
                self._end_with_multiprocessing()
        except RuntimeError:  # the system has no thread to spare, or the interpreter is ending
            self._thread = None
            self._no_start_before = time.monotonic() + _RETRY_START
            self._tally.add("dropped", sum(line.count("\n") + 1 for line in _all(self._queue) if line))
        finally:
            self._starting.release()

    def _end_with_multiprocessing(self) -> None:
        """Children of multiprocessing end without `atexit`, but with finalizers of their own."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            me: weakref.ref[Client] = weakref.ref(self)
            util.Finalize(None, lambda: _with(me, lambda client: client.close(_AT_EXIT)), exitpriority=0)

    def _forked(self) -> None:
        """In the child of a fork: the thread is gone, the lines and the socket are the parent's."""
        sender = self._sender
        self._begin()
        if sender is not None:
            sender.abandon()
        if self._polls:  # a worker that waits for its first request has gauges
            self._start()

    # The thread's side

    def _work(self) -> None:
        sender = self._sender = Sender(self.settings, lambda: self._close_by, self._pause)
        try:
            self._send_until_closed(sender)
        finally:
            sender.close()
            self._thread = None
            if not self._queue.empty():  # lines that came in between
                self._start()

    def _send_until_closed(self, sender: Sender) -> None:
        due = time.monotonic() + _FIRST_READ
        self._ended = False
        while not self._ended:
            first: str | None = ""
            with suppress(Empty):
                first = self._queue.get(timeout=max(0.0, due - time.monotonic()))
                if first:
                    self._pause(_FLUSH_AFTER)
            marks, troubled = list(_all(self._marks)), bool(sender.trouble)
            try:
                self._account(sender, self._waiting(first))
                if time.monotonic() >= due:
                    due = time.monotonic() + _PERIOD
                    self._read_polls()
                    self._account(sender, self._own_lines())
                elif self._ended and not troubled:  # else it would only be one more wait
                    self._account(sender, self._own_lines())
            except Exception:  # whatever it is, the next lines are not to suffer from it
                self._tally.add("failed")
            for mark in marks:
                mark.set()

    def _pause(self, seconds: float) -> None:
        with suppress(Empty):
            self._hurry.get(timeout=seconds)
            while True:
                self._hurry.get_nowait()

    def _waiting(self, first: str | None) -> Iterator[str]:
        """The first lines and those that are queued now; notes if the end is among them.

        Takes breath in between: where the interpreter's lock is let go for as long as a packet takes, a thread that
        waits for it is not awake by then, and a request would have to wait until all is sent.
        """
        line, number, last = first, 0, self._queue.qsize()
        while True:
            if line:
                yield line
            elif line is None:
                self._ended = True
            if number == last:
                return
            number += 1
            if not number % _PIECE and self._close_by is None:
                time.sleep(_BREATH if last - number < _HURRY_AT else _SHORT_BREATH)
            try:
                line = self._queue.get_nowait()
            except Empty:
                return

    def _account(self, sender: Sender, lines: Iterable[str]) -> None:
        sent, lost = sender.send(lines)
        if not sent and not lost:
            return
        self._tally.add("sent", sent)
        if lost:
            self._tally.add("dropped", lost)
        overflowed, self._overflowed = self._overflowed, False
        sender.tell(lost, "metrics are made faster than they can be sent" if overflowed and not lost else "")

    def _read_polls(self) -> None:
        for key, read in list(self._polls.items()):
            try:
                read()
            except ReferenceError:
                if self._polls.get(key) is read:
                    del self._polls[key]
            except BaseException:  # the application's own function may raise anything; SystemExit would end this thread
                self._tally.add("failed")

    def _own_lines(self) -> list[str]:
        """What was lost and left out since the last time, as metrics: nobody looks at `stats()` all day."""
        lines = []
        for name, total in list(self._tally.counts.items()):
            word, _, tag = name.partition(" ")
            new = total - self._told.get(name, 0)
            if new and word in ("dropped", "invalid", "other", "failed"):
                self._told[name] = total
                tags = f"{f',tag:{tag}' if tag else ''}{self.settings.suffix}".lstrip(",")
                lines.append(f"vedette.instrument.{word}:{new}|c{f'|#{tags}' if tags else ''}")
        return lines


def _all(queue: SimpleQueue[_Item]) -> Iterator[_Item]:
    with suppress(Empty):
        while True:
            yield queue.get_nowait()


def _with(reference: weakref.ref[Client], act: Callable[[Client], None]) -> None:
    client = reference()
    if client is not None:
        with suppress(Exception):
            act(client)


@cache
def shared_client(settings: Settings) -> Client:
    """The client of these settings, one in a process: a `BusinessMetrics()` for each request costs no thread each."""
    return Client(settings)
