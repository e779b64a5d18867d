"""Who calls AWS: clients that are kept, credentials that are renewed, pauses while AWS throttles."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from aiobotocore.credentials import AioRefreshableCredentials
from botocore import xform_name
from botocore.exceptions import EndpointConnectionError

from vedette import CheckError
from vedette_checks.aws import sdk
from vedette_checks.aws.findings import Unreachable, finding, no_credentials, temporary, unanswered
from vedette_checks.aws.options import Access
from vedette_checks.aws.policy import action

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_READ_TIMEOUT = 20.0
_SESSION_NAME = "vedette"


class Caller:
    """Everything here runs on one loop: that of an account's side.

    Args:
        access: as whom, and where.
        hooks: handlers of the SDK's events by their name.
        calls: counts requests by IAM action and region.
    """

    def __init__(
        self, access: Access, hooks: Mapping[str, Callable[..., Any]], calls: Counter[tuple[str, str]]
    ) -> None:
        self._access = access
        self._hooks = hooks
        self._calls = calls
        self._config = sdk.options(access.connect_timeout, _READ_TIMEOUT)
        self._base: Any = None
        self._session: Any = None
        self._clients: dict[tuple[str, str, bool], Any] = {}
        self._opening, self._making = asyncio.Lock(), asyncio.Lock()

    async def open(self, region: str) -> None:
        """Find the credentials; take on the role. Later calls do nothing."""
        async with self._opening:
            if self._session is None:
                try:
                    self._session = await self._sign_in(region)
                except Exception as error:
                    raise finding(error, "credentials", "", time.time()) from None

    async def close(self) -> None:
        """Drop the connections."""
        for client in self._clients.values():
            await client.__aexit__(None, None, None)

    def region(self, wanted: str) -> str:
        """The region that calls go to."""
        found = wanted or (self._session and self._session.get_config_variable("region"))
        if not found:
            raise CheckError("no region is given", hint="set `region`, AWS_REGION or the profile's region")
        return str(found)

    async def source(self) -> str:
        """Where the credentials come from."""
        found = None if self._base is None else await self._base.get_credentials()
        return "" if found is None else str(found.method)

    async def credentials(self) -> Any:
        """Access key, secret key and token as of now."""
        await self.open("")
        try:
            found = await self._session.get_credentials()
            return await found.get_frozen_credentials()
        except Exception as error:
            raise finding(error, "credentials", "", time.time()) from None

    async def call(
        self,
        service: str,
        operation: str,
        region: str,
        until: float,
        parameters: Mapping[str, Any],
        lost: list[str] | None = None,
    ) -> Any:
        """One call, tried again while that makes sense; `lost` gets the region of each attempt without an answer."""
        await self.open(region)
        where, unknown = self.region(region), [] if lost is None else lost
        return await self._call(service, operation, where, until, parameters, unknown)

    async def _call(
        self,
        service: str,
        operation: str,
        region: str,
        until: float,
        parameters: Mapping[str, Any],
        lost: list[str],
        base: bool = False,
    ) -> Any:
        name, attempt = action(service, operation), 0
        while True:
            try:
                client = await self._client(service, region, base)
                left = until - monotonic()
                if left <= 0:
                    raise Unreachable(f"{region}: {name}: no time was left for it", hint="raise timeout")
                self._calls[name, region] += 1
                async with asyncio.timeout(left):
                    return await getattr(client, xform_name(operation))(**parameters)
            except TimeoutError:
                lost.append(region)
                raise Unreachable(f"{region}: {name}: no answer in time", hint="the next run tries again") from None
            except Exception as error:
                if unanswered(error):
                    lost.append(region)
                pause = random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))  # noqa: S311
                attempt += 1
                if not temporary(error) or monotonic() + pause >= until:
                    regions = await self._regions(error, service)
                    raise finding(error, name, region, time.time(), regions) from None
            await asyncio.sleep(pause)

    async def _regions(self, error: BaseException, service: str) -> list[str]:
        """The names of all regions, where an endpoint of AWS itself cannot be reached."""
        if not isinstance(error, EndpointConnectionError) or self._access.endpoint_url:
            return []
        partitions = self._base.get_available_partitions()
        return [name for one in partitions for name in await self._base.get_available_regions(service, one)]

    async def _client(self, service: str, region: str, base: bool) -> Any:
        key = (service, region, base)
        async with self._making:
            if key not in self._clients:
                session = self._base if base else self._session
                url = self._access.endpoint_url or None
                context = session.create_client(service, region_name=region, endpoint_url=url, config=self._config)
                made = self._clients[key] = await context.__aenter__()
                sdk.settle(service)
                for event, handler in self._hooks.items():
                    made.meta.events.register(event, handler)
        return self._clients[key]

    async def _sign_in(self, region: str) -> Any:
        base = sdk.session(self._access.profile)
        if await base.get_credentials() is None:
            raise no_credentials()
        self._base = base
        if not self._access.role_arn:
            return base
        session = sdk.session(self._access.profile)
        renew = self._assume(region or str(base.get_config_variable("region") or "us-east-1"))
        credentials = AioRefreshableCredentials.create_from_metadata(
            metadata=await renew(), refresh_using=renew, method="assume-role"
        )
        session.register_component("credential_provider", _Provider(credentials))
        return session

    def _assume(self, region: str) -> Callable[[], Awaitable[dict[str, Any]]]:
        """What takes on the role, again and again."""
        wanted = {"RoleArn": self._access.role_arn, "RoleSessionName": _SESSION_NAME}
        if self._access.external_id:
            wanted["ExternalId"] = self._access.external_id

        async def renew() -> dict[str, Any]:
            answer = await self._call("sts", "AssumeRole", region, monotonic() + _READ_TIMEOUT, wanted, [], base=True)
            given = answer["Credentials"]
            return {
                "access_key": given["AccessKeyId"],
                "secret_key": given["SecretAccessKey"],
                "token": given["SessionToken"],
                "expiry_time": given["Expiration"].isoformat(),
            }

        return renew


class _Provider:
    """Stands where the SDK's own chain would be."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> Any:
        return self._credentials
