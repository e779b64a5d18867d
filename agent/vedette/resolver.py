"""Floor 1: the contract of a secret resolver: what stands behind `${resolver:reference}` in a YAML file."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from vedette.check import model_of

if TYPE_CHECKING:
    from vedette.passwords import Login


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

    async def close(self) -> None:
        """Called after each round of questions."""
