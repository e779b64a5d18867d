"""AWS on loopback: moto's server in a thread, which writes down who called what."""

from __future__ import annotations

import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from servers import Waited

REGION = "eu-central-1"
ACCOUNT = "123456789012"
_SCOPE = re.compile(r"Credential=(?P<key>[^/]*)/\d+/(?P<region>[^/]*)/(?P<service>[^/]*)/aws4_request")
_ACTIONS = {"monitoring": "cloudwatch", "tagging": "tag"}
"""IAM's name of a service where it is not that of signatures."""


@dataclass(frozen=True)
class Call:
    """One request as the server saw it."""

    action: str
    region: str
    key: str
    parameters: Mapping[str, str]
    body: bytes


class _Quiet(WSGIRequestHandler):
    def log_request(self, *args: Any) -> None:
        pass


class AwsServer:
    """moto's server: everything that was called since the last `reset` is in `calls`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.refused: list[tuple[str, bytes]] = []
        """IAM actions, and a part of the request: the next such call of each is refused."""
        self._makers: dict[tuple[str, str], Any] = {}
        self._session = boto3.Session()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._thread: Thread | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the port of the last time; does nothing if it listens."""
        if self._server is not None:
            return
        self._server = make_server("127.0.0.1", self._port, self._record, threaded=True, request_handler=_Quiet)
        self._port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Nothing listens any more; what it knows stays."""
        server, self._server = self._server, None
        assert server is not None
        assert self._thread is not None
        server.shutdown()
        self._thread.join()
        server.server_close()

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        for client in self._makers.values():
            client.close()

    def reset(self) -> None:
        """Forget all resources and calls."""
        BackendDict.reset()
        self.calls.clear()
        self.refused.clear()

    @property
    def actions(self) -> set[str]:
        """The IAM actions of the calls."""
        return {call.action for call in self.calls}

    @property
    def counts(self) -> Counter[str]:
        """How often each IAM action was called, but for making things."""
        return Counter(call.action for call in self.calls if call.key != "maker")

    def demand_permissions(self, wanted: bool) -> None:
        """Whether to refuse what IAM does not allow from now on."""
        data = b"0" if wanted else b"inf"
        request = Request(f"{self.url}/moto-api/reset-auth", data, {"Content-Type": "text/plain"}, method="POST")
        urlopen(request).close()

    def client(self, service: str, region: str = REGION) -> Any:
        """boto3's own client, for making what the tests are about. Its calls are written down too."""
        return self._session.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id="maker",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )

    @contextmanager
    def making(self) -> Iterator[Callable[..., Any]]:
        """`client`, and what it called is forgotten at the end."""

        def client(service: str, region: str = REGION) -> Any:
            if (service, region) not in self._makers:
                self._makers[service, region] = self.client(service, region)
            return self._makers[service, region]

        with Waited.counting():
            yield client
        self.calls[:] = [call for call in self.calls if call.key != "maker"]

    def points(
        self,
        namespace: str,
        metric: str,
        dimensions: Mapping[str, str],
        points: Mapping[int, float],
        region: str = REGION,
    ) -> None:
        """Put values by their time, Unix seconds, into CloudWatch."""
        data = [
            {
                "MetricName": metric,
                "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                "Timestamp": at,
                "Value": value,
            }
            for at, value in points.items()
        ]
        with self.making() as client:
            cloudwatch = client("cloudwatch", region)
            for n in range(0, len(data), 500):
                cloudwatch.put_metric_data(Namespace=namespace, MetricData=data[n : n + 500])

    def _record(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if scope is not None or b"WebIdentityToken" in body:  # which needs no signature
            service = _ACTIONS.get(scope["service"], scope["service"]) if scope is not None else "sts"
            parameters = {key: value[0] for key, value in parse_qs(body.decode(errors="replace")).items()}
            target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
            action = f"{service}:{target or parameters.get('Action', '')}"
            region, key = (scope["region"], scope["key"]) if scope is not None else ("", "")
            self.calls.append(Call(action, region, key, parameters, body))
            refused = next((one for one in self.refused if one[0] == action and one[1] in body), None)
            if refused is not None:
                self.refused.remove(refused)
                return _refusal(action, target, start_response)
        if environ.get("HTTP_X_AMZ_TARGET"):
            return self._in_json(environ, start_response)
        return self._moto(environ, start_response)

    def _in_json(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The answer of a service that speaks JSON; moto refuses for want of a permission in XML."""
        given: list[Any] = []
        body = b"".join(self._moto(environ, lambda *words: given.append(words)))
        status, headers = given[-1][:2]
        if body.startswith(b"<?xml"):
            said = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", body.decode(), re.DOTALL)
            assert said is not None
            body = json.dumps({"__type": f"{said[1]}Exception", "message": said[2]}).encode()
            headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]


def _refusal(action: str, target: str, start_response: Any) -> Iterable[bytes]:
    said = f"User is not authorized to perform: {action}"
    start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.0" if target else "text/xml")])
    if target:
        return [json.dumps({"__type": "AccessDeniedException", "message": said}).encode()]
    error = f"<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>"
    return [f"<ErrorResponse>{error}</ErrorResponse>".encode()]


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    """One for all tests: it takes a second to import."""
    made = AwsServer()
    made.start()
    yield made
    made.close()


@pytest.fixture
def aws(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> AwsServer:
    """AWS without anything in it, and an environment with credentials for it and nothing of the user's own."""
    aws_server.reset()
    clean_environment(monkeypatch, str(tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVEDETTE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-vedette")
    return aws_server


def clean_environment(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """No credentials, profiles or regions of whoever runs the tests, and nobody asks an instance's metadata."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{folder}/no-aws-config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{folder}/no-aws-credentials")


def minutes(count: int, *, ago: float = 0.0, period: int = 60) -> list[int]:
    """The beginnings of the last periods, oldest first, before `ago` seconds ago."""
    end = int((time.time() - ago) // period) * period
    return [end - period * n for n in range(count, 0, -1)]
