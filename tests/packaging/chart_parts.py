"""The chart, rendered by Helm's own library, and what its objects are made of."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "packaging" / "helm" / "vedette"


def renderer() -> Any:
    """packaging/helm/render.py as a module; the test is skipped where Helm's library is not installed."""
    pytest.importorskip("helm_python", reason="`make test-packaging` installs helm-python-sdk")
    found = importlib.util.spec_from_file_location("render_chart", ROOT / "packaging" / "helm" / "render.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (one,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return one


def pod(objects: list[dict[str, Any]], role: str) -> dict[str, Any]:
    """The spec of the pods of one role."""
    (one,) = of_kind(objects, "DaemonSet" if role == "node" else "Deployment")
    spec: dict[str, Any] = one["spec"]["template"]["spec"]
    return spec


def conf(objects: list[dict[str, Any]], role: str) -> dict[str, str]:
    """The files of one role's conf.d, found as its pods find them."""
    (volume,) = [one for one in pod(objects, role)["volumes"] if one["name"] == "conf"]
    data: dict[str, str] = named(objects, "ConfigMap", volume["configMap"]["name"])["data"]
    return data


def granted(objects: list[dict[str, Any]], account: str) -> set[tuple[str, str, str, str]]:
    """Namespace (empty: all), verb, API group and resource of each right that this service account is given."""
    rights: set[tuple[str, str, str, str]] = set()
    for binding in [*of_kind(objects, "ClusterRoleBinding"), *of_kind(objects, "RoleBinding")]:
        if not any(subject["name"] == account for subject in binding["subjects"]):
            continue
        place = binding["metadata"].get("namespace", "")
        roles = of_kind(objects, binding["roleRef"]["kind"])
        (role,) = [
            one
            for one in roles
            if (one["metadata"]["name"], one["metadata"].get("namespace", "")) == (binding["roleRef"]["name"], place)
        ]
        rights |= {
            (place, verb, group, resource)
            for rule in role["rules"]
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
    return rights
