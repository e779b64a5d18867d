"""One run: what earlier runs left behind is taken back, the flow is performed, and what came of it is reported."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
from anyio.lowlevel import checkpoint

from vedette import Check, Diagnosis, Emit, Estimate, Metric, Remark
from vedette.kit import given, tls_context
from vedette_checks.synthetic.config import SyntheticConfig
from vedette_checks.synthetic.exchange import Caller, Rules
from vedette_checks.synthetic.extract import fields_in
from vedette_checks.synthetic.flow import Attempt, Flow, Taken, stopping, unbroken
from vedette_checks.synthetic.masking import Discretion, Fields, telling
from vedette_checks.synthetic.pending import Pending, Register
from vedette_checks.synthetic.performance import Scene
from vedette_checks.synthetic.plan import Plan
from vedette_checks.synthetic.reading import of_url
from vedette_checks.synthetic.report import METRICS, STATUSES, Report, declared
from vedette_checks.synthetic.shape import literal_variables
from vedette_checks.synthetic.step import Step
from vedette_checks.synthetic.transport import Reach


class Synthetic(Check[SyntheticConfig]):
    """Does what a customer does, step by step over HTTP, and cleans up; or checks one address."""

    name = "synthetic"
    metrics = METRICS
    statuses = STATUSES
    keeps_state = True

    @classmethod
    def declare(cls, config: SyntheticConfig) -> Iterable[Metric]:
        """One response time for each step, and what is the same for all flows."""
        return declared(config)

    @classmethod
    def lint(cls, config: SyntheticConfig) -> Iterable[str]:
        """Warns of what is not safe, and of times that do not fit together."""
        addresses = [config.base_url, config.url, *(step.target for step in config.steps)]
        if not config.verify:
            yield "verify is false: nobody knows whose server gets the requests"
        secret = config.auth or any(step.auth or "Authorization" in step.headers for step in config.steps)
        if secret and any(_is_in_the_clear(one) for one in addresses):
            yield "secrets go over http://: whoever listens on the way can read them"
        if config.schedule is None and config.patience > config.interval:
            yield "timeout is longer than interval: runs that take so long skip the next"
        for step in config.steps:
            if step.until is not None and step.until.within >= config.patience:
                yield f"step {step.name}: `until` may wait longer than the whole flow may take; raise `timeout`"
        yield from _left_behind(config)

    @classmethod
    def examine(cls, config: SyntheticConfig) -> Iterable[Remark]:
        """Finds what looks like a variable where none is replaced."""
        for group, steps in (("steps", config.flow), ("cleanup", config.cleanup)):
            for number, step in enumerate(steps):
                for place in literal_variables(step):
                    yield Remark(
                        "has a {{ name }}, which is no variable in a pattern but stands for itself",
                        "compare with `json`, or write \\{\\{",
                        of_url((group, number, *place)) if config.url else (group, number, *place),
                    )

    @classmethod
    def reaches(cls, config: SyntheticConfig) -> Iterable[str]:
        """The one address. A flow, a redirect or a proxy could lead anywhere."""
        if not config.url:
            raise ValueError("only the operator may run flows of `steps`; give a `url`")
        if config.follow_redirects:
            raise ValueError("needs `follow_redirects: false`: an answer must not lead the agent elsewhere")
        if refused := given(config, ("proxy", "max_body", "retry", "cleanup_timeout", "cleanup_attempts")):
            raise ValueError(f"only the operator may set {', '.join(refused)}")
        return (httpx.URL(config.url).host,)

    def __init__(self, config: SyntheticConfig, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._plan = _plan(config)
        self._fields = Fields(_taken_from(config))
        self._rules = Rules(config.follow_redirects, config.max_body)
        self._register = Register(self.state)
        self._report = Report(config)
        self._reach: Reach | None = None
        self._caller: Caller | None = None

    async def open(self) -> None:
        """Read the certificate files.

        Raises:
            CheckError: they cannot be used.
        """
        await checkpoint()  # anyio imports its backend at first use, which must not count as a server's response time
        config = self.config
        context = tls_context(config, verify=config.verify)
        proxy = config.proxy.reveal() if config.proxy is not None else ""
        self._reach = Reach(context, config.http2, proxy, keep=config.connections == "flow")

    @classmethod
    def acts(cls, config: SyntheticConfig) -> bool:
        """Whether a request of the flow may change something."""
        return bool(config.cleanup) or any(not step.changes_nothing for step in config.flow)

    async def estimate(self) -> Iterable[Estimate]:
        """Requests a day."""
        from vedette_checks.synthetic.costs import estimate

        return estimate(self.config)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to each server of the flow, and its clock; of the flow itself nothing is sent."""
        from vedette_checks.synthetic.doctor import diagnose

        await diagnose(self.config, diagnosis)

    async def run(self, emit: Emit) -> None:
        """Take back what is left of earlier runs, then perform the flow."""
        flow = Flow(self._plan, self._register, emit)
        earlier = await unbroken(lambda: self._take_back(flow, emit)) if self.config.cleanup else []
        run_id, until = str(uuid4()), monotonic() + self.config.patience
        attempts: list[Attempt] = []
        while self._again(attempts, until):
            attempts.append(await self._attempt(flow, emit, run_id, len(attempts) + 1, until))
        self._register.finish(emit)
        self._report.emit(emit, run_id, attempts, earlier, self._register)

    def _again(self, attempts: list[Attempt], until: float) -> bool:
        """Whether there is to be another attempt: the first, or one after a failure that is known to leave nothing."""
        if stopping() or not attempts:
            return not stopping()
        last = attempts[-1]
        if last.failure is None or not last.repeatable or monotonic() >= until:
            return False
        return len(attempts) <= self.config.retry

    async def _attempt(self, flow: Flow, emit: Emit, run_id: str, number: int, until: float) -> Attempt:
        async with self._calling() as caller:
            return await flow.attempt(self._scene(emit, caller, run_id, number, until))

    async def _take_back(self, flow: Flow, emit: Emit) -> list[tuple[Pending, Taken]]:
        """The cleanup of earlier attempts, oldest first, for as long as there is time."""
        until = monotonic() + self.config.cleanup_timeout
        made: list[tuple[Pending, Taken]] = []
        for entry in await self._register.begin(emit):
            if monotonic() >= until:
                break
            async with self._calling() as caller:
                scene = self._scene(emit, caller, entry.run_id, entry.attempt, until)
                made.append((entry, await flow.take_back(scene, entry)))
        return made

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[Caller]:
        """A caller without cookies: a new one where connections are kept, else always the same, which is cheaper."""
        if self._reach is None:
            raise RuntimeError("run before open")
        caller = self._caller or Caller(self._reach, self._rules)
        if not self._reach.keep:
            self._caller = caller
        caller.forget()
        try:
            yield caller
        finally:
            if self._caller is None:
                await caller.close()

    async def close(self) -> None:
        """Drop what is left of connections."""
        caller, self._caller = self._caller, None
        if caller is not None:
            await caller.close()

    def _scene(self, emit: Emit, caller: Caller, run_id: str, attempt: int, until: float) -> Scene:
        config = self.config
        discretion = Discretion(self._fields, emit.masked)
        for name, value in config.variables.items():
            if telling(name):
                discretion.hide(value)
        return Scene(
            caller=caller,
            run_id=run_id,
            attempt=attempt,
            marks={config.run_header: run_id} if config.run_header else {},
            key_header=config.idempotency_header,
            shown=frozenset(config.show),
            deadline=until,
            variables={**config.variables, "run_id": run_id, "flow": config.name, "now": int(time.time())},
            discretion=discretion,
        )


def _plan(config: SyntheticConfig) -> Plan:
    steps, cleanup = (
        [Step(one, config.base_url, config.headers) for one in group] for group in (config.flow, config.cleanup)
    )
    return Plan(steps, cleanup, config.cleanup_timeout, config.cleanup_attempts)


def _left_behind(config: SyntheticConfig) -> Iterator[str]:
    """Warnings about requests that may leave behind what no cleanup step takes back, or no answer tells of."""
    plan = _plan(config)
    if config.retry and (step := plan.untaken()):
        yield (
            f"`retry` will not repeat the flow once step {step} has reached the server, as no cleanup step takes it "
            "back; if it changes nothing, say `safe: true`"
        )
    if late := plan.told_late():
        yield (
            f"a run that ends between the steps {late[0]} and {late[1]} counts as left over, as {late[0]} extracts "
            "nothing; if it changes nothing, say `safe: true`"
        )


def _is_in_the_clear(address: str) -> bool:
    """Whether requests to this address can be read on the way: not those that stay on the machine."""
    host = re.match(r"http://(\[[^\]]*\]|[^:/?]*)", address)
    return host is not None and host[1] not in ("localhost", "127.0.0.1", "[::1]")


def _taken_from(config: SyntheticConfig) -> Iterator[str]:
    """The JSON fields and headers that variables come from, but for those that may be shown."""
    for step in (*config.steps, *config.cleanup):
        for name, text in step.extract.items():
            kind, _, path = text.partition(".")
            if name not in config.show and kind == "json":
                yield from fields_in(path)
            elif name not in config.show and kind == "header":
                yield path
