"""A small API server for Leases: `python lease_server.py PORT [JOURNAL]`, or inside a test, which may see its requests.

Besides leases it has what a doctor asks for: the version, who one is, access reviews, namespaces. `POST /faults` with a
JSON object of `Fault`'s fields makes the next requests go wrong.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))
from lease_store import GROUP, Change, LeaseStore, Object, Refusal, selects
from listening import cut_off, stop_accepting

ALL = frozenset({"create", "delete", "get", "list", "patch", "update", "watch"})
_LEASES = re.compile(rf"/apis/{GROUP}/v1(?:/namespaces/([^/]+))?/leases(?:/([^/]+))?")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_BOOKMARKS = 60.0  # seconds


@dataclass
class Fault:
    """What goes wrong with some requests.

    Attributes:
        verbs: of which requests.
        times: how many of them.
        does: `refuse` with `status`, `hang` without an answer, `hang up`.
        executed: whether it is done nevertheless.
        status: HTTP status.
        retry_after: header of that name, seconds.
        text: the body.
    """

    verbs: list[str]
    times: int = 1
    does: str = "refuse"
    executed: bool = False
    status: int = 500
    retry_after: int | None = None
    text: str = "something went wrong"


@dataclass
class LeaseApi:
    """The HTTP side.

    Attributes:
        store: the Leases.
        tokens: user by bearer token; empty lets anybody in.
        allowed: verbs that users may.
        bookmarks: seconds between two.
        seen: verb, path and query of the requests for leases that came.
    """

    store: LeaseStore = field(default_factory=LeaseStore)
    tokens: dict[str, str] = field(default_factory=dict)
    allowed: frozenset[str] = ALL
    bookmarks: float = _BOOKMARKS
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    pages: dict[str, list[Object]] = field(default_factory=dict)
    port: int = 0
    _runner: web.AppRunner | None = None
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        application = web.Application(client_max_size=4 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.02, handle_signals=False, handler_cancellation=True
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._runner.server, "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._runner is not None and self._server is not None:
            await stop_accepting(self._server)
            self.cut()
            await self._runner.cleanup()
            await cut_off(self._server)
        self._runner = self._server = None

    def cut(self) -> None:
        """Cut every connection without a word."""
        if self._runner is not None and self._runner.server is not None:
            for connection in list(self._runner.server.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()

    # Requests

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._respond(request)
        except Refusal as refusal:
            return _json(refusal.status, refusal.code)
        except ConnectionResetError:
            return web.Response()

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/faults":
            self.faults.append(Fault(**await request.json()))
            return web.Response()
        user = self._user(request)
        place = _LEASES.fullmatch(request.path)
        if place is None:
            return await self._beside(request, user)
        namespace, name = place[1] or "", place[2] or ""
        verb = _VERBS.get(request.method) or ("get" if name else "watch" if _true(request, "watch") else "list")
        self.seen.append((verb, request.path, dict(request.query)))
        if user == "system:anonymous" or verb not in self.allowed:
            raise _forbidden(user, verb, namespace, name)
        fault = next((one for one in self.faults if one.times > 0 and verb in one.verbs), None)
        if fault is None:
            return await self._answer(request, verb, namespace, name)
        fault.times -= 1
        if fault.executed:
            await self._answer(request, verb, namespace, name)
        if fault.does == "hang":
            await asyncio.Event().wait()
        if fault.does == "hang up":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return web.Response(status=fault.status, text=fault.text, headers=headers)

    def _user(self, request: web.Request) -> str:
        given = request.headers.get("Authorization", "")
        if not self.tokens:
            return "agent"
        if not given:
            return "system:anonymous"
        user = self.tokens.get(given.removeprefix("Bearer "))
        if user is None:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        return user

    async def _beside(self, request: web.Request, user: str) -> web.StreamResponse:
        if request.path == "/version":
            return _json({"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
        kind = request.path.rpartition("/")[2]
        if kind == "selfsubjectreviews":
            return _json({"kind": "SelfSubjectReview", "status": {"userInfo": {"username": user}}}, 201)
        if kind == "selfsubjectaccessreviews":
            wanted = (await request.json())["spec"]["resourceAttributes"]
            yes = wanted["resource"] == "leases" and wanted["verb"] in self.allowed
            return _json({"kind": "SelfSubjectAccessReview", "status": {"allowed": yes}}, 201)
        if found := re.fullmatch(r"/api/v1/namespaces/([^/]+)", request.path):
            if self.store.namespaces is not None and found[1] not in self.store.namespaces:
                details = {"name": found[1], "kind": "namespaces"}
                raise Refusal(404, "NotFound", f'namespaces "{found[1]}" not found', details)
            return _json({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": found[1]}})
        return web.Response(status=404, text="404 page not found\n")

    async def _answer(self, request: web.Request, verb: str, namespace: str, name: str) -> web.StreamResponse:
        if verb == "get":
            return _json(self.store.get(namespace, name))
        if verb == "list":
            return _json(self._list(namespace, request.query))
        if verb == "watch":
            return await self._watch(request, namespace)
        body, manager = await _body(request), request.headers.get("User-Agent", "unknown").partition("/")[0]
        made, status = self._write(verb, namespace, name, body, manager)
        async with self.store.news:
            self.store.news.notify_all()
        return _json(made, status)

    def _write(self, verb: str, namespace: str, name: str, body: Object, manager: str) -> tuple[Object, int]:
        store = self.store
        if verb == "create":
            return store.create(namespace, body, manager), 201
        if verb == "update":
            made, created = store.replace(namespace, name, body, manager)
            return made, 201 if created else 200
        if verb == "patch":
            return store.patch(namespace, name, body, manager), 200
        return store.delete(namespace, name, body), 200

    def _list(self, namespace: str, query: Any) -> Object:
        token, limit = query.get("continue", ""), int(query.get("limit", 0))
        if token:
            version, rest = self._rest(token)
        else:
            self._not_ahead(query.get("resourceVersion", ""))
            version, rest = str(self.store.version), list(self._matching(namespace, query.get("labelSelector", "")))
        meta: Object = {"resourceVersion": version}
        if limit and len(rest) > limit:
            rest, later = rest[:limit], rest[limit:]
            meta["continue"] = self._keep(version, later)
            if not query.get("labelSelector"):
                meta["remainingItemCount"] = len(later)
        items = [{key: value for key, value in one.items() if key not in ("kind", "apiVersion")} for one in rest]
        return {"kind": "LeaseList", "apiVersion": f"{GROUP}/v1", "metadata": meta, "items": items}

    def _matching(self, namespace: str, selector: str) -> Iterator[Object]:
        for (home, _), one in sorted(self.store.objects.items()):
            if namespace in ("", home) and selects(selector, one["metadata"].get("labels", {})):
                yield one

    def _keep(self, version: str, rest: list[Object]) -> str:
        key = base64.urlsafe_b64encode(json.dumps({"rv": version, "n": len(self.pages)}).encode()).decode().rstrip("=")
        self.pages[key] = rest
        return key

    def _rest(self, token: str) -> tuple[str, list[Object]]:
        kept = self.pages.pop(token, None)
        if kept is None:
            raise Refusal(410, "Expired", "The provided continue parameter is too old to display a consistent list result.")  # fmt: skip  # noqa: E501
        return str(json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))["rv"]), kept

    def _not_ahead(self, version: str) -> None:
        if version and int(version) > self.store.version:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            text = f"Timeout: Too large resource version: {version}, current: {self.store.version}"
            raise Refusal(504, "Timeout", text, {"causes": [cause], "retryAfterSeconds": 1})

    async def _watch(self, request: web.Request, namespace: str) -> web.StreamResponse:
        query, store = request.query, self.store
        given, selector = query.get("resourceVersion", ""), query.get("labelSelector", "")
        self._not_ahead(given)
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        version = int(given or 0)
        if not version:
            version = store.version
            for one in list(self._matching(namespace, selector)):
                await stream.write(_line("ADDED", one))
            if _true(request, "allowWatchBookmarks"):
                await stream.write(_bookmark(version, {"k8s.io/initial-events-end": "true"}))
        elif version < store.oldest:
            text = f"too old resource version: {version} ({store.oldest})"
            await stream.write(_line("ERROR", Refusal(410, "Expired", text).status))
            return stream
        with suppress(TimeoutError):
            async with asyncio.timeout(float(query.get("timeoutSeconds", 1800))):
                await self._follow(stream, namespace, selector, version, _true(request, "allowWatchBookmarks"))
        return stream

    async def _follow(
        self, stream: web.StreamResponse, namespace: str, selector: str, version: int, bookmarks: bool
    ) -> None:
        store = self.store
        while True:
            for change in store.history[bisect_right(store.history, version, key=lambda one: one.version) :]:
                version = change.version
                if _concerns(change, namespace, selector):
                    await stream.write(_line(change.kind, change.object))
            try:
                async with asyncio.timeout(self.bookmarks), store.news:
                    while store.version <= version:
                        await store.news.wait()
            except TimeoutError:
                if bookmarks:
                    await stream.write(_bookmark(version))


def _concerns(change: Change, namespace: str, selector: str) -> bool:
    meta = change.object["metadata"]
    return namespace in ("", meta["namespace"]) and selects(selector, meta.get("labels", {}))


def _line(kind: str, one: Object) -> bytes:
    return json.dumps({"type": kind, "object": one}, separators=(",", ":")).encode() + b"\n"


def _bookmark(version: int, notes: dict[str, str] | None = None) -> bytes:
    meta: Object = {"resourceVersion": str(version)}
    if notes:
        meta["annotations"] = notes
    return _line("BOOKMARK", {"kind": "Lease", "apiVersion": f"{GROUP}/v1", "metadata": meta, "spec": {}})


def _json(body: Object, status: int = 200) -> web.Response:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n"
    return web.Response(status=status, body=text.encode(), content_type="application/json")


def _true(request: web.Request, name: str) -> bool:
    return request.query.get(name) in ("true", "1")


def _forbidden(user: str, verb: str, namespace: str, name: str) -> Refusal:
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    what = f'leases.{GROUP} "{name}"' if name else f"leases.{GROUP}"
    details = {"name": name, "group": GROUP, "kind": "leases"} if name else {"group": GROUP, "kind": "leases"}
    text = f'User "{user}" cannot {verb} resource "leases" in API group "{GROUP}" {where}'
    return Refusal(403, "Forbidden", f"{what} is forbidden: {text}", details)


async def _body(request: web.Request) -> Object:
    text = await request.read()
    if not text:
        return {}
    kind = request.headers.get("Content-Type", "").partition(";")[0]
    wanted = "application/merge-patch+json" if request.method == "PATCH" else "application/json"
    if kind != wanted:
        raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "BadRequest", "the object provided is unrecognized (must be of type Lease)")
    return body


# For tests


def write_kubeconfig(port: int, path: Path, token: str = "agent-token") -> Path:
    """A kubeconfig that leads to this port."""
    context = {"cluster": "leases", "user": "agent"}
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "leases",
        "contexts": [{"name": "leases", "context": context}],
        "clusters": [{"name": "leases", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "agent", "user": {"token": token}}],
    }
    path.write_text(json.dumps(written))
    path.chmod(0o600)
    return path


@asynccontextmanager
async def lease_api(**options: Any) -> AsyncIterator[LeaseApi]:
    """The server inside a test."""
    api = LeaseApi(**options)
    await api.start()
    try:
        yield api
    finally:
        await api.stop()


async def _serve(port: int, journal: Path | None) -> None:
    async with lease_api(store=LeaseStore(journal), port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
