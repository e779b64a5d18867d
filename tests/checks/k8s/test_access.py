"""The way to the API server: a pod's service account, kubeconfigs good and bad, and tokens that change meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import trustme
import yaml
from aiohttp import web
from yarl import URL

from checks.k8s.driver import Drive, node_metrics, until
from checks.k8s.test_command import diagnosed
from checks.k8s.test_scope import summary
from listening import listening
from vedette import CheckError, Status
from vedette.advice import Grade
from vedette_checks.k8s import access as access_module
from vedette_checks.k8s.access import Access
from vedette_checks.k8s.client import Client, same_origin
from vedette_checks.k8s.errors import ApiError
from vedette_checks.k8s.login import of_service_account

pytestmark = pytest.mark.anyio

FEW: dict[str, Any] = {"usage": False, "resources": ["nodes"]}
SECRET = "s3cr3t-t0ken"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=None).configure_cert(context)
    return context


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(access_module, "_LEAST", 0.0)


def account(folder: Path, monkeypatch: pytest.MonkeyPatch, server: Any, authority: trustme.CA, token: str) -> Path:
    """A pod's service account, as Kubernetes mounts it."""
    made = folder / "account"
    made.mkdir()
    (made / "token").write_text(f"{token}\n")
    authority.cert_pem.write_to_path(str(made / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    return made


async def in_cluster(drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA) -> tuple[Any, Any, Path]:
    server = await drive.server(small=True, tls=server_context(authority, "127.0.0.1"), token="first")
    folder = account(drive.folder, monkeypatch, server, authority, "first")
    watching = drive.watching(**FEW)
    watching.check._access.account = folder
    return server, watching, folder


async def test_a_pod_uses_its_service_account(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    server, watching, _ = await in_cluster(drive, monkeypatch, authority)
    outcome = await watching.run()
    assert outcome.value("k8s.nodes.ready") == 10
    assert {seen.headers["authorization"] for seen in server.requests} == {"Bearer first"}
    assert watching.check._access.server == server.url
    left = outcome.value("k8s.apiserver.certificate_days_left")
    assert isinstance(left, float)  # of trustme's certificate, which has its own idea of how long to last
    assert left == pytest.approx((watching.check._client.certificate_expires - 1_795_466_000.0) / 86_400)


@pytest.mark.parametrize("path", ["", "/", "/k8s/clusters/c-1"])
async def test_the_certificate_is_the_servers_however_its_address_is_written(
    drive: Drive, authority: trustme.CA, path: str
) -> None:
    server = await drive.server(small=True, tls=server_context(authority, "localhost"))
    authority.cert_pem.write_to_path(str(drive.folder / "ca.crt"))
    seen_it = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        made = web.StreamResponse()
        await made.prepare(request)
        await seen_it.wait()  # a watch goes on
        return made

    server.on(lambda seen: seen.path.endswith("/nodes"), answer)
    kubeconfig = server.kubeconfig(drive.folder, ca=drive.folder / "ca.crt")
    tree = yaml.safe_load(kubeconfig.read_text())
    tree["clusters"][0]["cluster"]["server"] = f"https://LOCALHOST:{server.port}{path}"
    kubeconfig.write_text(json.dumps(tree))
    client = Client(Access(kubeconfig))
    try:
        await client.access.open()
        async with client.stream("/api/v1/nodes", {"watch": "true"}, silence=20):
            assert client.certificate_expires is not None
    finally:
        seen_it.set()
        await client.access.close()


@pytest.mark.parametrize(("server", "own"), [("https://10.96.0.1:443", True), ("https://10.96.0.1:6443", False)])
def test_the_port_of_https_may_be_written_or_not(server: str, own: bool) -> None:
    assert same_origin(URL("https://10.96.0.1/api/v1/pods"), URL(server)) is own


async def test_doctor_looks_at_tls_and_the_certificate(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    server = await drive.server(small=True, tls=server_context(authority, "127.0.0.1"))
    authority.cert_pem.write_to_path(str(drive.folder / "ca.crt"))
    path = server.kubeconfig(drive.folder, ca=drive.folder / "ca.crt")
    found = await diagnosed(server, path)
    assert {found[what].grade for what in ("kubeconfig", "TCP", "TLS", "certificate", "login", "rights")} <= {
        Grade.OK,
        Grade.INFO,
    }
    trustme.CA().cert_pem.write_to_path(str(drive.folder / "ca.crt"))
    found = await diagnosed(server, path)
    assert found["TLS"].grade is Grade.FAILED
    assert found["login"].grade is Grade.NOT_REACHED


async def test_a_token_that_is_rotated_is_read_anew_and_nothing_is_listed_again(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    server, watching, folder = await in_cluster(drive, monkeypatch, authority)
    await watching.run()
    watch = watching.watch("nodes")
    for token in ("second", "third"):
        (folder / "token").write_text(token)
        server.token = token
        server.cut()
        node = server.cluster.objects("nodes")[0]
        await server.cluster.put("nodes", node)
        await until(lambda: watch._version == str(server.cluster.version), "the watch under the new token")
        outcome = await watching.run()
        assert outcome.value("k8s.nodes.ready") == 10
        assert outcome.status("k8s.can_connect").status is Status.OK
    assert watch.lists == 1
    refused = [
        seen for seen in server.requests if seen.headers["authorization"] not in ("Bearer first", "Bearer third")
    ]
    assert refused  # the old token was tried, was 401, and the file read again


async def test_a_token_is_read_anew_before_it_ends(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    server, watching, folder = await in_cluster(drive, monkeypatch, authority)
    await watching.run()
    (folder / "token").write_text("second")
    access = watching.check._access
    assert 0 < access._due - time.monotonic() <= 60
    access._due = 0.0  # a minute has passed
    server.token = "second"
    server.cut()
    await until(lambda: len(server.requests) == 2, "the next watch")
    assert server.requests[-1].headers["authorization"] == "Bearer second"


async def test_an_authority_that_is_replaced_is_read_anew(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    server, watching, folder = await in_cluster(drive, monkeypatch, authority)
    await watching.run()
    other = trustme.CA()
    await server.stop()
    server.tls = server_context(other, "127.0.0.1")
    await server.start()
    watch = watching.watch("nodes")
    await until(lambda: watch.fault is not None, "the mistrust")
    message = (await watching.run()).status("k8s.can_connect").message
    assert message.startswith("the API server: its certificate cannot be trusted: ")
    assert message.endswith("; see certificate-authority of the kubeconfig")
    other.cert_pem.write_to_path(str(folder / "ca.crt"))
    await until(lambda: watch.fault is None and server.watching, "the watch under the new authority")
    assert (await watching.run()).value("k8s.nodes.ready") == 10


async def test_a_service_account_without_a_token_is_a_finding(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    outcome = await drive.watching(**FEW).run()
    assert outcome.error is not None
    assert str(outcome.error) == "the pod's service account cannot be used: token or ca.crt is missing or empty"
    assert outcome.error.hint == "is automountServiceAccountToken off?"


async def test_outside_a_cluster_it_is_what_kubectl_uses(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = await drive.watching(**FEW).run()
    assert str(outcome.error) == f"this is no pod, and there is no kubeconfig {drive.folder}/.kube/config"
    server = await drive.server(small=True)
    written = server.kubeconfig(drive.folder)
    monkeypatch.setenv("KUBECONFIG", f"{written}:/nowhere")
    assert (await drive.watching(**FEW).run()).value("k8s.nodes.ready") == 10
    monkeypatch.delenv("KUBECONFIG")
    (drive.folder / ".kube").mkdir()
    written.rename(drive.folder / ".kube" / "config")
    assert (await drive.watching(**FEW).run()).value("k8s.nodes.ready") == 10


async def test_a_kubeconfig_that_is_written_anew_is_noticed(drive: Drive) -> None:
    server = await drive.server(small=True, token="one")
    path = server.kubeconfig(drive.folder, "one")
    watching = drive.watching(kubeconfig=path, **FEW)
    await watching.run()
    server.kubeconfig(drive.folder, "two")
    os.utime(path, ns=(1, 1))
    server.token = "two"
    server.cut()
    await until(lambda: len(server.requests) == 2, "the next watch")
    assert server.requests[-1].headers["authorization"] == "Bearer two"


async def test_a_token_that_is_rotated_leaves_no_gap_in_what_the_runs_ask_themselves(drive: Drive) -> None:
    server = await drive.server(small=True, token="one")
    server.node_metrics = node_metrics(server.cluster.objects("nodes"))
    (drive.folder / "token").write_text("one")
    path = edited(drive, server, tokenFile=str(drive.folder / "token"))
    watching = drive.watching(kubeconfig=path, resources=["nodes"])
    before = await watching.run()
    (drive.folder / "token").write_text("two")
    server.token = "two"  # the watch goes on under the old one, and notices nothing
    after = await watching.run()
    for name in ("k8s.cpu.utilization", "k8s.memory.utilization"):
        assert after.value(name) == before.value(name)
    tokens = [seen.headers["authorization"] for seen in server.requests]
    assert tokens == ["Bearer one", "Bearer one", "Bearer one", "Bearer two"]


async def test_a_kubelet_gets_the_new_token_and_is_trusted_by_the_new_authority(
    drive: Drive, authority: trustme.CA
) -> None:
    server = await drive.server(small=True)
    kubelet = await drive.server(small=True, tls=server_context(authority, "127.0.0.1"))
    told = summary(server, "worker-03")
    expected = "one"

    async def answer(request: web.Request) -> web.StreamResponse:
        good = request.headers.get("Authorization") == f"Bearer {expected}"
        return await told(request) if good else web.Response(status=401, text="Unauthorized")

    kubelet.on("/stats/summary", answer)
    ca = drive.folder / "kubelet.crt"
    authority.cert_pem.write_to_path(str(ca))
    (drive.folder / "token").write_text("one")
    watching = drive.watching(
        kubeconfig=edited(drive, server, tokenFile=str(drive.folder / "token")),
        scope="node", node="worker-03", usage=False, kubelet={"url": kubelet.url, "ca_file": ca},
    )  # fmt: skip
    assert (await watching.run()).value("k8s.node.cpu_usage") == 1.25
    (drive.folder / "token").write_text("two")
    expected = "two"
    assert (await watching.run()).value("k8s.node.cpu_usage") == 1.25
    await kubelet.stop()
    other = trustme.CA()
    kubelet.tls = server_context(other, "127.0.0.1")
    await kubelet.start()
    assert (await watching.run()).status("k8s.kubelet").message.startswith("the kubelet's certificate cannot be")
    other.cert_pem.write_to_path(str(ca))
    assert (await watching.run()).value("k8s.node.cpu_usage") == 1.25


def edited(drive: Drive, server: Any, **user: Any) -> Path:
    path: Path = server.kubeconfig(drive.folder)
    tree = yaml.safe_load(path.read_text())
    tree["users"][0]["user"] = user
    path.write_text(json.dumps(tree))
    return path


async def test_a_login_program_is_run_again_when_its_token_ends(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "_LEAST", 0.5)  # else each watch would log in for itself
    server = await drive.server(small=True, token="ticket-1")
    script = drive.folder / "login.py"
    count = drive.folder / "count"
    script.write_text(
        "import json, pathlib\n"
        f"path = pathlib.Path({str(count)!r})\n"
        "number = int(path.read_text()) + 1 if path.exists() else 1\n"
        "path.write_text(str(number))\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status':\n"
        "  {'token': f'ticket-{number}', 'expirationTimestamp': '2099-01-01T00:00:00Z'}}))\n"
    )
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(script)],
               "interactiveMode": "Never"}  # fmt: skip
    both = {"usage": False, "resources": ["nodes", "deployments"]}
    watching = drive.watching(kubeconfig=edited(drive, server, exec=program), **both)
    assert (await watching.run()).value("k8s.nodes.ready") == 10
    assert count.read_text() == "1"
    access = watching.check._access
    assert access._due - time.monotonic() > 86_400
    assert len(watching.check._watches) == 2
    access._due = 0.0
    server.token = "ticket-2"
    server.cut()
    await until(lambda: len(server.requests) == 4, "the next watches")
    assert count.read_text() == "2"  # once for all watches
    server.token = "ticket-3"  # revoked before its time
    server.cut()
    watch = watching.watch("nodes")
    await until(lambda: count.read_text() == "3" and watch.fault is None and server.watching == 2, "the next login")
    assert (await watching.run()).status("k8s.can_connect").status is Status.OK


async def test_a_login_program_that_hangs_is_ended(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "_LOGIN", 0.3)
    server = await drive.server(small=True)
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sleep", "args": ["600"],
               "interactiveMode": "Never"}  # fmt: skip
    path = edited(drive, server, exec=program)
    outcome = await drive.watching(kubeconfig=path, **FEW).run()
    assert str(outcome.error) == f"the login program of {path} did not end within 0.3s"

    def runs(one: psutil.Process) -> bool:
        try:
            return one.status() != psutil.STATUS_ZOMBIE and one.cmdline() == ["sleep", "600"]
        except psutil.NoSuchProcess:
            return False

    await until(lambda: not any(map(runs, psutil.Process().children())), "the end of the program")


async def test_a_token_file_is_read_anew_once_its_token_is_refused(drive: Drive) -> None:
    server = await drive.server(small=True, token="one")
    (drive.folder / "token").write_text("one\n")
    watching = drive.watching(kubeconfig=edited(drive, server, tokenFile=str(drive.folder / "token")), **FEW)
    await watching.run()
    (drive.folder / "token").write_text("two\n")
    server.token = "two"
    server.cut()
    await until(
        lambda: server.requests[-1].headers["authorization"] == "Bearer two" and server.watching, "the new token"
    )
    assert (await watching.run()).value("k8s.nodes.ready") == 10


BAD: list[tuple[str, Any, str]] = [
    ("no YAML", "a: [b", "is not YAML, line 1"),
    ("a list", "[]", "is no usable kubeconfig"),
    ("empty", "", "is no usable kubeconfig"),
    ("no context", {"current-context": "no-such"}, "has no no-such"),
    ("no server", {"clusters": [{"name": "replay", "cluster": {"proxy-url": "http://x"}}]}, "has no `server`"),
    ("nothing", {"clusters": [{"name": "replay", "cluster": {}}]}, "is no usable kubeconfig"),
    ("no cluster", {"clusters": []}, "has no replay"),
    ("a user without a name", {"users": [{"user": {"token": SECRET}}]}, "is no usable kubeconfig"),
    ("a program that is not there", {"users": [{"name": "agent", "user": {"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such", "args": [SECRET]}}}]},
     "names /no/such, which cannot be used: No such file or directory"),
    ("a program that fails", {"users": [{"name": "agent", "user": {"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "false", "args": [SECRET]}}}]},
     "the login program of"),
    ("a certificate that is not there", {"clusters": [{"name": "replay", "cluster": {
        "server": "https://127.0.0.1:1", "certificate-authority": "/no/such.crt"}}]}, "a file that"),
    ("a certificate that is none", {"clusters": [{"name": "replay", "cluster": {
        "server": "https://127.0.0.1:1", "certificate-authority-data": "bm9uZQ=="}}]}, "certificate files"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_a_kubeconfig_that_cannot_be_used_is_one_sentence_without_secrets(
    drive: Drive, change: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await drive.server(small=True)
    path = server.kubeconfig(drive.folder, SECRET)
    if isinstance(change, str):
        path.write_text(change)
    else:
        path.write_text(json.dumps({**yaml.safe_load(path.read_text()), **change}))
    with caplog.at_level(logging.DEBUG):
        outcome = await drive.watching(kubeconfig=path, **FEW).run()
    assert outcome.error is not None
    assert message in str(outcome.error)
    said = f"{outcome.error} {outcome.error.hint} {caplog.text}"
    assert SECRET not in said
    assert "\n" not in str(outcome.error)


async def test_a_context_is_chosen(drive: Drive) -> None:
    server = await drive.server(small=True)
    path = server.kubeconfig(drive.folder)
    tree = yaml.safe_load(path.read_text())
    tree["current-context"] = "other"
    path.write_text(json.dumps(tree))
    assert "has no other" in str((await drive.watching(kubeconfig=path, **FEW).run()).error)
    assert (await drive.watching(kubeconfig=path, context="replay", **FEW).run()).value("k8s.nodes.ready") == 10


async def test_nothing_of_the_token_is_printed(drive: Drive) -> None:
    server = await drive.server(small=True)
    access = Access(server.kubeconfig(drive.folder, SECRET))
    await access.open()
    assert await access.authorization() == {"Authorization": f"Bearer {SECRET}"}
    assert SECRET not in repr(access)
    await access.close()


def printed(code: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout, done.stderr


def test_the_base_install_never_imports_kubernetes() -> None:
    code = (
        "import sys, vedette, vedette.kit, vedette.cli, vedette.agent, vedette.config\n"
        "from vedette.plugins import Registry\n"
        "Registry().names('checks')\n"
        "Registry().load('checks', 'host')\n"
        "print([name for name in sys.modules if name.startswith(('kubernetes', 'aiohttp', 'vedette_checks.k8s'))])\n"
    )
    assert printed(code) == ("[]\n", "")


def test_without_the_driver_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "k8s.yaml").write_text("instances: [{}]\n")
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'kubernetes_asyncio':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from vedette.cli import main\n"
        "sys.exit(main(['validate']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert "needs kubernetes_asyncio, which is not installed: pip install 'vedette[k8s]'" in done.stderr


def test_a_pod_does_without_the_forty_mebibytes_of_the_library() -> None:
    code = (
        "import sys\n"
        "import os\n"
        "os.environ['KUBERNETES_SERVICE_HOST'] = '10.96.0.1'\n"
        "import vedette_checks.k8s, vedette_checks.k8s.discovery, vedette_checks.k8s.engine\n"
        "print([name for name in sys.modules if name.startswith('kubernetes')])\n"
    )
    assert printed(code) == ("[]\n", "")


def test_a_service_account_is_its_two_files_and_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "ca.crt").write_text("-----BEGIN")
    login = of_service_account(tmp_path)
    assert (login.host, login.api_key) == ("https://[fd00::1]:6443", {"BearerToken": f"Bearer {SECRET}"})
    assert SECRET not in repr(login)
    (tmp_path / "ca.crt").write_text("")
    with pytest.raises(ValueError, match="empty"):
        of_service_account(tmp_path)


async def pod_access(drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA) -> tuple[Any, Access]:
    """An API server, and the access to it that a pod has."""
    server = await drive.server(small=True, tls=server_context(authority, "127.0.0.1"), token="first")
    return server, Access(account=account(drive.folder, monkeypatch, server, authority, "first"))


async def test_a_pod_asks_its_api_server_without_the_proxy_of_its_environment(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    """With NO_PROXY as kubeadm and others write it: a network, which aiohttp does not read."""
    _, access = await pod_access(drive, monkeypatch, authority)
    proxied = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxied.append(await reader.readline())
        writer.close()

    async with listening(proxy) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8,.svc")
        try:
            assert json.loads(await Client(access).get("/api/v1/nodes"))["kind"] == "NodeList"
            assert proxied == []
        finally:
            await access.close()


@pytest.mark.parametrize(("file", "text"), [("token", ""), ("ca.crt", ""), ("ca.crt", "half of a")])
async def test_what_was_read_goes_on_where_a_service_account_cannot_be_read_again(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, file: str, text: str
) -> None:
    server, access = await pod_access(drive, monkeypatch, authority)
    client = Client(access)
    await client.get("/api/v1/nodes")
    whole = (access.account / file).read_text()
    (access.account / file).write_text(text)
    access._due = 0.0  # a minute has passed
    await client.get("/api/v1/nodes")
    assert 0 < access._due - time.monotonic() <= 10
    (access.account / file).write_text(whole)
    (access.account / "token").write_text("second")
    server.token = "second"
    access._due = 0.0
    await client.get("/api/v1/nodes")
    assert [seen.headers["authorization"] for seen in server.requests] == ["Bearer first"] * 2 + ["Bearer second"]
    await access.close()


@pytest.mark.parametrize("text", ["", None], ids=["emptied", "gone"])
async def test_a_token_that_is_revoked_and_cannot_be_read_again_is_said_to_be_that(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, text: str | None
) -> None:
    server, watching, folder = await in_cluster(drive, monkeypatch, authority)
    await watching.run()
    (folder / "token").unlink()
    if text is not None:
        (folder / "token").write_text(text)
    server.token = "second"
    asked = len(server.requests)
    with pytest.raises(CheckError, match=r"token or ca\.crt is missing or empty") as raised:
        await watching.check._client.get("/api/v1/nodes")
    assert raised.value.hint == "is automountServiceAccountToken off?"
    assert len(server.requests) == asked + 1  # not twice with the same token
    server.cut()
    watch = watching.watch("nodes")
    await until(lambda: isinstance(watch.fault, CheckError), "the refusal")
    said = (await watching.run()).status("k8s.can_connect").message
    assert said.endswith("token or ca.crt is missing or empty; is automountServiceAccountToken off?")
    (folder / "token").write_text("second")
    await until(lambda: watch.fault is None and server.watching, "the watch under the new token")
    assert (await watching.run()).value("k8s.nodes.ready") == 10


async def test_an_authority_may_be_an_intermediate_one(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    _, access = await pod_access(drive, monkeypatch, trustme.CA().create_child_ca())
    assert json.loads(await Client(access).get("/api/v1/nodes"))["kind"] == "NodeList"
    await access.close()


async def test_nothing_is_asked_after_the_end(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    server, access = await pod_access(drive, monkeypatch, authority)
    await Client(access).get("/api/v1/nodes")
    await access.close()
    with pytest.raises(ApiError):
        await Client(access).get("/api/v1/nodes")
    with pytest.raises(aiohttp.ClientConnectionError, match="closed"):
        await access.authorization()
    assert (access._connections, len(server.requests)) == (None, 1)
    await access.open()
    await Client(access).get("/api/v1/nodes")
    await access.close()
