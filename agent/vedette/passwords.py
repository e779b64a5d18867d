"""Floor 0: passwords that may be made anew for each connection, from where it goes and who logs in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from vedette.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler


@dataclass(frozen=True, slots=True)
class Login:
    """What a connection is going to log in to.

    Attributes:
        protocol: what the server speaks: `postgresql`, `redis`.
        host: host name or IP address.
        port: TCP port.
        username: as whom.
    """

    protocol: str
    host: str
    port: int
    username: str


class Minted:
    """A `${resolver:reference}` of which nothing is known but who makes its value, once a connection needs it.

    Two are equal if the same resolver with the same options makes them of the same reference. It can be pickled; what
    learns its values is left behind then.

    Args:
        plugin: the resolver's class.
        config: its options, or None if it has none.
        reference: what stands behind the colon.
        learn: called with each value that is made and its login, for masking.
    """

    __slots__ = ("_loop", "_resolver", "config", "learn", "logins", "plugin", "reference")

    def __init__(
        self, plugin: type[Any], config: Any, reference: str, learn: Callable[[Login, str], None] | None = None
    ) -> None:
        self.plugin = plugin
        self.config = config
        self.reference = reference
        self.learn = learn
        self.logins: dict[Login, None] = {}
        """What it was asked for, each once."""
        self._resolver: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __str__(self) -> str:
        return f"${{{self.plugin.name}:{self.reference}}}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Minted) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self.plugin) ^ hash(self.reference)

    def __reduce__(self) -> tuple[Any, ...]:
        return Minted, (self.plugin, self.config, self.reference)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return self.plugin, self.config, self.reference

    async def make(self, login: Login) -> str:
        """The password for this login, as of now.

        Raises:
            SecretError: it cannot be made; the text never holds a value.
        """
        self.logins[login] = None
        loop = asyncio.get_running_loop()
        if self._resolver is None or self._loop is not loop:  # what it keeps, such as credentials, is of one loop
            self._resolver, self._loop = self.plugin(self.config), loop
        value: str = await self._resolver.mint(self.reference, login)
        if self.learn is not None:
            self.learn(login, value)
        return value


class Password(Secret):
    """A secret that may also be made anew for each connection: `password: Password | None = None`.

    `await password.of(login)` gives the value to log in with. `reveal()` is empty where it is made.
    """

    __slots__ = ("minted",)

    def __init__(self, value: str | Minted) -> None:
        super().__init__("" if isinstance(value, Minted) else value)
        self.minted = value if isinstance(value, Minted) else None
        """Who makes it; None if it is a fixed text."""

    async def of(self, login: Login) -> str:
        """The value to log in with.

        Raises:
            SecretError: it cannot be made.
        """
        return self.reveal() if self.minted is None else await self.minted.make(login)

    @property
    def lasts(self) -> float:
        """Seconds after which a connection that logged in with it is to be made anew; infinite if it may stay."""
        return inf if self.minted is None else float(self.minted.plugin.connection_lasts)

    @property
    def refused(self) -> str:
        """What to look at where a server does not take what was made; empty for a fixed text."""
        return "" if self.minted is None else str(self.minted.plugin.refused)

    @property
    def needs_tls(self) -> bool:
        """Whether it must not travel in the clear, and the server would not take it."""
        return self.minted is not None and bool(self.minted.plugin.needs_tls)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.minted == getattr(other, "minted", None)

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.minted))

    def __bool__(self) -> bool:
        return self.minted is not None or super().__bool__()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        text = super().__get_pydantic_core_schema__(source, handler)
        minted = core_schema.no_info_after_validator_function(cls, core_schema.is_instance_schema(Minted))
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([minted, text], mode="left_to_right"),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )
