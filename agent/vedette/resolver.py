"""Floor 1: the contract of a secret resolver: what stands behind `${resolver:reference}` in a YAML file."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from vedette.check import model_of
from vedette.errors import VedetteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vedette.advice import Diagnosis
    from vedette.passwords import Login

_PATIENCE = 10.0
"""Seconds that a diagnosis waits for one answer."""


class ResolverConfig(BaseModel):
    """The options of a resolver, under `secrets:` in agent.yaml. Subclass it; unknown options are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


R = TypeVar("R", bound=ResolverConfig)


class Resolver(Generic[R]):
    """Resolves the references of one `${resolver:reference}` scheme.

    Subclass it as `Resolver[YourConfig]`, set `name`, and write `resolve`, or `mint` with `on_demand = True`. An object
    is made for each round of questions, all of which it is asked at once, on one event loop; `close` follows.
    """

    name: ClassVar[str] = ""
    """The entry point's name, and the word before the colon."""
    on_demand: ClassVar[bool] = False
    """Whether there is no value until a connection needs one: `mint` makes it, `resolve` is never called."""
    needs_tls: ClassVar[bool] = False
    """Whether what `mint` makes must not travel in the clear."""
    connection_lasts: ClassVar[float] = inf
    """Seconds after which a connection that logged in with what `mint` made is to be made anew."""
    refused: ClassVar[str] = ""
    """What to look at where a server refuses what `mint` made: the hint of whoever logs in."""
    config_class: ClassVar[type[ResolverConfig]] = ResolverConfig

    def __init__(self, config: R) -> None:
        self.config = config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        model = model_of(cls, ResolverConfig)
        if model is not None:
            cls.config_class = model

    @property
    def lasts(self) -> float:
        """Seconds that a value holds: it is asked for anew, in the background, after that time. 0: at each reload."""
        return 0.0

    @classmethod
    def objection(cls, reference: str) -> str:
        """What is wrong with a reference as it is written; empty if nothing is. No I/O."""
        return ""

    async def resolve(self, reference: str) -> str:
        """The secret behind the reference.

        Raises:
            vedette.SecretError: it cannot be had; the text never holds a value.
        """
        raise NotImplementedError

    async def mint(self, reference: str, login: Login) -> str:
        """The password for this login, made anew each time that a connection is made.

        Raises:
            vedette.SecretError: it cannot be made; the text never holds a value.
        """
        raise NotImplementedError

    async def diagnose(self, references: Mapping[str, Sequence[Login]], diagnosis: Diagnosis) -> None:
        """Look at what the references need: `vedette doctor` calls this before `close`. As it is: has each an answer?

        Say what is found with the methods of `diagnosis`, never a value.

        Args:
            references: those of the configuration; with `on_demand` for each the logins that passwords were made for
                a moment ago, as far as the instances came to that.
            diagnosis: takes what was found.
        """
        await try_each(self, references, diagnosis)

    async def close(self) -> None:
        """Called after each round of questions."""


async def try_each(resolver: Any, references: Mapping[str, Sequence[Login]], diagnosis: Diagnosis) -> None:
    """Ask for each reference, all at once, and say in their order which have an answer.

    Args:
        resolver: who resolves them, with `resolve`, or with `mint` and `on_demand`.
        references: what to ask, with logins where a password is made for each.
        diagnosis: takes what was found.
    """
    asked: list[tuple[str, Any]] = []
    for reference in references:
        name = f"${{{getattr(resolver, 'name', '')}:{reference}}}"
        if not getattr(resolver, "on_demand", False):
            asked.append((name, resolver.resolve(reference)))
        elif not references[reference]:
            diagnosis.info(name, "no connection came to asking for a password")
        asked += [
            (f"{name} for {login.username} at {login.host}:{login.port}", resolver.mint(reference, login))
            for login in references[reference]
        ]
    troubles = await asyncio.gather(*(_trouble(answer) for _, answer in asked))
    _say(((name, trouble) for (name, _), trouble in zip(asked, troubles, strict=True)), diagnosis)


def _say(troubles: Iterable[tuple[str, str]], diagnosis: Diagnosis) -> None:
    for name, trouble in troubles:
        if trouble:
            diagnosis.failed(name, trouble)
        else:
            diagnosis.ok(name, "has a value")


async def _trouble(answer: Any) -> str:
    """Why there is no answer; empty if there is one, which goes nowhere."""
    try:
        async with asyncio.timeout(_PATIENCE):
            value = await answer
    except TimeoutError:
        return f"no answer within {_PATIENCE:g}s"
    except VedetteError as error:
        return " ".join(str(error).split())
    except Exception as error:
        return f"failed ({type(error).__name__})"
    return "" if isinstance(value, str) else "the answer is no text"
