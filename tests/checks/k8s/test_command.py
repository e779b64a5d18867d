"""What users see: doctor, plan, validate."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks.k8s.driver import Drive, node_metrics
from cli.process import vedette
from vedette.advice import Diagnosis, Grade
from vedette.config import load
from vedette.plugins import Registry
from vedette_checks.k8s import K8s, K8sConfig

pytestmark = pytest.mark.anyio


async def diagnosed(server: Any, path: Path, **options: Any) -> dict[str, Any]:
    """The symptoms by what was looked at."""
    config = K8sConfig.model_validate({"name": "test", "kubeconfig": path, **options})
    check, diagnosis = K8s(config), Diagnosis()
    await check.diagnose(diagnosis)
    await check.close()
    return {symptom.what: symptom for symptom in diagnosis.symptoms}


async def test_doctor_looks_at_each_layer(drive: Drive) -> None:
    server = await drive.server(small=True, token="agent-token")
    server.node_metrics = node_metrics(server.cluster.objects("nodes"))
    found = await diagnosed(server, server.kubeconfig(drive.folder))
    assert found["configuration"].seen == f"the cluster is {server.url}"
    assert found["TCP"].grade is Grade.OK
    assert found["TLS"].grade is Grade.WARNING
    assert found["API server"].seen == "Kubernetes v1.36.2"
    assert found["login"].seen == "as agent"
    assert (found["rights"].grade, found["rights"].seen) == (Grade.OK, "all 23 that the runs need")
    assert found["metrics.k8s.io"].grade is Grade.OK
    assert {seen.path for seen in server.requests if seen.method == "POST"} == {
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    }


async def test_doctor_says_which_rules_are_missing_all_at_once(drive: Drive) -> None:
    missing = {("list", "pods"), ("watch", "pods"), ("watch", "deployments")}
    server = await drive.server(small=True, forbidden=missing)
    found = await diagnosed(server, server.kubeconfig(drive.folder), namespaces=["web"], usage=False)
    rights = found["rights"]
    assert rights.grade is Grade.FAILED
    assert rights.seen == "agent may not list and watch pods, watch deployments"
    role, binding = yaml.safe_load_all(rights.snippet)
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "web")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["watch"]},
    ]
    assert binding["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent"}]
    asked = [
        json.loads(seen.body)["spec"]["resourceAttributes"] for seen in server.requests if "accessreviews" in seen.path
    ]
    assert {"namespace": "web", "verb": "watch", "group": "apps", "resource": "deployments"} in asked
    assert {"verb": "list", "group": "", "resource": "nodes"} in asked


async def test_doctor_tries_where_it_may_not_ask(drive: Drive) -> None:
    server = await drive.server(small=True, forbidden={("list", "pods"), ("watch", "nodes")})
    server.on(lambda seen: "accessreviews" in seen.path, "auth/403-no-rbac.pods.json")
    found = await diagnosed(server, server.kubeconfig(drive.folder), resources=["pods", "nodes"], usage=False)
    assert found["rights"].seen == "agent may not list pods, watch nodes"


@pytest.mark.parametrize(
    ("file", "what", "seen"),
    [
        ("auth/401-invalid-token.json", "login", "the API server does not know the token"),
        ("auth/403-anonymous.json", "login", "the cluster takes the agent for nobody"),
    ],
)
async def test_doctor_says_why_the_login_fails(drive: Drive, file: str, what: str, seen: str) -> None:
    server = await drive.server(small=True)
    server.on(lambda seen: seen.path != "/version" or "401" in file, file)
    found = await diagnosed(server, server.kubeconfig(drive.folder))
    assert (found[what].grade, found[what].seen) == (Grade.FAILED, seen)
    assert "rights" not in found


async def test_doctor_says_that_nothing_listens_or_is_there(drive: Drive) -> None:
    server = await drive.server(small=True)
    path = server.kubeconfig(drive.folder)
    await server.stop()
    found = await diagnosed(server, path)
    assert found["TCP"].grade is Grade.FAILED
    assert found["login"].grade is Grade.NOT_REACHED
    path.unlink()
    found = await diagnosed(server, path)
    assert found["kubeconfig"].grade is Grade.FAILED


async def test_the_commands_take_the_configuration(drive: Drive, tmp_path: Path) -> None:
    server = await drive.server(small=True)
    server.node_metrics = node_metrics(server.cluster.objects("nodes"))
    (tmp_path / "conf.d").mkdir()
    options = {"kubeconfig": str(server.kubeconfig(tmp_path)), "resources": ["pods", "nodes"]}
    (tmp_path / "conf.d" / "k8s.yaml").write_text(json.dumps({"instances": [options]}))
    (tmp_path / "conf.d" / "agent.yaml").write_text("sinks: [{type: file, path: ../out.jsonl}]\n")
    done = await asyncio.to_thread(lambda: vedette("plan", cwd=tmp_path))
    assert done.returncode == 0, done.stderr
    lines = {
        tuple(line.split("  ")[1].split()): line.split() for line in done.stdout.splitlines() if line.startswith("  ")
    }
    objects = len(server.cluster.objects("pods")) + 12
    assert str(objects) in lines["objects", "listed", "at", "the", "start"]
    assert "2" in lines["watches", "held", "open"]
    per_day = 86_400 / 15 + 2 * 86_400 / 450
    assert f"{per_day:,.0f}" in lines["API", "requests", "per", "day"]


def test_only_a_leader_that_is_asked_for_needs_a_fleet(tmp_path: Path) -> None:
    (tmp_path / "k8s.yaml").write_text(
        "instances:\n  - {name: a}\n  - {name: b, scope: node}\n  - {name: c, run_on: leader}\n"
    )
    found = load(tmp_path, Registry())
    assert [str(problem).partition("k8s.yaml")[2] for problem in found.problems] == [
        ":2: instances[0]: warning: every agent that has this file runs it, and sends the same series, since agent.yaml"
        " has no `fleet:`; `run_on: every_node` says that it is meant so",
        ":4: instances[2].run_on: needs `fleet:` in agent.yaml; docs/fleet.md shows how; without it, `run_on: "
        "every_node` has each agent run it",
    ]
    assert [(one.id, one.config.run_on) for one in found.instances] == [("k8s/a", "leader"), ("k8s/b", "every_node")]
    assert not any(one.owned for one in found.instances)
    (tmp_path / "agent.yaml").write_text("fleet: {backend: kubernetes}\n")
    found = load(tmp_path, Registry())
    assert (found.problems, [one.run_on for one in found.instances]) == ((), ["leader", "every_node", "leader"])
