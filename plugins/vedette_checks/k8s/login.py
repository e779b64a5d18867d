"""Who the agent is to an API server, and connections that say so.

kubernetes-asyncio reads kubeconfigs, with all that can be in them. For a pod's two files it is not asked: to import it
costs 40 MiB, for models of every object there is, none of which is used here.
"""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

_LONGEST = 2**21  # bytes of a line; etcd keeps 1.5 MiB at most
_WITH_BODY = ("DELETE", "POST", "PUT")


@dataclass(slots=True)
class Login:
    """An API server and what it takes to be let in. The names are those that kubernetes-asyncio fills.

    Attributes:
        host: its address.
        api_key: under `BearerToken` the value of the header Authorization.
        ssl_ca_cert: file with the authorities that it is trusted by; None for the system's.
        cert_file: file with the client's certificate.
        key_file: file with its key.
        verify_ssl: whether the server's certificate is checked.
        tls_server_name: name in the server's certificate, if not the address's.
        proxy: address of an HTTP proxy; None for the environment's.
        direct: whether the environment's proxy is passed by.
    """

    host: str = ""
    api_key: dict[str, str] = field(default_factory=dict, repr=False)
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None
    direct: bool = False

    def of_its_connections(self) -> tuple[Any, ...]:
        """What connections are made with: another value takes others. Raises OSError: a file cannot be read."""
        files = (self.ssl_ca_cert, self.cert_file, self.key_file)
        contents = (hash(Path(path).read_bytes()) if path else 0 for path in files)
        return (self.host, self.verify_ssl, self.tls_server_name, self.proxy, self.direct, *contents)


def of_service_account(folder: Path) -> Login:
    """The login of a pod, from the files and variables that Kubernetes gives it.

    https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/

    The address is the cluster's own, so it is asked without a proxy: aiohttp does not read networks in NO_PROXY.

    Raises:
        OSError, KeyError, ValueError: something is missing, or is empty.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    token, authority = (folder / "token").read_text().strip(), folder / "ca.crt"
    if not (host and port and token and authority.read_text()):
        raise ValueError("empty")
    address = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return Login(address, {"BearerToken": f"Bearer {token}"}, str(authority), direct=True)


class Connections:
    """Connections to a server, kept; their number is that of what is asked at once.

    Args:
        login: the server. What it is logged in with stands in each request's headers.

    Raises:
        OSError, ValueError: a certificate file cannot be used.
    """

    def __init__(self, login: Login) -> None:
        context = ssl.create_default_context(cafile=login.ssl_ca_cert)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as Go does: authorities of clusters lack fields
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go does: an intermediate may be what is trusted
        if login.cert_file:
            context.load_cert_chain(login.cert_file, login.key_file)
        if not login.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._how: dict[str, Any] = {"proxy": login.proxy, "server_hostname": login.tls_server_name}
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=not login.direct, read_bufsize=_LONGEST)

    async def request(
        self, method: str, url: str, headers: dict[str, str], timeout: aiohttp.ClientTimeout, body: Any
    ) -> aiohttp.ClientResponse:
        """Send a request with JSON, or None, as its body."""
        data = json.dumps(body) if method in _WITH_BODY and body is not None else None
        head = {"Content-Type": "application/json", **headers}
        return await self._session.request(method, url, headers=head, data=data, timeout=timeout, **self._how)

    async def close(self) -> None:
        """Drop them."""
        await self._session.close()
