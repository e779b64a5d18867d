"""Floor 5: `vedette doctor`: what each part of a configuration needs and lacks, and what mends it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vedette.advice import Diagnosis, Grade, Symptom
from vedette.check import Check
from vedette.config.values import minted
from vedette.doctor.house import look_at_house
from vedette.dry import NOT_ASKED, try_out
from vedette.errors import CheckError
from vedette.outbox import describe
from vedette.resolver import try_each
from vedette.runner import CLOSE_TIMEOUT, State
from vedette.sink import Home, Sink
from vedette.state import state_directory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from vedette.config import Configuration, Instance
    from vedette.dry import Trial
    from vedette.passwords import Login
    from vedette.secrets import Masker

_LEAST = 10.0
"""Seconds that a diagnosis has at least: it goes through several layers, each with a patience of its own."""
_SECRETS = 30.0
"""Seconds for all references of one resolver."""
_AT_ONCE = 20
_BADNESS = {grade: place for place, grade in enumerate(Grade)}


@dataclass(frozen=True, slots=True)
class Case:
    """What was found of one instance, sink, discovery or resolver of secrets, or of the house itself.

    Attributes:
        name: instance id, `sink <name>`, `notifier <name>`, `discovery <name>`, `fleet <name>`,
            `secrets <resolver>` or `agent`.
        symptoms: line by line.
    """

    name: str
    symptoms: tuple[Symptom, ...]

    @property
    def worst(self) -> Grade:
        """How it came out as a whole."""
        return max((one.grade for one in self.symptoms), key=_BADNESS.__getitem__, default=Grade.OK)


async def examine(configuration: Configuration, instances: Sequence[Instance], *, all_of_it: bool = True) -> list[Case]:
    """Diagnose instances, and with `all_of_it` the sinks, the secrets and the agent's files too.

    Args:
        configuration: what is configured.
        instances: which to look at.
        all_of_it: look at everything else as well.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(instance: Instance) -> list[Symptom]:
        async with gate:
            return await _diagnose_instance(instance, configuration.masker)

    found = await asyncio.gather(*map(one, instances))
    trials = await try_out(configuration, instances)
    cases = [
        Case(trial.instance.id, (*symptoms, *_of_run(trial, symptoms, configuration.masker)))
        for symptoms, trial in zip(found, trials, strict=True)
    ]
    if not all_of_it:
        return cases
    others = [
        Case(f"{kind} {config.name or plugin.name}", tuple(await _diagnose_other(made, configuration.masker)))
        for kind, plugins in _others(configuration)
        for plugin, config in plugins
        for made in [_at_home(plugin(config), configuration)]
    ]
    if configuration.fleet is not None:
        plugin, options = configuration.fleet
        others.append(
            Case(f"fleet {options.name}", tuple(await _diagnose_other(plugin(options), configuration.masker)))
        )
    secrets = await _diagnose_secrets(configuration, instances)
    house = Diagnosis(configuration.masker)
    await asyncio.to_thread(look_at_house, configuration, house)
    return [*cases, *others, *secrets, Case("agent", tuple(house.symptoms))]


def _others(configuration: Configuration) -> tuple[tuple[str, tuple[tuple[Any, Any], ...]], ...]:
    return (
        ("sink", configuration.sinks),
        ("notifier", configuration.notifiers),
        ("discovery", configuration.discoveries),
    )


async def _diagnose_secrets(configuration: Configuration, instances: Sequence[Instance]) -> list[Case]:
    """A case for each resolver that the configuration names; what the instances asked it for, they did before."""
    wanted: dict[str, dict[str, tuple[Login, ...]]] = {}
    for scheme, reference in sorted(configuration.resolvers):
        wanted.setdefault(scheme, {})[reference] = ()
    schemes = {source.plugin: scheme for (scheme, _), source in configuration.resolvers.items()}
    plugins = (*configuration.sinks, *configuration.notifiers)
    options: list[Any] = [*(one.config for one in instances), *(config for _, config in plugins)]
    options += [configuration.fleet[1]] if configuration.fleet is not None else []
    for made in minted(options):
        references = wanted[schemes[made.plugin]]
        references[made.reference] = tuple(dict.fromkeys((*references[made.reference], *made.logins)))
    return [
        Case(f"secrets {scheme}", tuple(await _diagnose_resolver(scheme, references, configuration)))
        for scheme, references in wanted.items()
    ]


async def _diagnose_resolver(
    scheme: str, references: Mapping[str, Sequence[Login]], configuration: Configuration
) -> list[Symptom]:
    diagnosis = Diagnosis(configuration.masker)

    async def ask(diagnosis: Diagnosis) -> None:
        resolver = configuration.resolvers[scheme, next(iter(references))].make()
        try:
            if hasattr(resolver, "diagnose"):
                await resolver.diagnose(references, diagnosis)
            else:
                await try_each(resolver, references, diagnosis)
        finally:
            if hasattr(resolver, "close"):
                await resolver.close()

    await _within(_SECRETS, ask, diagnosis)
    return diagnosis.symptoms


async def _diagnose_instance(instance: Instance, masker: Masker) -> list[Symptom]:
    diagnosis = Diagnosis(masker)
    if instance.config.isolate:
        if instance.plugin.diagnose is not Check.diagnose:
            diagnosis.info("diagnosis", NOT_ASKED, "`isolate: false` has it asked, in this process")
        return diagnosis.symptoms
    try:
        check: Any = instance.plugin(instance.config, {})
    except Exception as error:
        diagnosis.failed("check", f"the check failed: {describe(error)}")
        return diagnosis.symptoms
    await _within(max(_LEAST, instance.config.deadline), check.diagnose, diagnosis)
    await _within(CLOSE_TIMEOUT, _closing(check), Diagnosis())
    return diagnosis.symptoms


def _closing(check: Any) -> Callable[[Diagnosis], Awaitable[None]]:
    async def close(_: Diagnosis) -> None:
        await check.close()

    return close


def _at_home(plugin: Any, configuration: Configuration) -> Any:
    """The plugin's object; a sink knows where the agent would have it keep things."""
    if isinstance(plugin, Sink):
        plugin.home = Home(state_directory(configuration.agent.state_directory, os.environ))
    return plugin


async def _diagnose_other(plugin: Any, masker: Masker) -> list[Symptom]:
    """What a sink or a discovery says of itself."""
    diagnosis = Diagnosis(masker)
    await _within(_LEAST, plugin.diagnose, diagnosis)
    return diagnosis.symptoms


async def _within(seconds: float, ask: Callable[[Diagnosis], Awaitable[None]], diagnosis: Diagnosis) -> None:
    """Have something diagnosed; that it fails or takes too long becomes a line of its own."""
    try:
        async with asyncio.timeout(seconds):
            await ask(diagnosis)
    except TimeoutError:
        diagnosis.failed("diagnosis", f"took longer than {seconds:g}s", "the target hangs, or is busy")
    except CheckError as error:
        diagnosis.failed("diagnosis", error.message, error.hint)
    except Exception as error:
        diagnosis.failed("diagnosis", f"the plugin failed: {describe(error)}", "it is a fault of the plugin")


def _of_run(trial: Trial, before: Sequence[Symptom], masker: Masker) -> list[Symptom]:
    """The line about a run. One that only repeats what was found before it is but a remark."""
    diagnosis, vitals = Diagnosis(masker), trial.vitals
    if trial.refrained:
        diagnosis.info("run", trial.refrained)
    elif vitals.state is State.OK:
        diagnosis.ok("run", f"{vitals.samples} samples")
    elif vitals.state is State.WARNING:
        diagnosis.warning("run", vitals.message, vitals.hint)
    elif any(one.grade is Grade.FAILED for one in before):
        diagnosis.not_reached("run", vitals.message)
    else:
        diagnosis.failed("run", vitals.message, vitals.hint)
    return diagnosis.symptoms
