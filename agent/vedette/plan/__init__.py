"""Floor 5: `vedette plan`: what a configuration will emit and cost, from some dry runs of it."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vedette.advice import Estimate
from vedette.agent import agent_tags
from vedette.check import Check, Listener
from vedette.dry import NOT_ASKED, try_out
from vedette.errors import CheckError
from vedette.outbox import describe
from vedette.plan.figures import MONTH, Figures, figures, runs_a_month, series_of, usd_a_month
from vedette.plan.figures import billed as count_billed
from vedette.report import SelfReport, SinkVitals
from vedette.runner import HEALTH_METRICS, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vedette.config import Configuration
    from vedette.config.model import PlanConfig
    from vedette.dry import Trial
    from vedette.metrics import Batch
    from vedette.sink import SinkConfig

_HEALTH = frozenset(metric.name for metric in HEALTH_METRICS)
_UNMEASURED = (State.FAILING, State.STUCK)


@dataclass(frozen=True, slots=True)
class Line:
    """One instance in the plan, or what the agent emits of its own.

    Attributes:
        id: instance id, or `health_check` and `vedette/agent`.
        state: where the dry runs left it; `not run` if there were none.
        message: why it could not be measured, or what is wrong; empty while all is well.
        hint: how to mend it.
        figures: what it emits; None where that could not be measured.
        usd_per_month: what its custom metrics cost, nothing being included.
        budget: most series it may have; None without a budget.
        estimates: the check's own lines.
    """

    id: str
    state: str
    message: str = ""
    hint: str = ""
    figures: Figures | None = None
    usd_per_month: float = 0.0
    budget: int | None = None
    estimates: tuple[Estimate, ...] = ()

    @property
    def exceeded(self) -> bool:
        """Whether it has more series than its budget allows."""
        return self.budget is not None and self.figures is not None and self.figures.series > self.budget


@dataclass(frozen=True, slots=True)
class SinkLine:
    """What one sink gets of it all, by its own `metrics:`.

    Attributes:
        name: the sink's name.
        series: distinct series.
        custom_metrics: what Datadog bills them as; 0 for a sink that sends elsewhere.
        usd_per_month: what that costs beyond what is included.
        exceeded: the budgets that it exceeds, in words.
    """

    name: str
    series: int
    custom_metrics: int
    usd_per_month: float
    exceeded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `vedette plan` says.

    Attributes:
        instances: one line each, in configuration order.
        agent: what the agent itself emits.
        total: of all lines that were measured.
        sinks: what each of them gets.
        if_billed: what it would cost if a sink sent it all to Datadog.
    """

    instances: tuple[Line, ...]
    agent: tuple[Line, ...]
    total: Figures
    sinks: tuple[SinkLine, ...]
    if_billed: float

    @property
    def exceeded(self) -> bool:
        """Whether any budget is exceeded."""
        return any(line.exceeded for line in self.instances) or any(sink.exceeded for sink in self.sinks)

    @property
    def unmeasured(self) -> tuple[Line, ...]:
        """The instances that were run and could not be measured."""
        return tuple(line for line in self.instances if line.state in _UNMEASURED)


async def make_plan(configuration: Configuration, runs: int, *, acting: bool = False, pause: float = 1.0) -> Plan:
    """Run every instance some times without sending anything, and count.

    Args:
        configuration: what to plan.
        runs: how often; with one, what is only known by comparison with the run before is missing.
        acting: also run what changes something at its target.
        pause: seconds between two runs.
    """
    estimates: dict[str, tuple[Estimate, ...]] = {}

    async def ask(check: Any, trial: Trial) -> None:
        if trial.vitals.state not in _UNMEASURED:
            estimates[trial.instance.id] = await _estimates(check, trial, configuration)

    trials = await try_out(configuration, configuration.instances, runs, pause=pause, acting=acting, ask=ask)
    for trial in trials:
        if trial.refrained and issubclass(trial.instance.plugin, Listener):  # it need not run to be asked
            plugin = trial.instance.plugin
            estimates[trial.instance.id] = await _estimates(plugin(trial.instance.config), trial, configuration)
    options = configuration.agent.plan
    lines = tuple(_line(trial, options, estimates.get(trial.instance.id, _unasked(trial))) for trial in trials)
    measured = [trial for trial in trials if trial.batches and trial.vitals.state not in _UNMEASURED]
    health = [_only_health(trial.batches) for trial in trials]
    report = _report(configuration, trials)
    own = (_health_line(trials, health, options), _agent_line(report, configuration))
    batches = [*(batch for trial in measured for batch in _without_health(trial.batches)), report]
    batches += [batch for some in health for batch in some]
    total = _total([*lines, *own], batches)
    sinks = tuple(_sink_line(plugin.billed, config, batches, options) for plugin, config in configuration.sinks)
    return Plan(lines, own, total, sinks, _usd(total.custom_metrics, options))


async def _estimates(check: Any, trial: Trial, configuration: Configuration) -> tuple[Estimate, ...]:
    try:
        async with asyncio.timeout(trial.instance.config.deadline):
            return tuple(await check.estimate())
    except TimeoutError:
        return (Estimate("estimates", None, hint="they took longer than the instance's timeout"),)
    except CheckError as error:
        return (Estimate("estimates", None, hint=configuration.masker(error.message)),)
    except Exception as error:
        return (Estimate("estimates", None, hint=configuration.masker(f"the check failed: {describe(error)}")),)


def _unasked(trial: Trial) -> tuple[Estimate, ...]:
    """The line of a check that has estimates to give and could not be asked."""
    if not trial.vitals.isolated or trial.instance.plugin.estimate is Check.estimate:
        return ()
    return (Estimate("estimates", None, hint=NOT_ASKED),)


def _line(trial: Trial, options: PlanConfig, estimates: tuple[Estimate, ...]) -> Line:
    name, vitals = trial.instance.id, trial.vitals
    budget = options.budget.instances.get(name, options.budget.series)
    if trial.refrained:
        return Line(name, "not run", trial.refrained, _how_to_run(trial), budget=budget, estimates=estimates)
    if vitals.state in _UNMEASURED:
        return Line(name, vitals.state.value, vitals.message, vitals.hint, budget=budget)
    batches = _without_health(trial.batches)
    found = figures(series_of(batches), batches[-1].samples, runs_a_month(trial.instance.config))
    cost = usd_a_month(found.custom_metrics, 0, options.usd_per_100_custom_metrics)
    return Line(name, vitals.state.value, vitals.message, vitals.hint, found, cost, budget, estimates)


def _how_to_run(trial: Trial) -> str:
    return "--acting runs it" if hasattr(trial.instance.plugin, "run") else ""


def _without_health(batches: Iterable[Batch]) -> list[Batch]:
    return [replace(batch, samples=tuple(one for one in batch.samples if one.name not in _HEALTH)) for batch in batches]


def _only_health(batches: Iterable[Batch]) -> list[Batch]:
    return [replace(batch, samples=tuple(one for one in batch.samples if one.name in _HEALTH)) for batch in batches]


def _health_line(trials: Sequence[Trial], health: Sequence[list[Batch]], options: PlanConfig) -> Line:
    """What the agent adds to each instance's batches, of those that are down too."""
    found = figures(series_of(batch for some in health for batch in some), (), 0.0)
    pairs = [(some[-1].samples, runs_a_month(trial.instance.config)) for trial, some in zip(trials, health, strict=True)
             if some]  # fmt: skip
    found = replace(
        found,
        points_per_interval=sum(len(samples) for samples, _ in pairs),
        points_per_month=round(sum(len(samples) * runs for samples, runs in pairs)),
    )
    return Line("health_check", "ok", figures=found, usd_per_month=_raw_usd(found, options))


def _report(configuration: Configuration, trials: Sequence[Trial]) -> Batch:
    """The agent's own batch, as the running agent would send it."""
    options = configuration.agent
    report = SelfReport(
        agent_tags(options.tags, os.environ),
        options.hostname or socket.gethostname(),
        options.report_interval,
        configuration.masker,
    )
    sinks = [SinkVitals(config.name or plugin.name, 0, 0, 0, 0, "") for plugin, config in configuration.sinks]
    vitals = [replace(trial.vitals, runs=max(1, trial.vitals.runs)) for trial in trials]
    return report.batch(vitals, sinks, 0, configuration.problems)


def _agent_line(report: Batch, configuration: Configuration) -> Line:
    found = figures(series_of([report]), report.samples, MONTH / configuration.agent.report_interval)
    return Line("vedette/agent", "ok", figures=found, usd_per_month=_raw_usd(found, configuration.agent.plan))


def _total(lines: Iterable[Line], batches: Iterable[Batch]) -> Figures:
    known = [line.figures for line in lines if line.figures is not None]
    return replace(
        figures(series_of(batches), (), 0.0),
        points_per_interval=sum(one.points_per_interval for one in known),
        points_per_month=sum(one.points_per_month for one in known),
    )


def _sink_line(billed: bool, config: SinkConfig, batches: Iterable[Batch], options: PlanConfig) -> SinkLine:
    names = config.metrics.compile()
    kept = {
        (name, tags, host): kind
        for (old, tags, host), kind in series_of(batches).items()
        if (name := names(old)) is not None
    }
    custom = count_billed(kept) if billed else 0
    cost, budget = _usd(custom, options), options.budget
    exceeded = []
    if budget.custom_metrics is not None and custom > budget.custom_metrics:
        exceeded.append(f"{custom} custom metrics, the budget is {budget.custom_metrics}")
    if budget.usd_per_month is not None and cost > budget.usd_per_month:
        exceeded.append(f"${cost:.2f} a month, the budget is ${budget.usd_per_month:.2f}")
    return SinkLine(config.name or config.type, len(kept), custom, cost, tuple(exceeded))


def _usd(custom_metrics: int, options: PlanConfig) -> float:
    return usd_a_month(custom_metrics, options.included, options.usd_per_100_custom_metrics)


def _raw_usd(found: Figures, options: PlanConfig) -> float:
    return usd_a_month(found.custom_metrics, 0, options.usd_per_100_custom_metrics)
