"""The listener: sockets in front, an intake behind them, and a hand-over at every interval."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from vedette import Diagnosis, Emit, Listener
from vedette_checks.statsd.binding import bind_udp, bind_unix, granted
from vedette_checks.statsd.cells import Cell
from vedette_checks.statsd.config import StatsdConfig
from vedette_checks.statsd.contexts import PARTS, origin_tags
from vedette_checks.statsd.intake import Intake
from vedette_checks.statsd.names import METRICS
from vedette_checks.statsd.ports import Port, StreamServer
from vedette_checks.statsd.protocol import CheckLine, EventLine

_MOST_SAMPLES = 2_000  # emitted before the loop and the sinks get their turn
_BREATH = 0.005  # seconds of work after which the loop gets its turn
_LAST_ROUNDS = 100  # of reading at the end: a full buffer, but not all that a sender who never ceases has to say
_LAST_WORDS = 1.5  # seconds that handing on the last interval may take when the agent stops


class Statsd(Listener[StatsdConfig]):
    """Receives DogStatsD over UDP and unix sockets, aggregates it and hands it to every sink."""

    name = "statsd"
    metrics = METRICS
    open_names = True

    def __init__(self, config: StatsdConfig, state: Any = None) -> None:
        super().__init__(config, state)
        self._intake = Intake(config, self.log)
        self._outgoing: deque[Cell] = deque()
        self._checks_seen = 0
        self._crowded = False
        self._since = 0.0
        self._ports: dict[Any, Port] = {}
        self._streams: dict[Any, StreamServer] = {}

    @classmethod
    def lint(cls, config: StatsdConfig) -> Iterable[str]:
        """A UDP port knows no password."""
        if config.exposed:
            yield (
                "listen: StatsD has no authentication: whoever reaches this address can send metrics; let a firewall "
                "see to it that only your applications do"
            )

    @property
    def port(self) -> int:
        """The UDP port; 0 without one."""
        found = [port.socket.getsockname()[1] for port in self._ports.values() if port.path is None]
        return found[0] if found else 0

    async def open(self) -> None:
        """Bind what is not bound yet.

        Raises:
            CheckError: an address or a path cannot be had.
        """
        config = self.config
        try:
            for key in self._wanted():
                if key not in self._ports and key not in self._streams:
                    self._bind(key)
        except BaseException:
            await self.close()
            raise
        for port in self._ports.values():
            if port.path is None and granted(port.socket) < config.receive_buffer:
                self.log.info(
                    "the kernel grants a receive buffer of %d KB: net.core.rmem_max", granted(port.socket) >> 10
                )

    def _wanted(self) -> list[tuple[Any, ...]]:
        config = self.config
        unix = (int(config.socket_mode, 8), config.socket_group, config.receive_buffer)
        places: list[tuple[Any, ...]] = []
        if config.address is not None:
            places.append(("udp", *config.address, config.receive_buffer))
        if config.socket is not None:
            places.append(("unixgram", config.socket, *unix))
        if config.stream_socket is not None:
            places.append(("unixstream", config.stream_socket, *unix))
        return places

    def _bind(self, key: tuple[Any, ...]) -> None:
        label, *place = key
        if label == "udp":
            self._ports[key] = Port(bind_udp(*place), label, local=not self.config.exposed)
        elif label == "unixgram":
            path, *options = place
            self._ports[key] = Port(bind_unix(path, socket.SOCK_DGRAM, *options), label, path)
        else:
            path, *options = place
            self._streams[key] = StreamServer(bind_unix(path, socket.SOCK_STREAM, *options), path)

    def succeed(self, predecessor: Listener[Any]) -> None:
        """Take over the sockets of the same places, with what waits in them."""
        if not isinstance(predecessor, Statsd):
            return
        for key in self._wanted():
            if key in predecessor._ports:
                self._ports[key] = predecessor._ports.pop(key)
            elif key in predecessor._streams:
                self._streams[key] = predecessor._streams.pop(key)

    async def serve(self, emit: Emit) -> None:
        """Receive, and hand on what came at every interval; once more at the end."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            for port in self._ports.values():
                port.start(self._intake.take)
            for stream in self._streams.values():
                await stream.start(self._intake.take, self._intake.bad_frame)
            while True:
                due = max(due + self.config.interval, loop.time())
                await asyncio.sleep(due - loop.time())
                await self._hand_on(emit)
        finally:
            self._pause()
            await self._hand_on_the_last(emit)

    async def _hand_on_the_last(self, emit: Emit) -> None:
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self._hand_on(emit)
        except TimeoutError:
            if left := len(self._outgoing):
                self.log.warning("stopped while the sinks' queues were full: %d series are lost", left)

    def _pause(self) -> None:
        for stream in self._streams.values():
            stream.pause()
        for port in self._ports.values():
            port.pause()
            for _ in range(_LAST_ROUNDS):
                if port.drain():
                    break

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """Whether the places can be had, or are served by this agent already, and what the kernel grants."""
        from vedette_checks.statsd.doctor import diagnose

        await diagnose(self.config, diagnosis)

    async def close(self) -> None:
        """Close the sockets and remove their files."""
        for one in self._all():
            one.close()
        self._ports, self._streams = {}, {}

    def _all(self) -> list[Port | StreamServer]:
        return [*self._ports.values(), *self._streams.values()]

    # Handing on

    async def _hand_on(self, emit: Emit) -> None:
        await emit.flush()  # nothing is there yet: the batches' time is now
        intake, made = self._intake, 0
        self._since = time.monotonic()
        for _ in range(PARTS):
            intake.contexts.fold_some()
            await self._breathe()
        self._outgoing.extend(intake.contexts.turn())
        while self._outgoing:
            cell = self._outgoing.popleft()
            made += cell.emit(emit) if cell.touched else 0
            if made >= _MOST_SAMPLES:
                made = 0
                await emit.flush()
            await self._breathe()
        events, intake.events, intake.kept = intake.events, [], 0
        for event in events:
            self._emit_event(emit, event)
        await self._emit_checks(emit)
        self._emit_own(emit, len(events))
        await emit.flush()

    async def _breathe(self) -> None:
        """Let the loop do something else, if this has taken long enough."""
        if time.monotonic() - self._since > _BREATH:
            await asyncio.sleep(0)
            self._since = time.monotonic()

    def _emit_event(self, emit: Emit, event: EventLine) -> None:
        emit.event(
            event.title,
            event.text,
            alert_type=event.alert_type,
            aggregation_key=event.aggregation_key,
            tags=self._tagged(event),
            time=event.time,
        )

    async def _emit_checks(self, emit: Emit) -> None:
        """Each as it came: of two of the same series in one batch only the last would be left."""
        checks, seen = self._intake.checks, set[tuple[str, tuple[str, ...]]]()
        while checks:
            check = checks.popleft()
            key = (check.name, check.tags)
            if key in seen:
                await emit.flush()
                seen.clear()
            seen.add(key)
            emit.status(check.name, check.status, check.message, self._tagged(check), check.time)
            self._checks_seen += 1

    def _tagged(self, line: EventLine | CheckLine) -> tuple[str, ...]:
        return (*line.tags, *origin_tags(line.origin)) if self.config.origin_tags else line.tags

    def _emit_own(self, emit: Emit, events: int) -> None:
        intake, contexts = self._intake, self._intake.contexts
        for port in self._ports.values():
            if (lost := port.dropped()) is not None:
                emit.count("vedette.statsd.socket.dropped", lost, (f"listener:{port.label}",))
        for one in self._all():
            emit.count("vedette.statsd.packets", one.packets, (f"listener:{one.label}",))
            emit.count("vedette.statsd.bytes", one.bytes, (f"listener:{one.label}",))
            one.packets = one.bytes = 0
        dropped = (*contexts.dropped.items(), ("events", intake.too_many), ("connections", self._crowded_out()))
        for reason, number in dropped:
            if number:
                emit.count("vedette.statsd.dropped", number, (f"reason:{reason}",))
        for origin, number in contexts.budgets.told():
            emit.count("vedette.statsd.over_budget", number, (f"origin:{origin}",))
        emit.count("vedette.statsd.values", contexts.values)
        emit.count("vedette.statsd.events", events)
        emit.count("vedette.statsd.service_checks", self._checks_seen)
        self._checks_seen = 0
        emit.count("vedette.statsd.malformed", intake.malformed)
        emit.gauge("vedette.statsd.contexts", len(contexts))
        contexts.values = intake.malformed = intake.too_many = 0
        contexts.dropped = dict.fromkeys(contexts.dropped, 0)

    def _crowded_out(self) -> int:
        """Connections that were ended to make room for others; the log has it when that begins."""
        number = sum(stream.crowded_out for stream in self._streams.values())
        if number and not self._crowded:
            self.log.warning("too many connections to stream_socket: those that were idle for longest are ended")
        self._crowded = number > 0
        for stream in self._streams.values():
            stream.crowded_out = 0
        return number
