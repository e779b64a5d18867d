"""AWS on loopback: moto behind a server of our own that counts what it is asked."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

REGION = "eu-central-1"
KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Say nothing."""


class Aws:
    """moto in this process.

    Attributes:
        port: TCP port on 127.0.0.1, kept over stops.
        calls: operations asked for so far, by name.
    """

    def __init__(self) -> None:
        self.port = 0
        self.calls: Counter[str] = Counter()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._clients: dict[str, Any] = {}
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def listens(self) -> bool:
        """Whether it is there."""
        return self._server is not None

    def start(self) -> None:
        """Listen, on the port of the last time."""
        self._server = make_server("127.0.0.1", self.port, self._serve, threaded=True, request_handler=_Quiet)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Nothing listens any more; what it knows stays."""
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None

    def close(self) -> None:
        """Stop for good."""
        for client in self._clients.values():
            client.close()
        self.stop()

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        name = target or parse_qs(body.decode("latin-1")).get("Action", ["?"])[0]
        self.calls[name] += 1
        if target:
            return self._in_json(environ, start_response)
        return self._app(environ, start_response)  # type: ignore[no-any-return, no-untyped-call]

    def _in_json(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The answer of a service that speaks JSON, where moto refuses for want of permission in XML."""
        given: list[Any] = []
        body = b"".join(self._app(environ, lambda *words: given.append(words)))  # type: ignore[no-untyped-call]
        status, headers = given[-1][:2]
        if body.startswith(b"<?xml"):
            code, message = (
                re.search(rf"<{tag}>(.*?)</{tag}>", body.decode(), re.DOTALL) for tag in ("Code", "Message")
            )
            assert code is not None
            assert message is not None
            body = json.dumps({"__type": f"{code[1]}Exception", "message": message[1]}).encode()
            headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]

    def forget(self, *services: str) -> None:
        """Begin anew: no resources of these services, and nothing counted."""
        for service in services:
            for account in get_backend(service).values():  # type: ignore[call-overload]
                for backend in account.values():
                    backend.reset()
        self.calls.clear()

    def client(self, service: str) -> Any:
        """A plain client, for setting things up and asking what is true."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id=KEY,
                aws_secret_access_key=SECRET_KEY,
            )
        return self._clients[service]

    def demand_permissions(self, wanted: bool) -> None:
        """Whether to refuse what IAM does not allow from now on."""
        data = b"0" if wanted else b"inf"
        request = Request(f"{self.url}/moto-api/reset-auth", data, {"Content-Type": "text/plain"}, method="POST")
        urlopen(request).close()


def sdk_environment(monkeypatch: pytest.MonkeyPatch, url: str = "") -> None:
    """What the SDK finds in its environment: these keys and this region, no files, no metadata service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    values = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if url:
        values["AWS_ENDPOINT_URL"] = url
    for name, value in values.items():
        monkeypatch.setenv(name, value)
