"""Writes what is made from the Helm chart: plain manifests in packaging/kubernetes, the table in the chart's README.

It also puts the rules of packaging/kubernetes/rbac-*.yaml into the chart, whose templates make roles of them.

`make manifests` runs it; `--check` changes nothing and fails where a file is stale, as a test does.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parent / "vedette"
MANIFESTS = Path(__file__).parent.parent / "kubernetes"
NAME = "vedette"
"""Release and namespace of the manifests; rbac-*.yaml have the same."""
RENDERED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "vedette.yaml": (
        "An agent on each node and two for the cluster, with PodSecurity `restricted`.",
        {"namespace": {"create": True}},
    ),
    "vedette-host.yaml": (
        "The same with `node.hostAccess`: containers' logs and a StatsD socket; the namespace is `privileged`.",
        {"namespace": {"create": True, "podSecurity": "privileged"}, "node": {"hostAccess": True}},
    ),
}
_LEAVES = {
    "agent", "commonLabels", "global", "prometheus.serviceMonitorLabels", "secrets.values",
    *(f"{role}.{name}" for role in ("node", "cluster") for name in (
        "agent", "conf", "resources", "nodeSelector", "tolerations", "affinity", "updateStrategy", "secrets",
        "serviceAccount.annotations", "podAnnotations", "podLabels")),
    "node.host.conf", "node.host.seLinuxOptions",
}  # fmt: skip
"""Options that are mappings of the user's own."""
_BEGIN, _END = "<!-- values -->", "<!-- /values -->"
_ORDER = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ConfigMap")


def render(values: Mapping[str, Any], namespace: str = NAME) -> dict[str, str]:
    """The chart's templates with these values: a file's name, without folders, to its text.

    Raises:
        helm_python.HelmError: the values are refused; the text says why.
    """
    with helm_python.Chart.load(str(CHART)) as chart:
        rendered = chart.render(dict(values), name=NAME, namespace=namespace)
    return {Path(name).name: text for name, text in rendered.items()}


def objects(values: Mapping[str, Any], namespace: str = NAME) -> list[dict[str, Any]]:
    """The objects that these values make, in the order in which they are to be applied."""
    texts = render(values, namespace)
    found = [one for name, text in texts.items() if name != "NOTES.txt" for one in yaml.safe_load_all(text) if one]
    places = {kind: place for place, kind in enumerate(_ORDER)}
    return sorted(found, key=lambda one: (places.get(one["kind"], len(places)), one["kind"], one["metadata"]["name"]))


def manifest(what: str, values: Mapping[str, Any]) -> str:
    """A file for kubectl: as rendered, less the labels that say it belongs to helm."""
    head = (
        f"# {what}\n"
        "# Rendered from packaging/helm/vedette (`make manifests`). Put your image and your conf.d in, "
        "and kubectl apply -f it.\n"
    )
    return head + "---\n".join(
        yaml.dump(_without_helm(one), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for one in objects(values)
    )


class _Dumper(yaml.SafeDumper):
    """Long texts as they are."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists in mappings, as the other manifests do."""
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _without_helm(node: Any) -> Any:
    if isinstance(node, dict):
        helm = ("helm.sh/chart", "app.kubernetes.io/managed-by")
        return {key: _without_helm(value) for key, value in node.items() if key not in helm}
    if isinstance(node, list):
        return [_without_helm(item) for item in node]
    return node


def chart_version(version: str) -> str:
    """A version of PEP 440 as Helm takes it: `0.2.0rc1` is `0.2.0-rc.1`.

    SemVer sorts numbers before letters: `0` puts dev before a. Source: https://semver.org, items 9 and 11.

    Raises:
        ValueError: SemVer has no such version.
    """
    found = re.fullmatch(r"(\d+\.\d+\.\d+)(?:(a|b|rc)(\d+)|\.dev(\d+))?", version)
    if found is None:
        raise ValueError(f"version {version}: a chart's is 1.2.3, with a1, b1, rc1 or .dev1 behind it at most")
    release, kind, number, dev = found.groups()
    return f"{release}-{kind}.{number}" if kind else f"{release}-0.dev.{dev}" if dev else release


def options() -> Iterator[tuple[str, Any, str]]:
    """Every option of values.yaml: its path, its default, and the comment above it.

    Raises:
        ValueError: one has no comment.
    """
    text = (CHART / "values.yaml").read_text()
    yield from _options(yaml.compose(text), yaml.safe_load(text), "", text.splitlines())


def _options(node: Any, values: Mapping[str, Any], above: str, lines: list[str]) -> Iterator[tuple[str, Any, str]]:
    for key, value in node.value:
        path = f"{above}{key.value}"
        default = values[key.value]
        if isinstance(default, dict) and path not in _LEAVES:
            yield from _options(value, default, f"{path}.", lines)
            continue
        comment = lines[key.start_mark.line - 1].strip()
        if not comment.startswith("# "):
            raise ValueError(f"values.yaml:{key.start_mark.line + 1}: {path}: has no comment above it")
        yield path, default, comment.removeprefix("# ")


def table() -> str:
    """The options as a table in Markdown."""
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for path, default, meaning in options():
        shown = "see values.yaml" if isinstance(default, dict) and default else f"`{json.dumps(default)}`"
        if default in ("", [], {}, None):
            shown = "none"
        elif isinstance(default, str):
            shown = f"`{default}`"
        elif isinstance(default, list):
            shown = "see values.yaml"
        rows.append(f"| `{path}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def made() -> dict[Path, str]:
    """Every file that is made from the chart, with the text it is to have."""
    readme = CHART / "README.md"
    text = readme.read_text()
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"README.md: no {_BEGIN} … {_END}")
    filled = re.sub(f"{_BEGIN}.*{_END}", lambda _: f"{_BEGIN}\n{table()}\n{_END}", text, flags=re.DOTALL)
    return parts() | {readme: filled} | {MANIFESTS / name: manifest(*how) for name, how in RENDERED.items()}


def parts() -> dict[Path, str]:
    """Files of the chart that its templates read: the rules."""
    return {CHART / "files" / path.name: path.read_text() for path in sorted(MANIFESTS.glob("rbac-*.yaml"))}


def main() -> int:
    """Write them, or with `--check` name those that are stale."""
    check = "--check" in sys.argv
    (CHART / "files").mkdir(exist_ok=True)
    for path, text in ({} if check else parts()).items():  # the chart is rendered with them
        path.write_text(text)
    stale = {path: text for path, text in made().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        if not check:
            path.write_text(text)
        print(f"{'stale' if check else 'written'}: {path.relative_to(MANIFESTS.parent)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
