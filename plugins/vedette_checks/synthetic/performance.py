"""Performing one step: its request or requests, the conditions, what is taken out of the answer."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID, uuid5

from jmespath.exceptions import JMESPathError

from vedette_checks.synthetic.answer import Answer, Phases
from vedette_checks.synthetic.conditions import cost_problem
from vedette_checks.synthetic.exchange import Caller, UnansweredError
from vedette_checks.synthetic.extract import NothingThereError
from vedette_checks.synthetic.masking import Discretion
from vedette_checks.synthetic.options import Until
from vedette_checks.synthetic.request import Request
from vedette_checks.synthetic.step import ElsewhereError, Step
from vedette_checks.synthetic.templates import UnsetError

_OPEN = frozenset({408, 409, 425, 499})
"""Refusals after which something may have been done: a time-out on the way, a conflict with an earlier request."""
_FIRST_PAUSE = 0.1  # seconds before a request is repeated; doubles


class Outcome(enum.StrEnum):
    """How a step ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Result:
    """What came of one step.

    Attributes:
        name: the step.
        outcome: how it ended.
        seconds: how long it took, all requests and pauses together.
        message: what was wrong, masked; why it was skipped.
        answer: the last answer, if there was one.
        phases: of the last request.
        reached: whether the server may have acted on a request.
        tls: whether the certificate was the reason.
    """

    name: str
    outcome: Outcome
    seconds: float = 0.0
    message: str = ""
    answer: Answer | None = None
    phases: Phases | None = None
    reached: bool = False
    tls: bool = False

    @property
    def refused(self) -> bool:
        """Whether the server said in so many words that it did not do it: 4xx, but for those that leave it open."""
        return self.answer is not None and 400 <= self.answer.status < 500 and self.answer.status not in _OPEN


@dataclass(slots=True)
class Scene:
    """One attempt at a flow, as its steps see it.

    Attributes:
        caller: makes the requests.
        run_id: the run's id.
        attempt: which attempt of the run, from 1.
        marks: headers of every request.
        key_header: name of the header with the idempotency key, empty for none.
        shown: variables that need not be masked.
        deadline: monotonic seconds at which all must be done.
        variables: values by name.
        discretion: what is secret by now.
        waived: variables that have no value because a `when` did not hold: what needs them is skipped too.
    """

    caller: Caller
    run_id: str
    attempt: int
    marks: Mapping[str, str]
    key_header: str
    shown: frozenset[str]
    deadline: float
    variables: dict[str, Any]
    discretion: Discretion = field(default_factory=Discretion)
    waived: set[str] = field(default_factory=set)

    def learn(self, name: str, value: Any) -> None:
        """Set a variable that came from an answer."""
        self.variables[name] = value
        if name not in self.shown:
            self.discretion.hide(value)

    def recall(self, variables: Mapping[str, Any]) -> None:
        """Set what an earlier run had learnt."""
        for name, value in variables.items():
            self.learn(name, value)

    def key(self, step: str) -> str:
        """The idempotency key of a step: the same for a repeated request, another for another attempt."""
        return str(uuid5(UUID(self.run_id), f"{self.attempt}/{step}"))


class _FailedError(Exception):
    """The step has failed.

    Args:
        what: why, masked.
    """


async def perform(step: Step, scene: Scene) -> Result:
    """Perform a step; what it takes out of the answer is in `scene.variables` afterwards."""
    result = Result(step.name, Outcome.OK)
    begun = monotonic()
    try:
        if step.when is not None and not _holds(step.when, scene):
            return _skipped(step, scene, "its `when` does not hold")
        request = _request(step, scene)
        await _ask(step, request, scene, result)
    except UnsetError as error:
        why = f"{error.name} was never set"
        if error.name in scene.waived:
            return _skipped(step, scene, why)
        result.outcome, result.message = Outcome.FAILED, f"{step.name}: {why} ({step.shown})"
    except (UnansweredError, _FailedError, ElsewhereError) as error:
        result.outcome = Outcome.FAILED
        result.message = f"{step.name}: {_explained(error, scene)} ({step.shown})"
    result.seconds = monotonic() - begun
    if result.outcome is Outcome.OK and result.answer is not None:
        problem = cost_problem(step.config.expect, result.answer, result.seconds)
        if problem:
            result.outcome, result.message = Outcome.FAILED, f"{step.name}: {problem} ({step.shown})"
    return result


def _skipped(step: Step, scene: Scene, why: str) -> Result:
    scene.waived.update(step.extractions)
    return Result(step.name, Outcome.SKIPPED, message=why)


def _explained(error: Exception, scene: Scene) -> str:
    if not isinstance(error, UnansweredError):
        return str(error)
    said = error.message.replace("{}", scene.discretion.name(error.host))
    return f"{said}; {error.hint}" if error.hint else said


def _holds(when: Callable[[Any], Any], scene: Scene) -> bool:
    try:
        value = when(scene.variables)
    except JMESPathError:
        raise _FailedError("`when` does not fit the variables' values") from None
    return value is not None and value is not False and value not in ("", [], {})


def _request(step: Step, scene: Scene) -> Request:
    key = scene.key(step.name)
    marks = dict(scene.marks)
    if scene.key_header and not step.config.changes_nothing:
        marks[scene.key_header] = key
    scene.variables["idempotency_key"] = key
    request = step.request(scene.variables, marks)
    scene.discretion.hide_request(request)
    return request


async def _ask(step: Step, request: Request, scene: Scene, result: Result) -> None:
    """Ask once, or until the answer is as it should be.

    Raises:
        UnansweredError, _FailedError: the step has failed.
    """
    until = step.config.until
    if until is None:
        answer = await _call(step, request, scene, scene.deadline, result)
        _take(step, answer, scene)
        _compare(step, answer, scene)
    else:
        answer = await _poll(step, until, request, scene, result)
    missing = [f"{name}: {reason}" for name, reason in _take(step, answer, scene).items()]
    if missing:
        raise _FailedError(f"cannot extract {missing[0]}{_excerpt(answer, scene)}")


async def _poll(step: Step, until: Until, request: Request, scene: Scene, result: Result) -> Answer:
    end = min(scene.deadline, monotonic() + until.within)
    asked, lacking = 0, ""
    while True:
        try:
            answer = await _call(step, request, scene, end, result)
        except UnansweredError:
            if not (asked and monotonic() >= end):
                raise
            raise _FailedError(lacking) from None  # the time was up: the answer before says more
        asked += 1
        _take(step, answer, scene)
        _compare(step, answer, scene)
        difference = step.until.first_difference(answer, scene.variables, scene.discretion) if step.until else ""
        if not difference:
            return answer
        lacking = f"still not as awaited after {asked} requests: {difference}{_excerpt(answer, scene)}"
        if monotonic() + until.every >= end:
            raise _FailedError(lacking)
        await asyncio.sleep(until.every)


async def _call(step: Step, request: Request, scene: Scene, end: float, result: Result) -> Answer:
    """One answer; a request that never left is repeated if `retry` says so, one that changes nothing in any case."""
    pause, left = _FIRST_PAUSE, step.config.retry
    while True:
        patience = end - monotonic()
        if patience <= 0:
            raise UnansweredError("no time was left for it", "raise `timeout`", reached=False)
        try:
            answer = await scene.caller.call(request, min(patience, step.config.timeout or patience))
        except UnansweredError as error:
            result.phases, result.tls = error.phases, error.tls
            result.reached = result.reached or error.reached
            again = step.config.changes_nothing or not error.reached
            if not (left and again and monotonic() + pause < end):
                raise
            left -= 1
            await asyncio.sleep(pause)
            pause *= 2
        else:
            result.answer, result.phases, result.reached = answer, answer.phases, True
            return answer


def _take(step: Step, answer: Answer, scene: Scene) -> dict[str, str]:
    """Set the variables that the answer has, be it right or wrong; returns those it does not have, and why."""
    missing = {}
    for name, take in step.extractions.items():
        try:
            scene.learn(name, take(answer))
        except NothingThereError as error:
            missing[name] = str(error)
    return missing


def _compare(step: Step, answer: Answer, scene: Scene) -> None:
    difference = step.wanted.first_difference(answer, scene.variables, scene.discretion)
    if difference:
        raise _FailedError(f"{difference}{_excerpt(answer, scene)}")


def _excerpt(answer: Answer, scene: Scene) -> str:
    text = scene.discretion.excerpt(answer)
    return f": {text}" if text else ""
