"""The way to an API server: who the agent is to it, read anew when token, certificate or kubeconfig change.

Connections are kept for days; kubernetes-asyncio, which reads kubeconfigs and logs in, does not notice such a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from vedette import CheckError
from vedette_checks.k8s.login import Connections, Login, of_service_account

if importlib.util.find_spec("kubernetes_asyncio") is None:
    raise ModuleNotFoundError("No module named 'kubernetes_asyncio'", name="kubernetes_asyncio")
if not os.environ.get("KUBERNETES_SERVICE_HOST"):  # outside of pods all need it, and no request is to wait for it
    importlib.import_module("kubernetes_asyncio.config")

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token and the cluster's certificate authority."""
_REREAD = 60.0  # seconds; a projected token is replaced long before it ends
_SPARE = 30.0  # seconds before a token ends
_LEAST = 5.0  # seconds between two renewals
_AGAIN = 10.0  # seconds until a service account that could not be read is read again
_LOGIN = 20.0  # seconds for a login program, which all requests wait for
_AT_ONCE = 5.0  # seconds within which it has been started
_LOGIN_MARK = "KUBERNETES_EXEC_INFO"
"""Environment variable of every login program (client.authentication.k8s.io)."""
_USER_AGENT = "vedette"


@dataclass(slots=True)
class Access:
    """Who the agent is to a cluster, and the connections to it.

    Attributes:
        kubeconfig: the file; None for the pod's service account, or outside a cluster for what kubectl uses.
        context: context of the file; empty for its current one.
        account: folder of the pod's service account.
    """

    kubeconfig: Path | None = None
    context: str = ""
    account: Path = SERVICE_ACCOUNT
    _login: Login | None = None
    _connections: Connections | None = None
    _print: tuple[Any, ...] = ()
    _renewed: float = 0.0
    _due: float = 0.0
    _written: int = 0
    _closed: bool = False
    _unread: CheckError | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def server(self) -> str:
        """Address of the API server, without login; empty before `open`."""
        return self._login.host if self._login is not None else ""

    @property
    def authority(self) -> Path | None:
        """The file with the cluster's certificate authority."""
        path = self._login.ssl_ca_cert if self._login is not None else None
        return Path(path) if path else None

    @property
    def verify(self) -> bool:
        """Whether the API server's certificate is checked."""
        return self._login is None or self._login.verify_ssl

    async def open(self) -> None:
        """Read the configuration and log in; nothing is sent to the API server.

        Raises:
            CheckError: there is no configuration, it cannot be read, or its login program failed.
        """
        self._closed = False
        await self._load()

    async def renew(self, since: float = float("inf")) -> bool:
        """Read the configuration anew because the server did not like it, at most every few seconds.

        Args:
            since: monotonic seconds; what was read after that is new enough.

        Returns:
            Whether it was read.

        Raises:
            CheckError: as `open`; also where what was read before goes on, as that is what the server did not like.
        """
        async with self._lock:
            read = self._renewed > since
            if not read and time.monotonic() - self._renewed >= _LEAST:
                await self._load()
                read = True
            if self._unread is not None:
                raise CheckError(self._unread.message, hint=self._unread.hint)
            return read

    async def request(
        self, method: str, url: str, headers: dict[str, str], timeout: aiohttp.ClientTimeout, body: Any = None
    ) -> aiohttp.ClientResponse:
        """Send a request, with a token that is current.

        Args:
            method: GET, POST, PUT or DELETE.
            url: path and query, or a whole address of a kubelet.
            headers: besides the login.
            timeout: for its parts.
            body: JSON to send.

        Raises:
            CheckError: as `open`. aiohttp.ClientError, TimeoutError: no answer, or `close` was called.
        """
        await self._refresh()
        if url.startswith("/"):
            url = self.server + url
        head = {"User-Agent": _USER_AGENT, **headers, **self._authorization()}
        if self._connections is None:
            raise aiohttp.ClientConnectionError("closed")
        return await self._connections.request(method, url, head, timeout, body)

    async def authorization(self) -> dict[str, str]:
        """The header that logs in with a token that is current, for a client of one's own. Raises as `request`."""
        await self._refresh()
        return self._authorization()

    async def close(self) -> None:
        """Drop the connections; there are no others until `open`."""
        self._closed = True
        old, self._connections = self._connections, None
        if old is not None:
            await old.close()

    async def _refresh(self) -> None:
        if self._closed:
            raise aiohttp.ClientConnectionError("closed")
        if self._outdated():
            async with self._lock:  # a login program is not run once for each watch
                if self._outdated():
                    await self._load()

    def _authorization(self) -> dict[str, str]:
        value = self._login.api_key.get("BearerToken") if self._login is not None else None
        return {"Authorization": value.strip()} if value else {}

    def _outdated(self) -> bool:
        return self._connections is None or time.monotonic() >= self._due or self._stamp() != self._written

    def _stamp(self) -> int:
        """When the kubeconfig was written, in ns; 0 for a service account."""
        path = self._file()
        try:
            return path.stat().st_mtime_ns if path is not None else 0
        except OSError:
            return self._written  # it is being replaced: what was read goes on

    def _file(self) -> Path | None:
        if self.kubeconfig is not None:
            return self.kubeconfig
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return None
        named = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
        return Path(named) if named else Path.home() / ".kube" / "config"

    async def _load(self) -> None:
        self._renewed, self._written = time.monotonic(), self._stamp()
        file = self._file()
        if file is None:
            await self._load_account()
            return
        login = Login()
        try:
            self._due = await self._load_file(login, file)
        except CheckError:
            raise
        except Exception as error:  # whatever a broken file makes the library trip over
            raise _unusable(error, file) from None
        self._login = login
        await self._reconnect(login)

    async def _load_account(self) -> None:
        """Load the pod's service account; what was read before goes on where it cannot be, as in client-go."""
        held = self._login is not None and self._connections is not None
        self._due = self._renewed + (_AGAIN if held else _REREAD)
        try:
            login = of_service_account(self.account)
            await self._reconnect(login)
        except Exception as error:
            self._unread = error if isinstance(error, CheckError) else _unusable(error, None)
            if held:
                return
            raise self._unread from None
        self._unread, self._login, self._due = None, login, self._renewed + _REREAD

    async def _load_file(self, login: Login, file: Path) -> float:
        """Load a kubeconfig; the time of the monotonic clock at which to do so again."""
        if not _is_there(file):
            where = "" if self.kubeconfig is not None else "this is no pod, and "
            raise CheckError(
                f"{where}there is no kubeconfig {file}",
                hint="give the path in `kubeconfig`, or run the agent in the cluster",
            )
        library = await asyncio.to_thread(importlib.import_module, "kubernetes_asyncio.config")
        begun = time.time()
        try:
            async with asyncio.timeout(_LOGIN):
                loader = await library.load_kube_config(
                    config_file=str(file),
                    context=self.context or None,
                    client_configuration=login,
                    persist_config=False,
                )
        except (TimeoutError, asyncio.CancelledError) as error:
            _end_logins(begun)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise CheckError(
                f"the login program of {file} did not end within {_LOGIN:g}s",
                hint="run kubectl with this kubeconfig to see what it waits for",
            ) from None
        if not str(login.host).startswith(("http://", "https://")):
            raise CheckError(f"the cluster in {file} has no `server`", hint="see `clusters:` of the kubeconfig")
        if loader.provider is not None:
            return self._renewed + _REREAD
        expires = getattr(loader, "exec_plugin_expiry", None)
        if expires is None:
            return float("inf")
        return self._renewed + float(max(expires.timestamp() - time.time() - _SPARE, _LEAST))

    async def _reconnect(self, login: Login) -> None:
        """New connections where anything but the token has changed."""
        try:
            new = login.of_its_connections()
            if self._connections is not None and new == self._print:
                return
            made = Connections(login)
        except (OSError, ValueError) as error:
            raise CheckError(
                f"the certificate files of the cluster cannot be used: {getattr(error, 'strerror', '') or 'not PEM'}",
                hint="see certificate-authority, client-certificate and client-key",
            ) from None
        if self._closed:  # meanwhile
            await made.close()
            return
        old, self._connections, self._print = self._connections, made, new
        if old is not None:
            await old.close()


def _end_logins(begun: float) -> None:
    """End login programs that were begun then and still run: the library leaves them behind when it is cancelled."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if abs(child.create_time() - begun) < _AT_ONCE and _LOGIN_MARK in child.environ():
                child.kill()


def _is_there(path: Path) -> bool:
    return path.exists()


_MISSING = re.compile(r"Expected (?:key|object with name) ([\w.:/@-]+)")


def _unusable(error: Exception, file: Path | None) -> CheckError:
    """Our own sentence: the library's texts hold whole users with their tokens."""
    if file is None:
        return CheckError(
            "the pod's service account cannot be used: token or ca.crt is missing or empty",
            hint="is automountServiceAccountToken off?",
        )
    if isinstance(error, OSError) and error.filename not in (None, str(file)):
        why = error.strerror or type(error).__name__
        return CheckError(f"{file} names {error.filename}, which cannot be used: {why}")
    if isinstance(error, OSError):
        return CheckError(f"{file} cannot be read: {error.strerror or type(error).__name__}")
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        return CheckError(f"{file} is not YAML{place}")
    if type(error).__name__ == "ConfigException":  # the library's, imported only where there is a kubeconfig
        text = str(error)
        if text.startswith("exec:"):
            return CheckError(f"the login program of {file} failed", hint="run kubectl with this kubeconfig to see why")
        if "File does not exist" in text:
            return CheckError(f"a file that {file} names does not exist", hint="see its certificate and token files")
        if found := _MISSING.search(text):
            return CheckError(f"{file} has no {found[1]}", hint="check `context` and the file")
    return CheckError(f"{file} is no usable kubeconfig", hint="does kubectl take it?")
