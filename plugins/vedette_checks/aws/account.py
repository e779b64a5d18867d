"""Calls to AWS as somebody, from the agent's event loop, which they do not keep: the SDK has a loop of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from vedette_checks.aws.caller import Caller
from vedette_checks.aws.options import Access
from vedette_checks.aws.side import Side

T = TypeVar("T")


class Account:
    """AWS as one instance sees it. Nothing is connected, and no thread runs, before the first call.

    Args:
        access: as whom, and where.
        hooks: handlers of the SDK's events by their name, such as `before-parse.cloudwatch.GetMetricData`; they run on
            another loop, in another thread.
    """

    def __init__(self, access: Access, hooks: Mapping[str, Callable[..., Any]] = MappingProxyType({})) -> None:
        self.access = access
        self.calls: Counter[tuple[str, str]] = Counter()
        """Requests sent so far, by IAM action and region; those that were throttled too."""
        self._hooks = hooks
        self._there: tuple[Side, Caller] | None = None

    async def open(self, region: str = "") -> None:
        """Find the credentials; take on the role. Later calls do nothing.

        Raises:
            CheckError: there are none, or AWS refuses the role.
        """
        await self._do(lambda caller: caller.open(region))

    async def close(self) -> None:
        """Drop the connections and what is known of the credentials. A later call begins anew."""
        there, self._there = self._there, None
        if there is not None:
            side, caller = there
            try:
                await side.do(caller.close())
            finally:
                await side.stop()

    def region(self, wanted: str = "") -> str:
        """The region that calls go to: the wanted one, else the SDK's default; known once opened.

        Raises:
            CheckError: there is none.
        """
        return wanted or self._begun()[1].region(wanted)

    async def source(self) -> str:
        """Where the credentials come from, in the SDK's words, such as `env` or `assume-role`; empty if nowhere."""
        return await self._do(lambda caller: caller.source())

    async def credentials(self) -> Any:
        """Access key, secret key and token as of now, for who signs by itself (`botocore.credentials`' read-only ones).

        Raises:
            CheckError: there are none, or they cannot be renewed.
        """
        return await self._do(lambda caller: caller.credentials())

    async def call(
        self,
        service: str,
        operation: str,
        region: str = "",
        *,
        until: float,
        lost: list[str] | None = None,
        **parameters: Any,
    ) -> Any:
        """One call, tried again with growing, random pauses while AWS throttles or fails.

        Args:
            service: the SDK's name of it, such as `cloudwatch`.
            operation: as in the API's reference, such as `GetMetricData`.
            region: where; the SDK's default if empty.
            until: until when, by `time.monotonic()`; a pause that would end later is not begun.
            lost: gets the region of each attempt that was sent and never answered, which AWS may charge for.
            parameters: of the operation.

        Returns:
            The answer, as the SDK parses it.

        Raises:
            CheckError: one sentence with the call, the region and the IAM action; `Throttled` among them.
        """
        return await self._do(lambda caller: caller.call(service, operation, region, until, parameters, lost))

    async def _do(self, work: Callable[[Caller], Coroutine[Any, Any, T]]) -> T:
        side, caller = self._begun()
        return await side.do(work(caller))

    def _begun(self) -> tuple[Side, Caller]:
        if self._there is None:
            self._there = (Side(), Caller(self.access, self._hooks, self.calls))
        return self._there
