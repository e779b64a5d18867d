"""What a release says of itself, in all the places where it says it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEADING = re.compile(r"^## (\d+\.\d+\.\d+) \((unreleased|\d{4}-\d{2}-\d{2})\)$", re.MULTILINE)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_the_changelog_begins_with_the_version_that_is_built_and_goes_back_from_there() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = HEADING.findall(text)
    assert len(headings) == text.count("\n## "), "a heading is `## 1.2.3 (2026-01-31)` or `## 1.2.3 (unreleased)`"
    versions = [version(number) for number, _ in headings]
    assert headings[0][0] == PROJECT["version"]
    assert versions == sorted(set(versions), reverse=True)
    assert all(date != "unreleased" for _, date in headings[1:])


def test_the_unit_names_only_what_the_package_brings() -> None:
    unit = (ROOT / "packaging/systemd/vedette.service").read_text()
    listed = (ROOT / "packaging/deb/nfpm.yaml").read_text()
    sysusers = (ROOT / "packaging/systemd/sysusers.conf").read_text()
    (user,) = re.findall(r"^User=(\w+)$", unit, re.MULTILINE)
    assert f"\nu {user} " in sysusers
    for program in re.findall(r"^Exec\w+=\+?(\S+)", unit, re.MULTILINE):
        assert program == "/bin/sh" or f"dst: {program}," in listed  # every Debian has the shell
    for folder in re.findall(r"--conf (\S+)", unit):
        assert f"dst: {folder}," in listed


def test_the_pages_name_the_one_package_that_is_built() -> None:
    """With a second one in dist, of another version or processor, a pattern is both: apt refuses, dpkg-deb misreads."""
    for page in (ROOT / "README.md", ROOT / "docs/install.md"):
        packages = re.findall(r"\bdist/(.+?\.deb)", page.read_text())
        assert set(packages) == {f'vedette_{PROJECT["version"]}-1_"$(dpkg --print-architecture)".deb'}, page
        assert len(packages) == 2


def test_the_namespace_goes_last_when_the_chart_is_taken_away() -> None:
    page = (ROOT / "docs/kubernetes.md").read_text().partition("\n## Take it away\n")[2]
    assert "kubectl -n vedette debug" in page
    assert page.count("kubectl delete namespace vedette") == 1
    assert page.rindex("kubectl") == page.index("kubectl delete namespace vedette")
