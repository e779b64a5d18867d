"""An HTTP server that answers as the recorded API server did: recordings, chunk by chunk, or a changing cluster."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from cluster import EXPIRED, OLD_ETCD, Cluster, Collection, line_of
from recordings import Recording, recording

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Streaming = Literal["yes", "old-etcd", "refused", "ignored"]
_SKIPPED = frozenset({"content-length", "transfer-encoding", "content-encoding", "date"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came.

    Attributes:
        method: GET or POST.
        path: without the query.
        query: its parts, unquoted.
        headers: their names in lower case.
        body: what was sent.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def watches(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def lists(self) -> bool:
        """Whether it is a list, or a streaming one."""
        return not self.watches or "sendInitialEvents" in self.query


@dataclass
class Rule:
    """An answer of its own for some requests, as often as `times` says."""

    fits: Callable[[Seen], bool]
    answer: Handler
    times: float = float("inf")


@dataclass
class ReplayServer:
    """The server.

    Attributes:
        cluster: what lists and watches are made of.
        tls: context of the server; None for http.
        token: what must be sent; None takes anybody.
        anonymous: whether a request without a token is a user, as by default.
        streaming: what comes of a streaming list.
        node_metrics: what metrics.k8s.io answers; None as it was recorded, where it is not served.
        forbidden: (verb, resource) that the agent may not.
        requests: those that came.
    """

    cluster: Cluster = field(default_factory=Cluster)
    tls: ssl.SSLContext | None = None
    token: str | None = None
    anonymous: bool = True
    streaming: Streaming = "yes"
    node_metrics: dict[str, Any] | None = None
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    requests: list[Seen] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    port: int = 0
    watching: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        application = web.Application(client_max_size=1 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.02, handle_signals=False, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Cut all connections and listen no more; `start` comes back on the same port."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self.cut()
            await runner.cleanup()
            self.watching = 0

    def cut(self) -> None:
        """Cut every connection without a word."""
        if self._runner is not None and self._runner.server is not None:
            for connection in list(self._runner.server.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()

    def kubeconfig(self, folder: Path, token: str = "agent-token", ca: Path | None = None) -> Path:
        """A kubeconfig that leads here."""
        cluster: dict[str, Any] = {"server": self.url}
        if ca is not None:
            cluster["certificate-authority"] = str(ca)
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "replay",
            "contexts": [{"name": "replay", "context": {"cluster": "replay", "user": "agent"}}],
            "clusters": [{"name": "replay", "cluster": cluster}],
            "users": [{"name": "agent", "user": {"token": token}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(written))
        path.chmod(0o600)
        return path

    def on(self, fits: str | Callable[[Seen], bool], answer: str | Handler, *, times: float = float("inf")) -> None:
        """Answer some requests in another way: by path, or by what `fits` says; with a recording, or by a handler."""
        chosen = (lambda seen: seen.path == fits) if isinstance(fits, str) else fits
        self.rules.append(Rule(chosen, recorded(answer) if isinstance(answer, str) else answer, times))

    def asked(self, path: str) -> list[Seen]:
        """The requests for a path so far."""
        return [seen for seen in self.requests if seen.path == path]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(
            request.method,
            request.path,
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
        )
        self.requests.append(seen)
        try:
            return await self._respond(request, seen)
        except ConnectionResetError:  # whoever asked has gone
            return web.Response()

    async def _respond(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        for rule in self.rules:
            if rule.times > 0 and rule.fits(seen):
                rule.times -= 1
                return await rule.answer(request)
        refused = self._refusal(seen)
        if refused is not None:
            return await recorded(refused)(request)
        return await self._answer(request, seen)

    def _refusal(self, seen: Seen) -> str | None:
        if self.token is None or seen.headers.get("authorization") == f"Bearer {self.token}":
            return None
        if "authorization" in seen.headers:
            return "auth/401-invalid-token.json"
        return "auth/403-anonymous.json" if self.anonymous else "auth/401-no-token.json"

    async def _answer(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        if seen.path == "/version":
            return await recorded("health/version.json")(request)
        if seen.path.endswith("/selfsubjectreviews"):
            return await recorded("auth/selfsubjectreview.json")(request)
        if seen.path.endswith("/selfsubjectaccessreviews"):
            wanted = json.loads(seen.body)["spec"]["resourceAttributes"]
            yes = (wanted["verb"], wanted["resource"]) not in self.forbidden
            return await recorded("auth/ssar-yes.admin.json" if yes else "auth/ssar-no.pods-list.json")(request)
        if seen.path.startswith("/apis/metrics.k8s.io/"):
            return await self._metrics(request, seen)
        *before, resource = seen.path.split("/")
        there = self.cluster.collections.get(resource)
        if there is None or seen.method != "GET":
            return await recorded("errors/404-resource.json")(request)
        namespace = before[-1] if before[-2:-1] == ["namespaces"] else ""
        if ("watch" if seen.watches else "list", resource) in self.forbidden:
            return web.json_response(_forbidden(seen, there, namespace), status=403)
        if seen.watches:
            return await self._watch(request, seen, there, namespace)
        body = there.listed(namespace, seen.query.get("fieldSelector", ""), self.cluster.version)
        answer = web.Response(body=body, content_type="application/json")
        if seen.headers.get("accept-encoding") == "gzip" and len(body) > 128 << 10:
            answer.enable_compression(web.ContentCoding.gzip)
        return answer

    async def _metrics(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        if self.node_metrics is None:
            return await recorded("errors/404-metrics-nodes.txt")(request)
        name = seen.path.removeprefix("/apis/metrics.k8s.io/v1beta1/nodes").strip("/")
        if not name:
            return web.json_response(self.node_metrics)
        for one in self.node_metrics["items"]:
            if one["metadata"]["name"] == name:
                return web.json_response(one)
        return await recorded("errors/404-pod.json")(request)

    async def _watch(self, request: web.Request, seen: Seen, there: Collection, namespace: str) -> web.StreamResponse:
        initial = "sendInitialEvents" in seen.query
        if initial and self.streaming == "refused":
            return await recorded("errors/422-sendInitialEvents-nomatch.json")(request)
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        if initial and self.streaming == "old-etcd":
            await stream.write(line_of(OLD_ETCD))
            return stream
        selector = seen.query.get("fieldSelector", "")
        if initial:
            version = await self._send_initial(stream, there, namespace, selector)
        else:
            version = int(seen.query["resourceVersion"])
            if version < there.oldest - 1:
                await stream.write(line_of(EXPIRED))
                return stream
        self.watching += 1
        try:
            async with asyncio.timeout(float(seen.query["timeoutSeconds"])):
                await self._follow(stream, there, namespace, selector, version)
        except TimeoutError:
            pass
        finally:
            self.watching -= 1
        return stream

    async def _send_initial(self, stream: web.StreamResponse, there: Collection, namespace: str, selector: str) -> int:
        version = self.cluster.version
        for item in list(there.items.values()):
            if item.matches(namespace, selector):
                await stream.write(there.event("ADDED", item.raw))
        if self.streaming == "yes":
            await stream.write(there.bookmark(version, end=True))
        return version

    async def _follow(
        self, stream: web.StreamResponse, there: Collection, namespace: str, selector: str, version: int
    ) -> None:
        while True:
            for change in [one for one in there.changes if one.version > version]:
                version = change.version
                line = there.seen(change, namespace, selector)
                if line is not None:
                    await stream.write(line)
            async with there.news:
                while not there.changes or there.changes[-1].version <= version:
                    await there.news.wait()


def _forbidden(seen: Seen, there: Collection, namespace: str) -> dict[str, Any]:
    """The recorded refusal of deployments, of another resource."""
    made: dict[str, Any] = json.loads(recording("auth/403-no-rbac.deployments.json").body)
    group = there.api_version.rpartition("/")[0]
    name = f"{there.resource}.{group}" if group else there.resource
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    made["message"] = (
        f'{name} is forbidden: User "agent" cannot {"watch" if seen.watches else "list"} resource "{there.resource}" '
        f'in API group "{group}" {where}'
    )
    made["details"] = {"group": group, "kind": there.resource}
    return made


def recorded(file: str) -> Handler:
    """Answers with a recording, as it was sent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        found = recording(file)
        return web.Response(status=found.status, body=found.body, headers=headers_of(found))

    return answer


def streamed(lines: list[bytes], *, hold: asyncio.Event | None = None, cut: bool = False, status: int = 200) -> Handler:
    """Answers with a stream: each part is a chunk; then it is held until an event, and ended or cut."""

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        with suppress(ConnectionResetError):
            for line in lines:
                await stream.write(line)
                await asyncio.sleep(0)
            if hold is not None:
                await hold.wait()
            if cut and request.transport is not None:
                request.transport.abort()
        return stream

    return answer


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Closes the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def headers_of(found: Recording) -> list[tuple[str, str]]:
    """The recorded headers that are not about the framing."""
    return [(name, value) for name, value in found.headers if name.lower() not in _SKIPPED]
