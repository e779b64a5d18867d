"""The rules in packaging/kubernetes are what the requests need: no more and no less."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from checks.k8s.driver import ROOT, Drive, node_metrics
from checks.k8s.test_scope import summary
from vedette_checks.k8s import K8sConfig
from vedette_checks.k8s.rbac import Rule, rules, snippet

pytestmark = pytest.mark.anyio

FOLDER = ROOT / "packaging" / "kubernetes"
Right = tuple[str, str, str]
"""Verb, API group, resource."""


def needed(seen: Any) -> Right:
    """The right that a request needs (Kubernetes documentation, "Authorization: request attributes", and "Kubelet
    authorization" for what does not go to the API server)."""
    if seen.path.startswith("/stats/"):
        return ("get", "", "nodes/stats")
    found = re.fullmatch(r"/(?:api/v1|apis/([^/]+)/[^/]+)(?:/namespaces/([^/]+))?/([^/]+)(/[^/]+)?", seen.path)
    assert found is not None, seen.path
    assert seen.method == "GET"
    verb = "get" if found[4] else "watch" if seen.watches else "list"
    return (verb, found[1] or "", found[3])


def granted(file: str) -> set[Right]:
    documents = yaml.safe_load_all((FOLDER / file).read_text())
    (role,) = [one for one in documents if one["kind"] in ("ClusterRole", "Role")]
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("rbac-cluster.yaml", {}),
        ("rbac-node.yaml", {"scope": "node", "node": "worker-03"}),
        ("rbac-namespace.yaml", {"namespaces": ["payments"], "usage": False, "resources": [
            "pods", "deployments", "daemonsets", "statefulsets", "jobs", "cronjobs", "horizontalpodautoscalers",
            "persistentvolumeclaims", "resourcequotas", "poddisruptionbudgets"]}),
    ],
)  # fmt: skip
async def test_the_manifests_grant_exactly_what_the_requests_need(
    drive: Drive, file: str, options: dict[str, Any]
) -> None:
    asked: set[Right] = set()
    for streaming in ("yes", "refused"):
        for kubelet in (True, False):
            server = await drive.server(small=True, streaming=streaming)
            server.node_metrics = node_metrics(server.cluster.objects("nodes"))
            if kubelet:
                server.on("/stats/summary", summary(server, "worker-03"))
            more = {"kubelet": {"url": server.url}} if options.get("scope") == "node" else {}
            watching = drive.watching(server, **options, **more)
            outcome = await watching.run()
            assert outcome.error is None
            await watching.check.close()
            asked |= {needed(seen) for seen in server.requests}
            await server.stop()
    assert asked == granted(file)
    config = K8sConfig.model_validate({"name": "test", "kubeconfig": "/k", **options})
    assert {(verb, rule.group, rule.resource) for rule in rules(config) for verb in rule.verbs} == asked


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_the_manifests_are_valid(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, "1.36", strict=True)
    command = [str(Path(sys.executable).parent / "kubernetes-validate"), "--strict", str(path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_chart_has_the_same_rules() -> None:
    files = ROOT / "packaging" / "helm" / "vedette" / "files"
    there = {path.name: path.read_text() for path in FOLDER.glob("rbac-*.yaml")}
    assert {path.name: path.read_text() for path in files.glob("*.yaml")} == there, "run: make manifests"


@pytest.mark.parametrize("user", ["system:serviceaccount:vedette:vedette", "agent", 'x: "y"'])
def test_the_missing_rules_are_manifests_that_can_be_applied(user: str) -> None:
    missing = [Rule("", "pods", ("list", "watch")), Rule("apps", "deployments", ("watch",), "web")]
    documents = list(yaml.safe_load_all(snippet(missing, user)))
    assert [one["kind"] for one in documents] == ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
    for document in documents:
        kubernetes_validate.validate(document, "1.36", strict=True)
    assert documents[0]["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    assert documents[2]["metadata"]["namespace"] == "web"
    subject = documents[1]["subjects"][0]
    assert subject["name"] == ("vedette" if user.startswith("system:") else user)
