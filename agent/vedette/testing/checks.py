"""Running a periodic check in a test, the way the agent does: open, run under the deadline, close."""

from __future__ import annotations

import asyncio
import inspect
import json
import time as clock
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vedette.check import Listener
from vedette.config.renames import options_within
from vedette.emit import Channel, Emit
from vedette.errors import CheckError
from vedette.testing.results import Results
from vedette.units import format_duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from vedette.check import Check, CheckConfig
    from vedette.metrics import Batch

_HOST = "testhost"
_CLOSE_TIMEOUT = 2.0


class CheckRun(Results):
    """What `run_check` brought back. `samples`, `statuses`, `value` and `status` speak of the last run."""


async def run_check(
    check_class: type[Check[Any]],
    options: Mapping[str, Any],
    *,
    runs: int = 1,
    state: Mapping[str, Any] | None = None,
    time: float | None = None,
) -> CheckRun:
    """Run a check with these options: validate, open, `runs` times run, close.

    A `CheckError` is a finding and ends up in `error`, the batch of its run is kept; the next run goes on. What a
    run commits, the next one sees in `self.state`. A plain `def run` gets a worker thread. The name of the
    instance is the check's, unless the options give one.

    Args:
        check_class: the check.
        options: one instance as written in YAML, with `${…}` already resolved.
        runs: how many runs, one right after the other.
        state: what earlier runs committed.
        time: Unix seconds of the first run, the others follow at the interval; None is now.

    Returns:
        What the runs said.

    Raises:
        ValueError: the options are not valid; each problem is a line of the text.
        TimeoutError: opening and running, or closing, took longer than the agent allows.
        Exception: whatever else the check raises: to the agent, a bug.
    """
    if issubclass(check_class, Listener):
        raise TypeError(f"{check_class.__name__} is a Listener: use serve_check")
    config = validated(check_class, options)
    result = CheckRun(channel_of(check_class, config), check_class.declare(config), dict(state or {}))
    check = check_class(config, MappingProxyType(result.state))
    opened = False
    async with closing(check):
        for n in range(runs):
            at = clock.time() if time is None else time + n * config.interval
            emit = Emit(result.channel, at, save=result.save)
            result.error = None
            try:
                async with deadline(f"run {n + 1}", config.deadline):
                    if not opened:
                        await check.open()
                        opened = True
                    await _run(check, emit)
            except CheckError as error:
                result.error = error
            finally:
                batch = emit.batch()
                emit.kill()  # a thread may still be talking
            accept(result, batch)
    return result


async def _run(check: Check[Any], emit: Emit) -> None:
    if inspect.iscoroutinefunction(check.run):
        await check.run(emit)
    else:
        await asyncio.to_thread(check.run, emit)


def validated(check_class: Any, options: Mapping[str, Any]) -> CheckConfig:
    """The options as the check's model; the name of the instance is the check's, unless they give one.

    Raises:
        ValueError: they are not valid; each problem is a line of the text, without values.
    """
    model: type[CheckConfig] = check_class.config_class
    for option, field in options_within(model):
        if field.deprecated is True:
            raise ValueError(f"{check_class.name}: {option}: say in `deprecated` which version removes it")
    try:
        return model.model_validate({"name": check_class.name, **options})
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, item['loc'])) or 'options'}: {item['msg']}" for item in error.errors()]
        raise ValueError("\n".join([f"{check_class.name}: these options are not valid:", *lines])) from None


def channel_of(check_class: Any, config: CheckConfig) -> Channel:
    """What the agent would make for this instance."""
    return Channel(
        f"{check_class.name}/{config.name}",
        check_class.name,
        check_class.declare(config),
        check_class.statuses,
        (*config.tags, f"instance:{config.name}"),
        open_names=check_class.open_names,
        interval=config.cadence,
        host=_HOST if check_class.host_bound and config.host_bound and config.run_on == "every_node" else "",
        names=config.metrics.compile() if config.metrics else None,
    )


def accept(result: Results, batch: Batch) -> None:
    """Take a batch over and store its commits, as the agent does once every sink has the batch.

    Raises:
        TypeError: a committed value cannot be stored: JSON does not hold it. ValueError: it is not a finite number.
    """
    result.batches.append(batch)
    for key, value in batch.commits:
        result.state[key] = json.loads(json.dumps(value, allow_nan=False))


@asynccontextmanager
async def closing(check: Any) -> AsyncIterator[None]:
    """Close the check at the end, within the agent's 2 s."""
    try:
        yield
    finally:
        async with deadline("close", _CLOSE_TIMEOUT):
            await check.close()


@asynccontextmanager
async def deadline(what: str, seconds: float) -> AsyncIterator[None]:
    """Cancel the body after so many seconds and say what took too long; a TimeoutError of its own passes through."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"{what} took longer than {format_duration(seconds)}") from None
        raise
