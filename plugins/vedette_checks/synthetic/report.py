"""What a run says: metrics and statuses of the flow, of its steps, of its cleanup, and of a single address."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import httpx

from vedette import Emit, Kind, Metric, Status
from vedette_checks.synthetic.config import SyntheticConfig
from vedette_checks.synthetic.flow import Attempt, Taken
from vedette_checks.synthetic.pending import Pending, Register
from vedette_checks.synthetic.performance import Outcome, Result

FLOW, CONNECT, CERTIFICATE = "synthetic.flow", "http.can_connect", "http.ssl_cert"
STATUSES: Final = (FLOW, CONNECT, CERTIFICATE)
_DAY = 86_400.0
_PHASES = ("dns", "connect", "tls", "first_byte", "transfer")
_MEANING = {
    "dns": "Looking the host name up; absent for an address.",
    "connect": "TCP connection; absent where one was kept.",
    "tls": "TLS handshake; absent without TLS.",
    "first_byte": "From the connection to the answer's headers.",
    "transfer": "The answer's body.",
}
_G, _C, _H = Kind.GAUGE, Kind.COUNT, Kind.HISTOGRAM
_STEP = ("flow", "step")
_COMMON: Final = (
    Metric("synthetic.transaction.total_time", _H, "millisecond", "All steps, up to the one that failed.", ("flow",)),
    Metric("synthetic.transaction.result", _C, "", "Runs; `success` says how they ended.", ("flow", "success")),
    Metric("synthetic.transaction.failures", _C, "", "Runs that failed.", ("flow",)),
    Metric("synthetic.transaction.retries", _C, "", "Attempts beyond a run's first.", ("flow",)),
    Metric("synthetic.step.result", _C, "", "Steps by `result`: ok, failed, skipped.", (*_STEP, "result")),
    *(Metric(f"synthetic.step.{one}_time", _H, "millisecond", _MEANING[one], _STEP) for one in _PHASES),
    Metric("synthetic.step.body_size", _G, "byte", "Size of the answer's body.", _STEP),
    Metric("synthetic.step.certificate_days", _G, "day", "Days until the server's certificate ends.", _STEP),
)  # fmt: skip
_CLEANUP: Final = (
    Metric("synthetic.cleanup.result", _C, "", "Cleanups; `success` says how they ended.", ("flow", "success")),
    Metric("synthetic.cleanup.pending", _G, "", "Attempts that the next runs have to clean up.", ("flow",)),
    Metric("synthetic.cleanup.leftovers", _C, "", "Attempts that may have left something behind for good; `reason` is "
           "unknown (no answer told what to take back) or failed.", ("flow", "reason")),
)  # fmt: skip
_HTTP: Final = (
    Metric("network.http.response_time", _G, "second", "Time of the request.", ("url",)),
    Metric("network.http.can_connect", _G, "", "1 if the answer was as expected, else 0.", ("url",)),
    Metric("network.http.cant_connect", _G, "", "0 if the answer was as expected, else 1.", ("url",)),
    Metric("http.ssl.days_left", _G, "day", "Days until the certificate ends.", ("url",)),
    Metric("http.ssl.seconds_left", _G, "second", "Seconds until the certificate ends.", ("url",)),
)

METRICS: Final = (*_COMMON, *_CLEANUP, *_HTTP)
"""Those whose names do not follow the steps'."""


def declared(config: SyntheticConfig) -> Iterator[Metric]:
    """The metrics of a flow."""
    for step in config.flow:
        text = f"Response time of the step {step.name}, its polling included."
        yield Metric(f"synthetic.{step.name}.response_time", _H, "millisecond", text, ("flow",))
    yield from _COMMON
    if config.cleanup:
        yield from _CLEANUP
    if config.url:
        yield from _HTTP


class Report:
    """Emits what runs of one flow say.

    Args:
        config: the flow's options.
    """

    def __init__(self, config: SyntheticConfig) -> None:
        self._config = config
        self._tags = (f"flow:{config.name}",)
        self._url_tags = (f"url:{_shown(config.url)}",) if config.url else ()

    def emit(
        self,
        emit: Emit,
        run_id: str,
        attempts: Sequence[Attempt],
        earlier: Sequence[tuple[Pending, Taken]],
        register: Register,
    ) -> None:
        """Report a run.

        Args:
            emit: where to.
            run_id: the run.
            attempts: the attempts at the flow; the last one counts, unless the stop of the agent cut it short.
            earlier: what became of the cleanup of earlier attempts.
            register: what is still to be cleaned up.
        """
        cleanups = [*earlier, *((Pending(run_id, n), one.taken) for n, one in enumerate(attempts, 1))]
        if self._config.cleanup:
            self._cleanup(emit, [taken for _, taken in cleanups], register)
        whole = [] if attempts and attempts[-1].cut else attempts
        if whole:
            self._flow(emit, whole)
        self._status(emit, run_id, whole, cleanups)
        if whole and self._url_tags:
            self._address(emit, whole[-1].results[0])

    def _flow(self, emit: Emit, attempts: Sequence[Attempt]) -> None:
        last, tags = attempts[-1], self._tags
        success = last.failure is None
        emit.histogram("synthetic.transaction.total_time", last.seconds * 1000, tags)
        emit.count("synthetic.transaction.result", 1, (*tags, f"success:{'true' if success else 'false'}"))
        emit.count("synthetic.transaction.failures", int(not success), tags)
        if len(attempts) > 1:
            emit.count("synthetic.transaction.retries", len(attempts) - 1, tags)
        for result in last.results:
            self._step(emit, result)

    def _step(self, emit: Emit, result: Result) -> None:
        tags = (*self._tags, f"step:{result.name}")
        emit.count("synthetic.step.result", 1, (*tags, f"result:{result.outcome}"))
        if result.outcome is Outcome.SKIPPED:
            return
        if result.reached:  # a refused connection is no fast answer
            emit.histogram(f"synthetic.{result.name}.response_time", result.seconds * 1000, self._tags)
        for name in _PHASES if result.phases is not None else ():
            seconds = getattr(result.phases, name)
            if seconds is not None:
                emit.histogram(f"synthetic.step.{name}_time", seconds * 1000, tags)
        if result.answer is not None:
            emit.gauge("synthetic.step.body_size", len(result.answer.body), tags)
            if result.answer.expires is not None:
                days = (result.answer.expires - time.time()) / _DAY
                emit.gauge("synthetic.step.certificate_days", days, tags)

    def _cleanup(self, emit: Emit, taken: Sequence[Taken], register: Register) -> None:
        ends = Counter("false" if one.failed else "true" for one in taken if one.tried)
        for success, number in ends.items():
            emit.count("synthetic.cleanup.result", number, (*self._tags, f"success:{success}"))
        leftovers = Counter(one.lost for one in taken if one.lost)
        leftovers["failed"] += register.take_cut()
        for reason, number in leftovers.items():
            if number:
                emit.count("synthetic.cleanup.leftovers", number, (*self._tags, f"reason:{reason}"))
        emit.gauge("synthetic.cleanup.pending", register.waiting, self._tags)

    def _status(
        self,
        emit: Emit,
        run_id: str,
        attempts: Sequence[Attempt],
        cleanups: Sequence[tuple[Pending, Taken]],
    ) -> None:
        failure = attempts[-1].failure if attempts else None
        said = [failure.message] if failure is not None else []
        for entry, taken in cleanups:
            if taken.lost == "unknown":
                said.append(f"run {entry.run_id} may have left something behind: no answer told what")
            elif taken.failed:
                left = "is given up" if taken.lost else "will be tried again"
                said.append(f"the cleanup of run {entry.run_id} failed and {left}: {taken.failed}")
        if not attempts and not said:
            return
        status = Status.CRITICAL if failure is not None else Status.WARNING if said else Status.OK
        if status is Status.OK and len(attempts) > 1 and (first := attempts[0].failure) is not None:
            said.append(f"at attempt {len(attempts)}; the first failed: {first.message}")
        text = "; ".join(said)
        emit.status(FLOW, status, f"{text}; run {run_id}" if failure is not None else text, self._tags)

    def _address(self, emit: Emit, result: Result) -> None:
        tags, fine = self._url_tags, result.outcome is Outcome.OK
        emit.gauge("network.http.can_connect", int(fine), tags)
        emit.gauge("network.http.cant_connect", int(not fine), tags)
        emit.status(CONNECT, Status.OK if fine else Status.CRITICAL, result.message, tags)
        answer = result.answer
        if answer is not None:
            emit.gauge("network.http.response_time", result.seconds, tags)
        if answer is not None and answer.expires is not None:
            left = answer.expires - time.time()
            emit.gauge("http.ssl.days_left", left / _DAY, tags)
            emit.gauge("http.ssl.seconds_left", left, tags)
            wanted = self._config.expect.certificate_days
            late = wanted is not None and left < wanted * _DAY
            emit.status(CERTIFICATE, Status.WARNING if late else Status.OK, result.message if late else "", tags)
        elif result.tls:
            emit.status(CERTIFICATE, Status.CRITICAL, result.message, tags)


def _shown(url: str) -> str:
    """The address without its query."""
    return str(httpx.URL(url).copy_with(query=None))
