"""What can be said of the Debian package without building it."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from vedette.config import load
from vedette.plugins import Registry

ROOT = Path(__file__).parents[2]
DEB = ROOT / "packaging/deb"
FROZEN = {
    "agent.yaml": "cd46adeecefc086079399ec507f5db4f3ef0cd272e0848e0fdfd309acca93d69",
    "host.yaml": "e108c5e27f3da9275b7e56bc48d9da0f0fdc910b3637f5d57eaef5d3fb84e4ae",
}


def build() -> ModuleType:
    """packaging/deb/build.py."""
    found = importlib.util.spec_from_file_location("build_deb", DEB / "build.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_files_that_everybody_edits_are_the_same_in_every_release() -> None:
    """dpkg asks what to do with an edited conffile only if the new package's differs from the old one's.

    In an unattended upgrade nobody answers: it stops with the package unpacked and not configured. So these bytes stay,
    comments too; what is new is explained in packaging/deb/reference. Nothing else is a conffile.
    """
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (DEB / "conf.d").iterdir()}
    assert found == FROZEN, "these files must not change: see what this test says, and put it into the reference"
    contents = yaml.safe_load((DEB / "nfpm.yaml").read_text())["contents"]
    conffiles = [one["src"] for one in contents if one.get("type", "").startswith("config")]
    assert conffiles == ["packaging/deb/conf.d/*.yaml"]
    assert not any(one["dst"].startswith("/etc") for one in contents if one.get("type") not in ("config", "dir"))


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "amd64")])
def test_the_package_is_for_the_machine_that_builds_it(
    monkeypatch: pytest.MonkeyPatch, machine: str, arch: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert build().own_arch() == arch


def test_what_the_page_says_to_install_can_be_read_by_the_agent_under_umask_027() -> None:
    page = (ROOT / "docs/install.md").read_text()
    commands = re.findall(r"^.*?((?:\(umask 022; )?[^`\n(]*(?<!python3-)\bpip .*)$", page, re.MULTILINE)
    into = [one for one in commands if "/opt/vedette" in one]
    assert len(into) == 2
    assert all(one.startswith("(umask 022; ") for one in into)


@pytest.mark.skipif(not shutil.which("dpkg"), reason="there is no dpkg")
def test_what_comes_before_a_release_sorts_before_it() -> None:
    order = ["0.2.0.dev3", "0.2.0a1", "0.2.0b1", "0.2.0rc1.dev1", "0.2.0rc1", "0.2.0", "0.2.0.post1", "0.2.1"]
    versions = [f"{build().debian_version(one)}-1" for one in order]
    for earlier, later in pairwise(versions):
        assert subprocess.run(["dpkg", "--compare-versions", earlier, "lt", later], check=False).returncode == 0, later


def test_the_reference_is_a_configuration_that_is_valid(tmp_path: Path) -> None:
    """Beside the host.yaml that comes with it; its secret alone is not there."""
    secret = "/run/credentials/vedette.service/dd"
    text = (DEB / "reference/agent.yaml").read_text()
    assert secret in text
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/agent.yaml").write_text(text.replace(secret, str(tmp_path / "key")))
    (tmp_path / "conf.d/host.yaml").write_bytes((DEB / "conf.d/host.yaml").read_bytes())
    configuration = load(tmp_path / "conf.d", Registry())
    assert configuration.problems == ()
    assert [kind.name for kind, _ in configuration.sinks] == ["prometheus", "dogstatsd", "datadog"]
    assert [one.id for one in configuration.instances] == ["host/host"]
