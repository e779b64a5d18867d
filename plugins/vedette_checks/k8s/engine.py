"""The fleet's records in a Kubernetes cluster: Leases, written only where their resourceVersion is the known one.

Traps of that API, each of which would let two agents own one thing: a PUT with a resourceVersion *creates* a Lease that
was deleted, unless it names the uid, too (leases allow to create on update); a patch without resourceVersion always
succeeds; `resourceVersion=0` reads from a cache that may lag behind. So only PUT with both, and reads without.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TypeVar

import msgspec
from pydantic import Field, field_validator, model_validator

from vedette import (
    CheckError,
    Diagnosis,
    Engine,
    EngineConfig,
    EngineConflict,
    EngineRecord,
    EngineUnavailable,
    hookimpl,
)
from vedette_checks.k8s.access import SERVICE_ACCOUNT, Access
from vedette_checks.k8s.client import Client, Query
from vedette_checks.k8s.decode import MARK, event_of
from vedette_checks.k8s.errors import ApiError, Fault, of_event
from vedette_checks.k8s.findings import of_server
from vedette_checks.k8s.leases import FLEET, KIND, KINDS, LEASE, LEASES, Lease, Writing, name_of
from vedette_checks.k8s.splitting import Lines

T = TypeVar("T")

_PAGE = "500"
_SILENCE = 100.0  # seconds: a bookmark comes once a minute
_LIFETIME = "600"  # seconds of a watch
_SHORT = 1.0  # seconds: a watch that ends sooner and told nothing does not work
_WAIT = 1.0  # seconds, where an overloaded server does not say how long
_ATTEMPTS = 3  # of a list whose pages expire
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class KubernetesEngineConfig(EngineConfig):
    """The options of `fleet:` with `backend: kubernetes`."""

    kubeconfig: Path | None = Field(
        None,
        description="How to reach the cluster. Default: the pod's service account.",
        examples=["/etc/vedette/kubeconfig"],
    )
    context: str = Field("", description="Context of the kubeconfig. Default: its current one.", examples=["prod"])
    namespace: str = Field(
        "", description="Namespace of the leases. Default: the agent's own, in a pod.", examples=["vedette"]
    )

    @field_validator("namespace")
    @classmethod
    def _label(cls, value: str) -> str:
        if value and not _LABEL.fullmatch(value):
            raise ValueError("must be the name of a namespace: lower-case letters, digits and dashes")
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> KubernetesEngineConfig:
        if self.kubeconfig is not None and not self.namespace:
            raise ValueError("`kubeconfig` needs `namespace`: outside a pod there is no namespace of its own")
        return self

    def home(self) -> str:
        """Namespace of the leases.

        Raises:
            CheckError: it is not given, and this is no pod.
        """
        if self.namespace:
            return self.namespace
        try:
            return (SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        except OSError:
            raise CheckError("this is no pod, so the fleet's leases have no home", hint="set `namespace`") from None


class KubernetesEngine(Engine[KubernetesEngineConfig]):
    """Keeps the fleet's records as Leases in one namespace of a Kubernetes cluster."""

    name = "kubernetes"

    def __init__(self, config: KubernetesEngineConfig) -> None:
        super().__init__(config)
        self._patience = config.ttl / 3
        self._client = Client(Access(config.kubeconfig, config.context))
        self._known: dict[str, Lease] = {}
        """By key, as they were read or written last, without their values."""
        self._home = ""

    async def read(self, prefix: str) -> list[EngineRecord]:
        """See `Engine`: lists by label, from etcd."""
        kinds = [kind for kind in KINDS if f"{kind}/".startswith(prefix) or prefix.startswith(f"{kind}/")]
        if not kinds:
            return []
        leases = await self._timely(lambda: self._list(kinds), "list leases")
        found = [lease for lease in leases if lease.notes.key.startswith(prefix)]
        for key in [key for key in self._known if key.startswith(prefix)]:
            del self._known[key]
        for lease in found:
            self._note(lease)
        return [lease.record for lease in found]

    async def get(self, key: str) -> EngineRecord | None:
        """See `Engine`."""
        lease = await self._timely(lambda: self._get(key), "get leases")
        return None if lease is None else lease.record

    async def write(self, key: str, value: str, revision: str | None, guard: EngineRecord | None = None) -> str:
        """See `Engine`; the guard is ignored, since etcd does not forget what it has acknowledged."""

        nonce = secrets.token_hex(8)

        async def once() -> str:
            path = self._path() if revision is None else self._path(key)
            writing = Writing(self.config.name, self._home, self.config.ttl, key, value, self.gist(value), nonce)
            lease = writing.lease(revision, self._known.get(key))
            method: Literal["POST", "PUT"] = "POST" if revision is None else "PUT"
            try:
                answer = await self._client.write(method, path, lease, self._limit(), patience=self._patience)
            except ApiError as error:
                if error.status == 409 and revision is not None:
                    return await self._settled(key, nonce)
                raise
            made = LEASE.decode(answer)
            self._note(made)
            return made.revision

        return await self._timely(once, "create leases" if revision is None else "update leases", key)

    async def _settled(self, key: str, nonce: str) -> str:
        """The revision that a refused write has made nevertheless: it was sent twice, and the first one got through."""
        lease = await self._get(key)
        if lease is None or lease.notes.write != nonce:
            raise EngineConflict(f"{key} is not what it was")
        return lease.revision

    async def remove(self, key: str, revision: str) -> None:
        """See `Engine`."""

        async def once() -> None:
            uid, _, version = revision.partition("/")
            options = {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": uid, "resourceVersion": version},
            }
            try:
                await self._client.write("DELETE", self._path(key), options, self._limit(), patience=self._patience)
            except ApiError as error:
                if error.status != 404:
                    raise
            self._known.pop(key, None)

        await self._timely(once, "delete leases", key)

    async def changes(self) -> AsyncIterator[None]:
        """See `Engine`: a watch of members and claims, which goes on where it was."""
        gists = {key: lease.notes.gist for key, lease in self._known.items()}
        version = await self._timely(self._version, "list leases")
        yield
        while True:
            begun, told, lines = monotonic(), False, Lines()
            query = {**self._selector("members", "claims"), "watch": "true", "allowWatchBookmarks": "true"}
            query |= {"resourceVersion": version, "timeoutSeconds": _LIFETIME}
            try:
                async with self._client.stream(self._path(), query, silence=_SILENCE, answer=self._patience) as stream:
                    async for part in stream:
                        news = False
                        for line in lines.feed(part):
                            version, fresh = _event(line, gists, version)
                            news, told = news or fresh, True
                        if news:
                            yield
            except (ApiError, CheckError, msgspec.MsgspecError) as error:
                raise _unavailable(error, "watch leases") from None
            if not told and monotonic() - begun < _SHORT:
                raise EngineUnavailable("the watch of leases ends as soon as it begins; is a proxy in between?")

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.access.close()

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """The way to the API server, the login, and the rights to the leases."""
        from vedette_checks.k8s.engine_doctor import diagnose

        await diagnose(self.config, diagnosis)

    # Requests

    def _path(self, key: str = "") -> str:
        self._home = self._home or self.config.home()
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._home}/leases"
        return f"{path}/{name_of(self.config.name, key)}" if key else path

    def _limit(self) -> Query:
        """The server gives up when nobody waits any more: a write must not come late."""
        return {"timeout": f"{int(self._patience * 1000)}ms"}

    def _selector(self, *kinds: str) -> Query:
        labels = ",".join(KINDS[kind] for kind in kinds)
        return {"labelSelector": f"{FLEET}={self.config.name},{KIND} in ({labels})"}

    async def _get(self, key: str) -> Lease | None:
        try:
            lease = LEASE.decode(await self._client.get(self._path(key), self._limit(), patience=self._patience))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        self._note(lease)
        return lease

    async def _list(self, kinds: list[str]) -> list[Lease]:
        for attempt in range(_ATTEMPTS):
            found: list[Lease] = []
            query = {**self._selector(*kinds), "limit": _PAGE, **self._limit()}
            try:
                while True:
                    page = LEASES.decode(await self._client.get(self._path(), query, patience=self._patience))
                    found += page.items or ()
                    if not page.metadata.token:
                        return found
                    query["continue"] = page.metadata.token
            except ApiError as error:
                if error.fault is not Fault.EXPIRED or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError  # never reached

    async def _version(self) -> str:
        query = {**self._selector("members", "claims"), "limit": "1", **self._limit()}
        return LEASES.decode(await self._client.get(self._path(), query, patience=self._patience)).metadata.version

    def _note(self, lease: Lease) -> None:
        notes = msgspec.structs.replace(lease.notes, value="")
        meta = msgspec.structs.replace(lease.metadata, annotations=notes)
        self._known[notes.key] = msgspec.structs.replace(lease, metadata=meta)

    async def _timely(self, request: Callable[[], Awaitable[T]], what: str, key: str = "") -> T:
        """A request within its time; again where the server is overloaded and has not looked at it.

        Raises:
            EngineConflict: HTTP 409. EngineUnavailable: whatever else came of it.
        """
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    try:
                        return await request()
                    except ApiError as error:
                        if error.status != 429:
                            raise
                        await asyncio.sleep(_WAIT if error.retry_after is None else error.retry_after)
        except ApiError as error:
            if error.status == 409 and key:
                there = what.startswith("create")
                raise EngineConflict(f"{key} is there already" if there else f"{key} is not what it was") from None
            raise _unavailable(error, what) from None
        except TimeoutError:
            late = ApiError(Fault.UNREACHABLE, f"no answer within {self._patience:.3g}s")
            raise _unavailable(late, what) from None
        except (CheckError, msgspec.MsgspecError) as error:
            raise _unavailable(error, what) from None


def _event(line: bytes, gists: dict[str, str], version: str) -> tuple[str, bool]:
    """The version after an event of a watch, and whether it is news; keeps the gists by key."""
    kind, raw = event_of(line)
    if kind == "ERROR":
        raise of_event(raw)
    if kind == "BOOKMARK":
        return MARK.decode(raw).version or version, False
    lease = LEASE.decode(raw)
    key, gist = lease.notes.key, lease.notes.gist
    before = gists.pop(key, None)
    if kind != "DELETED":
        gists[key] = gist
    return lease.metadata.resource_version or version, kind != "MODIFIED" or gist != before


def _unavailable(error: Exception, what: str) -> EngineUnavailable:
    if isinstance(error, msgspec.MsgspecError):
        return EngineUnavailable(f"cannot {what}: the API server answers what is no JSON of a Lease")
    if isinstance(error, ApiError) and error.fault is Fault.FORBIDDEN:
        return EngineUnavailable(f"may not {what}: {error.message}; see packaging/kubernetes/rbac-fleet.yaml")
    if isinstance(error, ApiError) and error.fault is Fault.ABSENT:
        return EngineUnavailable(f"cannot {what}: {error.message}; does the namespace exist?")
    assert isinstance(error, ApiError | CheckError)  # noqa: S101 - nothing else is raised
    found = of_server(error)
    return EngineUnavailable(f"cannot {what}: {found}")


@hookimpl
def register_engines(register: Callable[[type[Engine[Any]]], None]) -> None:
    """Offer the engine to the agent."""
    register(KubernetesEngine)
