"""The Helm chart: what it makes is valid, restricted, asks for no right that it does not need, and is configuration."""

from __future__ import annotations

import copy
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from chart_parts import CHART, ROOT, conf, granted, named, of_kind, pod, renderer
from podsecurity import containers, violations

from cli.process import Running, vedette
from servers import free_port, until
from vedette_checks.k8s import K8sConfig
from vedette_checks.k8s.rbac import fleet_rules, rules

pytestmark = pytest.mark.packaging


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Values over values, as several files given to helm."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = merged(whole[key], value) if both else copy.deepcopy(value)
    return whole


PAGE: dict[str, Any] = {"prometheus": {"enabled": True, "tlsSecret": "tls", "authSecret": "scrape"}}
API_SERVER = [{"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}], "ports": [{"port": 6443}]}]
FULL: dict[str, Any] = {
    "image": {"repository": "registry.example.com/vedette", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": ["registry"],
    "commonLabels": {"team": "payments"},
    "agent": {
        "tags": ["team:payments"],
        "sinks": [{"type": "datadog", "api_key": "${file:/etc/vedette/secrets/datadog/api-key}"}],
    },
    "secrets": {"existing": ["datadog"], "values": {"token": "a secret of both"}},
    "env": [{"name": "ENVIRONMENT", "value": "production"}],
    "networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}], "apiServer": API_SERVER},
    "prometheus": {
        "enabled": True,
        "tlsSecret": "vedette-tls",
        "authSecret": "vedette-scrape",
        "from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
    },
    "node": {
        "agent": {"autodiscovery": [{"type": "k8s", "allow": ["redis"]}]},
        "conf": {"statsd.yaml": "instances:\n  - {name: apps, listen: '0.0.0.0:8125'}\n", "k8s.yaml": ""},
        "priorityClassName": "system-node-critical",
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    },
    "cluster": {
        "replicas": 3,
        "conf": {
            "k8s.yaml": {"instances": [
                {"name": "shop", "namespaces": ["shop", "web"], "resources": ["pods", "deployments"]},
                {"name": "nodes", "resources": ["nodes"], "usage": False},
            ]},
            "cloudwatch.yaml": {"instances": [{
                "name": "shop", "region": "eu-central-1", "run_on": "hash", "discover": ["rds"]}]},
            "synthetic.yaml": {"defaults": {"run_on": "hash"}, "instances": [
                {"name": "shop", "url": "https://shop.example.com/health"}]},
            "payments-db.yaml": (
                "check: business_sql\n"
                "instances:\n"
                "  - name: revenue\n"
                "    run_on: leader\n"
                "    url: postgresql+asyncpg://vedette@db/payments\n"
                "    password: ${file:/etc/vedette/secrets/payments-db/password}\n"
                "    window: {every: 1h}\n"
                "    queries:\n"
                "      - sql: SELECT count(*) AS n FROM payments WHERE at >= :start_time AND at < :end_time\n"
                "        columns: {n: {metric: business.hourly.transaction_count}}\n"
            ),
        },
        "secrets": {"existing": ["payments-db"], "values": {"own": "a secret of the cluster's"}},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/vedette"}},
    },
}  # fmt: skip
HOST: dict[str, Any] = {"namespace": {"create": True, "podSecurity": "privileged"}, "node": {"hostAccess": True}}
ROOT_MOUNT: dict[str, Any] = {"node": {"hostAccess": True, "host": {"root": True, "logs": False}}}
ALL = {"defaults": {}, "full": FULL, "host": HOST, "root": ROOT_MOUNT}
DISCOVERY: dict[str, Any] = {"autodiscovery": [{"type": "k8s", "allow": ["redis"]}]}
CONTAINERS = yaml.safe_load((CHART / "files" / "conf.d" / "node-logs" / "log_file.yaml").read_text())
OWN_NODE = {"type": "k8s", "node": "${env:NODE_NAME:-node-7}"}
TEMPLATE: dict[str, Any] = {"instances": [{"match": {"image": "redis:*"}, "host": "%%host%%"}]}
VERSIONS = ("1.25", "1.28", "1.31", "1.34", "1.36", "1.37")
slow = pytest.mark.slow  # what `make lint-packaging` leaves out


@pytest.fixture(scope="module")
def chart() -> Any:
    return renderer()


@pytest.fixture(scope="module")
def made(chart: Any) -> dict[str, list[dict[str, Any]]]:
    return {name: chart.objects(values) for name, values in ALL.items()}


def test_helm_finds_nothing_to_complain_about(chart: Any) -> None:
    found = chart.helm_python.lint(str(CHART))
    assert found["errors"] == []
    assert [one["error"] for one in found["messages"]] == ["icon is recommended"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert (about["version"], about["appVersion"]) == (chart.chart_version(version[1]), version[1])


def test_a_release_candidate_has_a_version_that_helm_takes(chart: Any, tmp_path: Path) -> None:
    order = ["0.2.0.dev1", "0.2.0a1", "0.2.0b1", "0.2.0rc1", "0.2.0rc2", "0.2.0"]
    assert [chart.chart_version(one) for one in order] == [
        "0.2.0-0.dev.1", "0.2.0-a.1", "0.2.0-b.1", "0.2.0-rc.1", "0.2.0-rc.2", "0.2.0",
    ]  # fmt: skip
    for wrong in ("0.2", "0.2.0.post1", "0.2.0rc1.dev1"):
        with pytest.raises(ValueError, match=f"version {wrong}: a chart's is 1.2.3"):
            chart.chart_version(wrong)
    copied = Path(shutil.copytree(CHART, tmp_path / "vedette"))
    about = re.sub(r"(?m)^version: .*$", "version: 0.2.0-rc.1", (copied / "Chart.yaml").read_text())
    (copied / "Chart.yaml").write_text(re.sub(r"(?m)^appVersion: .*$", "appVersion: 0.2.0rc1", about))
    assert chart.helm_python.lint(str(copied))["errors"] == []
    with chart.helm_python.Chart.load(str(copied)) as loaded:
        assert Path(loaded.save(str(tmp_path))).name == "vedette-0.2.0-rc.1.tgz"


def test_the_chart_is_whole_when_it_is_packed(chart: Any, tmp_path: Path) -> None:
    with chart.helm_python.Chart.load(str(CHART)) as loaded:
        archive = loaded.save(str(tmp_path))
    with chart.helm_python.Chart.load(archive) as packed:
        texts = packed.render({}, name="vedette", namespace="vedette")
    assert {Path(name).name: text for name, text in texts.items()} == chart.render({})


@pytest.mark.parametrize("version", [*(pytest.param(one, marks=slow) for one in VERSIONS[:-1]), VERSIONS[-1]])
@pytest.mark.parametrize("name", ALL)
def test_every_object_is_valid_for_the_api(made: dict[str, Any], name: str, version: str) -> None:
    assert len(made[name]) > 10
    for one in made[name]:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("name", ["defaults", "full"])
def test_pods_are_restricted(made: dict[str, Any], name: str) -> None:
    for role in ("node", "cluster"):
        spec = pod(made[name], role)
        assert violations(spec) == []
        for one in containers(spec):
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (10001, 10001)
        assert "supplementalGroups" not in spec["securityContext"]


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("hostNetwork", True, "hostNetwork"),
        ("hostPID", True, "hostPID"),
        ("volumes.0", {"name": "x", "hostPath": {"path": "/"}}, "volume x: hostPath"),
        ("securityContext.runAsUser", 0, "runAsUser 0"),
        ("securityContext.runAsNonRoot", False, "runAsNonRoot false"),
        ("securityContext.seccompProfile.type", "Unconfined", "seccompProfile"),
        ("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctl kernel.msgmax"),
        ("containers.0.securityContext", {}, "vedette: capabilities not dropped"),
        ("containers.0.securityContext.privileged", True, "vedette: privileged"),
        ("containers.0.securityContext.allowPrivilegeEscalation", True, "vedette: allowPrivilegeEscalation"),
        ("containers.0.securityContext.capabilities.add", ["SYS_PTRACE"], "vedette: capabilities SYS_PTRACE"),
        ("containers.0.ports.0.hostPort", 8125, "vedette: hostPort 8125"),
        ("containers.0.livenessProbe.httpGet.host", "127.0.0.1", "vedette: livenessProbe host"),
    ],
)
def test_the_judge_sees_what_is_not_restricted(made: dict[str, Any], path: str, value: Any, what: str) -> None:
    spec = copy.deepcopy(pod(made["defaults"], "node"))
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = spec
    for part in above:
        place = place[part]
    place[last] = value
    assert what in violations(spec)


def test_host_access_mounts_what_it_says_and_the_agent_stays_unprivileged(made: dict[str, Any]) -> None:
    spec = pod(made["host"], "node")
    assert {one["name"]: one["hostPath"]["path"] for one in spec["volumes"] if "hostPath" in one} == {
        "logs": "/var/log",
        "sockets": "/var/run/vedette-k8s",
        "state": "/var/lib/vedette-k8s",
    }
    (agent,) = spec["containers"]
    (folders,) = spec["initContainers"]
    mounts = {one["name"]: one for one in agent["volumeMounts"]}
    assert (mounts["logs"]["mountPath"], mounts["logs"]["readOnly"]) == ("/var/log", True)
    assert agent["securityContext"] == pod(made["defaults"], "node")["containers"][0]["securityContext"]
    assert folders["command"] == ["chown", "10001:10001", "/var/run/vedette", "/var/lib/vedette"]
    assert folders["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert violations(spec) == [
        "volume state: hostPath",
        "volume logs: hostPath",
        "volume sockets: hostPath",
        "folders: runAsUser 0",
        "folders: runAsNonRoot false",
        "folders: runAsNonRoot",
        "folders: capabilities CHOWN",
    ]
    assert spec["securityContext"]["supplementalGroups"] == [0]
    assert sorted(conf(made["host"], "node")) == ["agent.yaml", "host.yaml", "k8s.yaml", "log_file.yaml", "statsd.yaml"]
    assert violations(pod(made["host"], "cluster")) == []
    (namespace,) = of_kind(made["host"], "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    root = pod(made["root"], "node")
    assert {"name": "root", "hostPath": {"path": "/", "type": "Directory"}} in root["volumes"]
    assert "supplementalGroups" not in root["securityContext"]
    assert "log_file.yaml" not in conf(made["root"], "node")


def test_a_namespace_may_give_the_user_and_selinux_its_context(chart: Any) -> None:
    for role in ("node", "cluster"):
        spec = pod(chart.objects({"runAs": None, "secrets": {"existing": ["x"]}}), role)
        kinds = [one.get("configMap") or one.get("secret") for one in spec["volumes"]]
        assert [one["defaultMode"] for one in kinds if one] == [0o444, 0o444]  # whatever the user's group
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & spec["securityContext"].keys()
        assert violations(spec) == []
    objects = chart.objects(
        merged(HOST, {"runAs": 1000680000, "node": {"host": {"seLinuxOptions": {"type": "spc_t"}}}})
    )
    spec = pod(objects, "node")
    assert spec["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 1000680000
    assert spec["initContainers"][0]["command"][1] == "1000680000:1000680000"
    assert spec["volumes"][0]["configMap"]["defaultMode"] == 0o440
    assert "seLinuxOptions" not in pod(objects, "cluster")["securityContext"]


def test_the_notes_say_what_host_access_takes(chart: Any) -> None:
    notes = chart.render(HOST)["NOTES.txt"]
    assert "pod-security.kubernetes.io/enforce=privileged" in notes
    assert "WARNING" not in notes
    assert "They still run as 10001 without" in notes
    assert "They still run as 1000650000 without" in chart.render(merged(HOST, {"runAs": 1000650000}))["NOTES.txt"]
    both = chart.render(merged(HOST, {"node": {"host": {"root": True}}}))["NOTES.txt"]
    assert "WARNING: with node.host.logs and node.host.root together" in both
    plain = chart.render({})["NOTES.txt"]
    assert "hostAccess" not in plain
    assert "Nothing is sent anywhere" in plain
    assert "Nothing is sent anywhere" not in chart.render(FULL)["NOTES.txt"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nod": {}}, "'nod' not allowed"),
        ({"node": {"hostaccess": True}}, "'hostaccess' not allowed"),
        ({"node": {"conf": {"agent.yaml": {}}}}, "/node/conf/agent.yaml"),
        ({"node": {"conf": {"redis": {}}}}, "'redis' not allowed"),
        ({"node": {"conf": {"redis.yaml": 5}}}, "/node/conf/redis.yaml': got number"),
        ({"cluster": {"replicas": 0}}, "minimum: got 0, want 1"),
        ({"namespace": {"podSecurity": "strict"}}, "value must be one of 'restricted', 'baseline', 'privileged'"),
        ({"image": {"digest": "abc"}}, "/image/digest"),
        ({"agent": {"sinks": [{"host": "x"}]}}, "missing property 'type'"),
        ({"env": [{"value": "x"}]}, "missing property 'name'"),
        ({"node": {"enabled": False}, "cluster": {"enabled": False}}, "nothing would run"),
        ({"namespace": {"create": True}, "node": {"hostAccess": True}}, "which PodSecurity restricted forbids"),
        ({"node": {"host": {"root": True}}}, "node.host.root: true needs node.hostAccess: true"),
        ({"node": {"extraVolumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, "node.extraVolumes: x is a hostPath"),
        ({"cluster": {"extraVolumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, "cluster.extraVolumes: x is a"),
        ({"node": {"conf": {"all.yaml": {"check": "k8s", "instances": [{}]}}}}, "node.conf: all.yaml: an instance"),
        ({"cluster": {"fleet": False}}, "several agents need a fleet"),
        ({"cluster": {"conf": {"tcp.yaml": {"instances": [{"host": "x"}]}}}}, "cluster.conf: tcp.yaml: an instance"),
        ({"cluster": {"conf": {"tcp.yaml": "instances: [}"}}}, "cluster.conf: tcp.yaml: "),
        ({"prometheus": {"enabled": True}}, "takes TLS and a password"),
        ({"prometheus": {"serviceMonitor": True}}, "needs prometheus.enabled"),
        ({"probes": {"listen": "127.0.0.1:8128"}}, "probes.listen: 127.0.0.1:8128 is the pod's own"),
        ({"agent": {"http": {"probes": "0.0.0.0:9999"}}}, "agent.http.probes of the node agents is not probes.listen"),
        ({"cluster": {"agent": {"http": {"probes": None}}}}, "agent.http.probes of the cluster agents is not"),
        (merged(PAGE, {"agent": {"sinks": [{"type": "prometheus"}]}}), "serves a page on port 9464"),
        ({"commonLabels": {"app.kubernetes.io/instance": "x"}}, "commonLabels: app.kubernetes.io/instance is the"),
        ({"node": {"podLabels": {"app.kubernetes.io/component": "x"}}}, "node.podLabels: app.kubernetes.io/component"),
        (
            {"namespace": {"create": True}, "cluster": {"extraVolumes": [{"name": "x", "nfs": {"server": "x"}}]}},
            "cluster.extraVolumes: nfs volumes are forbidden by PodSecurity restricted",
        ),
        (
            {"terminationGracePeriodSeconds": 30, "node": {"agent": {"stop_timeout": "0.5m"}}},
            "terminationGracePeriodSeconds: 30 is not more than stop_timeout of the node agents, 0.5m: ",
        ),
        ({"agent": {"stop_timeout": "${env:STOP}"}}, "${env:STOP}, which only they can read: set terminationGrace"),
        ({"secrets": {"existing": ["values"], "values": {"a": "b"}}}, "secrets.existing: values is the folder of"),
        (merged(HOST, {"runAs": None}), "runAs: null leaves open whose the folders of node.hostAccess are to be"),
        ({"cluster": {"conf": {"k8s.yaml": ""}}}, "cluster.conf has no instance, and an agent with nothing to do"),
        ({"node": {"conf": dict.fromkeys(("k8s.yaml", "host.yaml", "statsd.yaml"), "")}}, "set node.enabled: false"),
        (merged(PAGE, {"probes": {"listen": "0.0.0.0:9464"}}), "is on the port of the node agents' Prometheus page"),
        ({"probes": {"listen": "0.0.0.0:9464"}}, "is on the port of the node agents' Prometheus page"),
        ({"probes": {"listen": "0.0.0.0:8127"}}, "is on the port of the node agents' status page"),
        ({"fullnameOverride": "Vedette_X"}, "/fullnameOverride': 'Vedette_X' does not match"),
        ({"fullnameOverride": "123"}, "/fullnameOverride': '123' does not match"),
        ({"fullnameOverride": "vedette-node"}, "as those on nodes of a release vedette would be called"),
        ({"nameOverride": "a b"}, "/nameOverride': 'a b' does not match"),
        ({"nameOverride": "Vedette"}, "objects called vedette-Vedette, and Services"),
        ({"nameOverride": "x" * 64}, "/nameOverride': maxLength"),
        (
            merged(HOST, {"node": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}}),
            "node.updateStrategy: maxSurge: 1 starts the new agent beside the old one",
        ),
        ({"cluster": {"conf": {"k8s.yaml": {"instances": [{"namespaces": ["${env:NS}"]}]}}}}, "namespaces has a var"),
        ({"cluster": {"agent": {"fleet": {"namespace": "${env:NS}"}}}}, "fleet.namespace of the cluster agents is a"),
        ({"node": {"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}}, "node.extraVolumes: tmp is the name of"),
        (
            {"secrets": {"existing": ["x"]}, "cluster": {"extraVolumes": [{"name": "secret-x", "emptyDir": {}}]}},
            "cluster.extraVolumes: secret-x is the name of another volume",
        ),
        ({"env": [{"name": "NODE_NAME", "value": "x"}]}, "env: NODE_NAME is there twice (NODE_NAME is the chart's)"),
        ({"cluster": {"env": [{"name": "A"}, {"name": "A"}]}}, "cluster.env: A is there twice"),
        ({"node": {"env": [{"name": "A", "value": "$(A),x"}]}}, "node.env: A takes itself: write it out"),
        (
            {"node": {"conf": {"host.yml": ""}}},
            "node.conf: host.yml would run beside the chart's host.yaml: call it host.",
        ),
        (
            {"node": {"hostAccess": True, "host": {"conf": {"log_file.yaml": CONTAINERS}}}},
            "node.host.conf: log_file.yaml is the chart's own, as --reuse-values brings it from an older chart",
        ),
        ({"commonLabels": {"a": "b"}, "node": {"podLabels": {"a": "c"}}}, "node.podLabels: a is in commonLabels too"),
        ({"commonLabels": {"pod-security.kubernetes.io/enforce": "x"}}, "set namespace.podSecurity"),
        ({"cluster": {"serviceAccount": {"create": False}}}, "to the namespace's account default, that is to every"),
        ({"networkPolicy": {"egress": [{"ports": [{"port": 443}]}]}}, "apiServer is empty: name them there, even if"),
        ({"networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}}, "ports: [{port: 10250}]"),
        ({"networkPolicy": {"apiServer": [{"ports": [{"port": 443}]}]}}, "missing property 'to'"),
        ({"networkPolicy": {"apiServer": [{"to": []}]}}, "/networkPolicy/apiServer/0/to': minItems"),
        ({"cluster": {"agent": DISCOVERY}}, "cluster.agent.autodiscovery: k8s finds the pods of the node that the"),
        ({"cluster": {"agent": {"autodiscovery": [OWN_NODE]}}}, "cluster.agent.autodiscovery: k8s finds the pods of"),
        (
            {"cluster": {"agent": {"autodiscovery": [{"type": "k8s", "kubeconfig": "/k"}]}}},
            "cluster.agent.autodiscovery: k8s finds the pods of the node that the agent is on",
        ),
        (
            {"node": {"enabled": False}, "cluster": {"agent": DISCOVERY}},
            "cluster.agent.autodiscovery: k8s finds the pods of one node, and node.enabled is false: enable it, or",
        ),
        (
            {"node": {"enabled": False}, "agent": DISCOVERY},
            "): agent.autodiscovery: k8s finds the pods of one node, and node.enabled is false: enable it, or name",
        ),
        ({"agent": DISCOVERY, "cluster": {"conf": {"k8s.yaml": ""}}}, "set cluster.enabled: false"),
        ({"cluster": {"conf": {"k8s.yaml": "", "redis.yaml": TEMPLATE}}}, "cluster.conf has no instance"),
        (
            {role: {"serviceAccount": {"name": "x"}} for role in ("node", "cluster")},
            "node.serviceAccount and cluster.serviceAccount are both to be made, and both called x: set create: false",
        ),
        (
            {"cluster": {"serviceAccount": {"name": "vedette-node"}}},
            "are both to be made, and both called vedette-node",
        ),
        (
            merged(
                PAGE, {"agent": {"sinks": [{"type": "prometheus", "listen": 9464}]}, "probes": {"listen": "[::]:9464"}}
            ),
            "probes.listen: [::]:9464 is on the port of the node agents' Prometheus page",
        ),
        (
            {"cluster": {"conf": {"k8s.yaml": {"instances": [{"namespaces": "shop"}]}}}},
            "cluster.conf: k8s.yaml: namespaces is a list: write [shop]",
        ),
        (
            {"cluster": {"conf": {"all.yaml": "check: k8s\ndefaults: {resources: pods}\ninstances: [{}]"}}},
            "cluster.conf: all.yaml: resources is a list: write [pods]",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_what_it_is(chart: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(chart.helm_python.HelmError) as refused:
        chart.render(values)
    assert said in str(refused.value)


NO_CONF = dict.fromkeys(("k8s.yaml", "host.yaml", "statsd.yaml"), "")
NAMESPACE = {"name": "x", "namespaces": ["${env:NS}"]}


@pytest.mark.parametrize(
    "values",
    [
        {"node": {"conf": NO_CONF, "agent": DISCOVERY}},
        {"cluster": {"conf": NO_CONF, "agent": {"autodiscovery": [{"type": "k8s", "node": "worker-03"}]}}},
        {"cluster": {"conf": NO_CONF, "agent": {"autodiscovery": [{"type": "k8s", "node": "n", "kubeconfig": "/k"}]}}},
        {role: {"serviceAccount": {"name": "x", "create": role == "node"}} for role in ("node", "cluster")},
        {"rbac": {"create": False}, "cluster": {"conf": {"k8s.yaml": {"instances": [NAMESPACE]}}}},
        {"cluster": {"conf": {"k8s.yaml": {"instances": [{**NAMESPACE, "kubeconfig": "/k"}]}}}},
        {"rbac": {"create": False}, "cluster": {"agent": {"fleet": {"namespace": "${env:NS}"}}}},
        {"cluster": {"agent": {"fleet": {"namespace": "${env:NS}", "kubeconfig": "/k"}}}},
    ],
    ids=json.dumps,
)
def test_what_works_is_not_refused(chart: Any, values: dict[str, Any]) -> None:
    objects = chart.objects(values)
    for role in ("node", "cluster"):
        given = values.get(role, {})
        files = conf(objects, role)
        assert merged(yaml.safe_load(files["agent.yaml"]), given.get("agent", {})) == yaml.safe_load(
            files["agent.yaml"]
        )
        for name, content in given.get("conf", {}).items():
            assert yaml.safe_load(files.get(name, "''")) == content
    assert "${env:NS}" not in json.dumps([one for one in objects if one["kind"] in ("Role", "RoleBinding")])


def test_the_pods_of_a_node_are_found_by_its_own_agent_alone(chart: Any) -> None:
    """Agents for the cluster would find those of the nodes that they happen to be on, a second time."""
    another = {"type": "k8s", "node": "worker-03"}
    by_file = {"type": "k8s", "kubeconfig": "/k"}  # how to reach a cluster, and not that it is another
    objects = chart.objects({"agent": {"autodiscovery": [*DISCOVERY["autodiscovery"], OWN_NODE, by_file]}})
    pods = {("", verb, "", "pods") for verb in ("list", "watch")}
    assert "autodiscovery" not in yaml.safe_load(conf(objects, "cluster")["agent.yaml"])
    found = yaml.safe_load(conf(objects, "node")["agent.yaml"])["autodiscovery"]
    assert found == [*DISCOVERY["autodiscovery"], OWN_NODE, by_file]
    assert granted(objects, "vedette-node") >= pods
    texts = chart.render({"agent": {"autodiscovery": [OWN_NODE, another]}})
    assert "agent.autodiscovery: k8s is for the agents on nodes alone." in texts["NOTES.txt"]
    objects = chart.objects({"agent": {"autodiscovery": [OWN_NODE, another]}})
    assert yaml.safe_load(conf(objects, "cluster")["agent.yaml"])["autodiscovery"] == [another]
    assert "autodiscovery" not in chart.render({"node": {"agent": DISCOVERY}})["NOTES.txt"]
    alone = {"node": {"enabled": False}, "agent": DISCOVERY, "cluster": {"agent": {"autodiscovery": []}}}
    assert not yaml.safe_load(conf(chart.objects(alone), "cluster")["agent.yaml"])["autodiscovery"]


# Files of node.conf and of node.host.conf

PAYMENTS: dict[str, Any] = {"instances": [{"name": "payments", "paths": ["/var/log/containers/*_payments_*.log"]}]}
OWN_STATSD: dict[str, Any] = {"instances": [{"name": "apps", "listen": "0.0.0.0:9125"}]}
CHARTS = {path.name for path in (CHART / "files" / "conf.d").glob("node*/*.yaml")}


@pytest.mark.parametrize(
    ("given", "host", "files"),
    [
        ({"log_file.yaml": PAYMENTS}, {}, {"log_file.yaml": PAYMENTS}),
        ({"log_file.yaml": yaml.dump(PAYMENTS)}, {}, {"log_file.yaml": PAYMENTS}),
        ({"log_file.yaml": ""}, {}, {"log_file.yaml": None}),
        ({}, {"log_file.yaml": " \n"}, {"log_file.yaml": None}),
        ({}, {"log_file.yaml": PAYMENTS}, {"log_file.yaml": PAYMENTS}),
        ({"log_file.yaml": PAYMENTS}, {"log_file.yaml": None}, {"log_file.yaml": PAYMENTS}),
        ({"statsd.yaml": OWN_STATSD}, {}, {"statsd.yaml": OWN_STATSD}),
        ({"statsd.yaml": ""}, {}, {"statsd.yaml": None}),
        ({"statsd.yaml": None}, {"statsd.yaml": OWN_STATSD}, {"statsd.yaml": OWN_STATSD}),
        ({}, {"statsd.yaml": OWN_STATSD}, {"statsd.yaml": OWN_STATSD}),
        ({}, {"host.yaml": {"instances": [{"name": "all"}]}}, {"host.yaml": {"instances": [{"name": "all"}]}}),
        (None, None, {"log_file.yaml": CONTAINERS}),
        ({"redis.yaml": None}, {}, {"log_file.yaml": CONTAINERS, "redis.yaml": None}),
        ({"payments.yaml": {"check": "log_file", **PAYMENTS}, "log_file.yaml": ""}, {},
         {"payments.yaml": {"check": "log_file", **PAYMENTS}, "log_file.yaml": None}),
    ],
)  # fmt: skip
def test_a_file_for_nodes_is_used_wherever_it_is_given(
    chart: Any, given: dict[str, Any] | None, host: dict[str, Any] | None, files: dict[str, Any]
) -> None:
    objects = chart.objects({"node": {"hostAccess": True, "conf": given, "host": {"conf": host}}})
    found = conf(objects, "node")
    assert {name: yaml.safe_load(found.get(name, "")) for name in files} == files
    assert sorted({*found, *files}) == sorted({*files, *CHARTS, "agent.yaml"})
    ports = [one["containerPort"] for one in pod(objects, "node")["containers"][0]["ports"] if one["name"] == "statsd"]
    statsd = files.get("statsd.yaml", ...)
    assert ports == ([8125] if statsd is ... else [9125] if statsd else [])


@pytest.mark.parametrize(
    ("given", "host", "said"),
    [
        ({"log_file.yaml": PAYMENTS}, {"log_file.yaml": OWN_STATSD}, "log_file.yaml is in node.conf and in node.host"),
        ({"statsd.yaml": ""}, {"statsd.yaml": OWN_STATSD}, "statsd.yaml is in node.conf and in node.host.conf: leave"),
        ({"log_file.yaml": None}, {}, 'node.conf: log_file.yaml would take the place of the chart\'s, but has no inst'),
        ({"log_file.yaml": {}}, {}, "or write log_file.yaml: \"\" to do without"),
        ({"log_file.yaml": "# none\n"}, {}, "node.conf: log_file.yaml would take the place of the chart's, but has no"),
        ({"log_file.yaml": {"defaults": {"tags": ["a:b"]}}}, {}, "but has no instances: give them too, leave it away"),
        ({}, {"statsd.yaml": "defaults: {}"}, "node.host.conf: statsd.yaml would take the place of the chart's, but"),
        ({"k8s.yaml": None}, {}, "node.conf: k8s.yaml would take the place of the chart's, but has no instances: give"),
        ({"log_file.yaml": "instances: [}"}, {}, "node.conf: log_file.yaml: error converting YAML"),
    ],
)  # fmt: skip
def test_what_a_file_for_nodes_does_not_say_is_asked(
    chart: Any, given: dict[str, Any], host: dict[str, Any], said: str
) -> None:
    with pytest.raises(chart.helm_python.HelmError) as refused:
        chart.render({"node": {"hostAccess": True, "conf": given, "host": {"conf": host}}})
    assert said in str(refused.value)


def test_without_host_access_its_files_are_nobodys(chart: Any) -> None:
    given = {"conf": {"statsd.yaml": OWN_STATSD, "log_file.yaml": None}, "host": {"conf": {"statsd.yaml": PAYMENTS}}}
    found = conf(chart.objects({"node": given}), "node")
    assert (yaml.safe_load(found["statsd.yaml"]), "log_file.yaml" in found) == (OWN_STATSD, False)


def test_values_of_an_older_chart_are_the_users_files_or_refused(chart: Any) -> None:
    """What `--reuse-values` brings of a chart whose values.yaml held its files: no log stops, none begins, silently."""
    statsd = {"statsd.yaml": {"instances": [{"name": "node", "listen": "0.0.0.0:8125"}]}}
    old = {"conf": statsd, "host": {"conf": {**statsd, "log_file.yaml": CONTAINERS}}}
    assert yaml.safe_load(conf(chart.objects({"node": old}), "node")["statsd.yaml"]) == statsd["statsd.yaml"]
    with pytest.raises(chart.helm_python.HelmError, match="older chart's defaults: say --reset-then-reuse-values"):
        chart.render({"node": {"hostAccess": True, **old}})


def test_empty_text_takes_a_file_out_in_an_umbrella_charts_values_too(chart: Any, tmp_path: Path) -> None:
    """Where Helm takes no notice of null: https://helm.sh/docs/chart_template_guide/subcharts_and_globals/."""
    shutil.copytree(CHART, tmp_path / "charts" / "vedette")
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: umbrella, version: 0.1.0}")
    node = {"hostAccess": True, "conf": {"log_file.yaml": "", "k8s.yaml": ""}, "host": {"conf": {"statsd.yaml": ""}}}
    (tmp_path / "values.yaml").write_text(yaml.dump({"vedette": {"node": node}}))
    with chart.helm_python.Chart.load(str(tmp_path)) as loaded:
        texts = loaded.render({}, name="vedette", namespace="vedette")
    (text,) = [text for name, text in texts.items() if name.endswith("/configmap.yaml")]
    (found,) = [one["data"] for one in yaml.safe_load_all(text) if one and one["metadata"]["name"] == "vedette-node"]
    assert sorted(found) == ["agent.yaml", "host.yaml"]


@pytest.mark.parametrize("values", [{}, HOST])
def test_statsd_of_the_chart_listens_as_the_probes_do(chart: Any, values: dict[str, Any]) -> None:
    def instances(**more: Any) -> list[dict[str, Any]]:
        objects = chart.objects(merged(values, more))
        (service,) = [one for one in of_kind(objects, "Service") if one["metadata"]["name"] == "vedette-statsd"]
        assert service["spec"]["ports"][0]["port"] == 8125
        found: list[dict[str, Any]] = yaml.safe_load(conf(objects, "node")["statsd.yaml"])["instances"]
        return found

    (plain,) = instances()
    assert plain["listen"] == "0.0.0.0:8125"
    assert instances(probes={"listen": "[::]:8128"}) == [{**plain, "listen": "[::]:8125"}]


def test_a_statsd_of_the_users_listens_as_it_says(chart: Any) -> None:
    values = {"probes": {"listen": "[::]:8128"}, "node": {"conf": {"statsd.yaml": OWN_STATSD}}}
    assert yaml.safe_load(conf(chart.objects(values), "node")["statsd.yaml"]) == OWN_STATSD


@pytest.mark.parametrize("path", [
    "image", "namespace", "rbac", "prometheus", "networkPolicy", "probes", "node", "cluster", "node.host",
    "node.serviceAccount", "cluster.serviceAccount", "cluster.podDisruptionBudget",
])  # fmt: skip
def test_a_block_with_nothing_below_it_is_refused_by_its_name(chart: Any, path: str) -> None:
    """Such a key is null, which takes its defaults away."""
    *above, last = path.split(".")
    values: Any = {last: None}
    for part in reversed(above):
        values = {part: values}
    with pytest.raises(chart.helm_python.HelmError, match=f"at '{''.join(f'/{one}' for one in above)}': "
                       f"missing property '{last}'"):  # fmt: skip
        chart.render(values)


@pytest.mark.parametrize(
    ("role", "blocks"), [("node", ("host", "serviceAccount")), ("cluster", ("serviceAccount", "podDisruptionBudget"))]
)
def test_blocks_of_a_role_that_is_off_may_be_empty(chart: Any, role: str, blocks: tuple[str, ...]) -> None:
    off = {"enabled": False, **({"hostAccess": True} if role == "node" else {})}
    objects = chart.objects(merged(PAGE, {role: {**off, **dict.fromkeys(blocks)}}))
    assert objects == chart.objects(merged(PAGE, {role: {"enabled": False}}))
    notes = chart.render({role: {**off, **dict.fromkeys(blocks)}})["NOTES.txt"]
    assert notes == chart.render({role: {"enabled": False}})["NOTES.txt"]


def test_every_block_of_options_is_required(chart: Any) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path, _, _ in chart.options():
        *above, last = path.split(".")
        node = schema
        for part in above:
            required = node.get("required") or node["then"]["required"]
            assert part in required or part == "secrets", path  # which may be empty
            node = node["properties"][part]
            node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        assert last in node["properties"]


def test_an_option_whose_lines_are_all_commented_out_is_empty(chart: Any) -> None:
    """Such a key is null, and Helm then drops its default."""
    base = merged(HOST, PAGE)
    for path, default, _ in chart.options():
        empty: Any = None
        for part in reversed(path.split(".")):
            empty = {part: empty}
        if isinstance(default, dict | list):
            assert pod(chart.objects(merged(base, empty)), "cluster"), path
    out = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]
    labels = {"commonLabels": None, "node": {"podLabels": {"a": "b"}}}
    objects = chart.objects(merged(base, labels, {"networkPolicy": {"egress": None, "apiServer": API_SERVER}}))
    assert named(objects, "NetworkPolicy", "vedette")["spec"]["egress"][1:] == API_SERVER
    nobody_asks = {"node": {"conf": {"k8s.yaml": ""}}, "cluster": {"enabled": False}}
    token = {"node": {"serviceAccount": {"automount": True}}}
    objects = chart.objects(merged(base, nobody_asks, token, {"networkPolicy": {"egress": out, "apiServer": None}}))
    assert named(objects, "NetworkPolicy", "vedette-node")["spec"]["egress"][1:] == out


def test_variables_of_a_role_stand_where_those_of_all_do(chart: Any) -> None:
    """Kubernetes puts into `$(NAME)` only what stands before it."""
    common = [{"name": "A", "value": "all"}, {"name": "URL", "value": "http://$(A)"}, {"name": "B", "value": "all"}]
    own = [{"name": "C", "value": "$(A)"}, {"name": "A", "value": "node"}]
    objects = chart.objects({"env": common, "node": {"env": own}})
    found = {}
    for role in ("node", "cluster"):
        (agent,) = pod(objects, role)["containers"]
        found[role] = [(one["name"], one["value"]) for one in agent["env"] if "value" in one]
    rest = [("URL", "http://$(A)"), ("B", "all")]
    assert found == {"node": [("A", "node"), *rest, ("C", "$(A)")], "cluster": [("A", "all"), *rest]}


@pytest.mark.parametrize(
    ("common", "own", "found"),
    [
        ([("PROXY", "p1")], [("H", "p2"), ("PROXY", "http://$(H):3128")], [("H", "p2"), ("PROXY", "http://$(H):3128")]),
        ([("A", "1"), ("B", "$(A)")], [("B", "x"), ("A", "$(B)")], [("B", "x"), ("A", "$(B)")]),
        ([("A", "1"), ("Z", "z")], [("A", "$(Z)-$(Y)$(NODE_NAME)")], [("Z", "z"), ("A", "$(Z)-$(Y)$(NODE_NAME)")]),
        ([("A", "1"), ("B", "b")], [("A", "$(C)"), ("C", "$(B)")], [("B", "b"), ("C", "$(B)"), ("A", "$(C)")]),
        ([("A", "$(B)"), ("B", "$(A)")], [], [("B", "$(A)"), ("A", "$(B)")]),
        ([("A", "$$(B)"), ("B", "$(A)")], [], [("A", "$$(B)"), ("B", "$(A)")]),
    ],
)
def test_a_variable_stands_behind_those_that_it_takes(chart: Any, common: Any, own: Any, found: Any) -> None:
    lists = [[{"name": name, "value": value} for name, value in variables] for variables in (common, own)]
    (agent,) = pod(chart.objects({"env": lists[0], "cluster": {"env": lists[1]}}), "cluster")["containers"]
    assert [(one["name"], one["value"]) for one in agent["env"] if "value" in one] == found


def test_a_name_that_is_only_a_label_may_be_any_label(chart: Any) -> None:
    for name in ("Vedette", "1_x.Y", "x" * 63):
        objects = chart.objects({"nameOverride": name, "fullnameOverride": "vedette"})
        (agents,) = of_kind(objects, "DaemonSet")
        assert agents["metadata"]["name"] == "vedette-node"
        assert agents["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == name


def test_what_looks_like_a_number_stays_a_name(chart: Any) -> None:
    host = {"stateDirectory": "/var/lib/a: b", "socketDirectory": "/var/run/c #d"}
    values: dict[str, Any] = merged(HOST, PAGE, {
        "imagePullSecrets": ["123"], "secrets": {"existing": ["1.5"], "values": {"1e3": "x"}},
        "node": {"priorityClassName": "123", "host": host}, "cluster": {"priorityClassName": "0x10"},
    })  # fmt: skip
    objects = chart.objects(values, "456")
    for one in objects:
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
        assert one["metadata"].get("namespace", "456") == "456"
    assert of_kind(objects, "Namespace")[0]["metadata"]["name"] == "456"
    assert [pod(objects, role)["priorityClassName"] for role in ("node", "cluster")] == ["123", "0x10"]
    paths = {one["name"]: one["hostPath"]["path"] for one in pod(objects, "node")["volumes"] if "hostPath" in one}
    assert (paths["state"], paths["sockets"]) == tuple(host.values())
    assert list(named(objects, "Secret", "vedette")["data"]) == ["1e3"]


@pytest.mark.parametrize("listen", ["127.0.0.1:8125", "localhost:8125", "[::1]:8125"])
def test_statsd_that_only_its_own_pod_reaches_has_no_service(chart: Any, listen: str) -> None:
    texts = chart.render({"node": {"conf": {"statsd.yaml": {"instances": [{"listen": listen}]}}}})
    assert "statsd" not in texts["service.yaml"] + texts["networkpolicy.yaml"] + texts["NOTES.txt"]


def test_the_notes_say_the_port_of_statsd(chart: Any) -> None:
    values = {"node": {"conf": {"statsd.yaml": {"instances": [{"listen": "0.0.0.0:9125"}]}}}}
    assert "vedette-statsd.vedette, port 9125." in chart.render(values)["NOTES.txt"]


def test_a_strategy_has_no_options_of_another_type(chart: Any) -> None:
    recreate, on_delete = {"type": "Recreate"}, {"type": "OnDelete"}
    objects = chart.objects({"cluster": {"updateStrategy": recreate}, "node": {"updateStrategy": on_delete}})
    assert of_kind(objects, "Deployment")[0]["spec"]["strategy"] == recreate
    assert of_kind(objects, "DaemonSet")[0]["spec"]["updateStrategy"] == on_delete
    left_over = {"updateStrategy": {**on_delete, "rollingUpdate": {"maxSurge": 1}}}
    objects = chart.objects(merged(HOST, {"node": left_over}))
    assert of_kind(objects, "DaemonSet")[0]["spec"]["updateStrategy"] == on_delete


def test_every_secret_has_a_volume_of_its_own(chart: Any) -> None:
    names = ["a.b", "a-b", "x" * 60, "x" * 60 + "y", "y" * 200]
    spec = pod(chart.objects({"secrets": {"existing": names}}), "node")
    secrets = {one["name"]: one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one}
    assert sorted(secrets.values()) == sorted(names)
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{,61}[a-z0-9])?", name) for name in secrets)
    mounts = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
    assert all(mounts[volume] == f"/etc/vedette/secrets/{name}" for volume, name in secrets.items())


def test_a_template_of_autodiscovery_needs_no_run_on(chart: Any) -> None:
    template = {"match": {"image": "redis:*"}, "host": "%%host%%"}
    objects = chart.objects({"cluster": {"conf": {"redis.yaml": {"instances": [template]}}}})
    assert "redis.yaml" in conf(objects, "cluster")


def test_one_agent_without_a_fleet_asks_for_no_lease(chart: Any) -> None:
    objects = chart.objects({"cluster": {"fleet": False, "replicas": 1, "conf": {"tcp.yaml": {"instances": [{}]}}}})
    assert of_kind(objects, "Role") == []
    assert of_kind(objects, "PodDisruptionBudget") == []
    assert "fleet" not in yaml.safe_load(conf(objects, "cluster")["agent.yaml"])


# Rights


def needed(objects: list[dict[str, Any]], role: str) -> set[tuple[str, str, str, str]]:
    """What the instances of a role's conf.d ask for, as the check itself says."""
    files = {name: yaml.safe_load(text) for name, text in conf(objects, role).items()}
    found = []
    for instance in files.get("k8s.yaml", {}).get("instances", []):
        node = {"node": "worker-03"} if instance.get("scope") == "node" else {}
        found += rules(K8sConfig.model_validate({**instance, **node}))
    fleet = files["agent.yaml"].get("fleet", {})
    found += fleet_rules("vedette") if fleet.get("backend") == "kubernetes" else ()
    return {(one.namespace, verb, one.group, one.resource) for one in found for verb in one.verbs}


CLUSTER: list[dict[str, Any]] = [
    {},
    {"resources": ["pods"]},
    {"usage": False},
    {"resources": ["nodes", "jobs"]},
    {"namespaces": ["shop"], "resources": ["pods", "cronjobs", "resourcequotas"]},
    {"namespaces": ["shop", "web"]},
]


@pytest.mark.parametrize("instance", CLUSTER, ids=json.dumps)
def test_cluster_agents_have_the_rights_that_they_ask_for_and_no_others(chart: Any, instance: dict[str, Any]) -> None:
    values = {"cluster": {"conf": {"k8s.yaml": {"instances": [{"name": "x", **instance}]}}}}
    objects = chart.objects(values)
    assert granted(objects, "vedette") == needed(objects, "cluster")
    assert granted(objects, "vedette-node") == needed(objects, "node")


@pytest.mark.parametrize("options", [{}, {"usage": False}, {"resources": ["pods"]}], ids=json.dumps)
def test_node_agents_have_the_rights_that_they_ask_for_and_no_others(chart: Any, options: dict[str, Any]) -> None:
    instance = {"name": "x", "scope": "node", "node": "${env:NODE_NAME}", **options}
    objects = chart.objects({"node": {"conf": {"k8s.yaml": {"instances": [instance]}}}})
    assert granted(objects, "vedette-node") == needed(objects, "node")
    text = yaml.dump({"instances": [{**instance, "kubelet": None}]})
    objects = chart.objects({"node": {"conf": {"k8s.yaml": text}}})
    assert granted(objects, "vedette-node") == needed(objects, "node")
    assert not any(resource == "nodes/stats" for *_, resource in granted(objects, "vedette-node"))


def test_roles_are_those_of_the_rbac_files(made: dict[str, Any]) -> None:
    for name, role in (("node", "vedette-node"), ("cluster", "vedette-cluster")):
        documents = yaml.safe_load_all((ROOT / "packaging" / "kubernetes" / f"rbac-{name}.yaml").read_text())
        (file,) = [one for one in documents if one["kind"] == "ClusterRole"]
        assert named(made["defaults"], "ClusterRole", role)["rules"] == file["rules"]
    autodiscovery = {("", "list", "", "pods"), ("", "watch", "", "pods")}
    assert granted(made["full"], "vedette-node") == autodiscovery


def test_autodiscovery_beside_an_instance_without_pods_may_watch_them(chart: Any) -> None:
    instance = {"name": "x", "scope": "node", "node": "${env:NODE_NAME}", "resources": ["nodes"]}
    node = {"agent": {"autodiscovery": [{"type": "k8s"}]}, "conf": {"k8s.yaml": {"instances": [instance]}}}
    objects = chart.objects({"node": node})
    pods = {("", "list", "", "pods"), ("", "watch", "", "pods")}
    assert granted(objects, "vedette-node") == needed(objects, "node") | pods


def test_releases_of_one_name_in_two_namespaces_do_not_meet(chart: Any) -> None:
    shop = {"cluster": {"conf": {"k8s.yaml": {"instances": [{"name": "x"}, {"name": "y", "namespaces": ["shop"]}]}}}}

    def shared(namespace: str) -> set[tuple[str, str, str]]:
        objects = chart.objects(shop, namespace)
        assert granted(objects, "vedette")
        places = [(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in objects]
        return {place for place in places if place[1] != namespace}

    assert len(shared("vedette")) == 6
    assert shared("vedette").isdisjoint(shared("prod"))
    assert ("ClusterRole", "", "prod:vedette-cluster") in shared("prod")


def test_who_asks_nothing_of_the_api_has_no_token(chart: Any) -> None:
    objects = chart.objects({"node": {"conf": {"k8s.yaml": ""}}})
    assert pod(objects, "node")["automountServiceAccountToken"] is False
    assert granted(objects, "vedette-node") == set()
    assert pod(objects, "cluster")["automountServiceAccountToken"] is True
    assert all(one["automountServiceAccountToken"] is False for one in of_kind(objects, "ServiceAccount"))
    own = chart.objects({"rbac": {"create": False}})
    assert of_kind(own, "ClusterRole") == of_kind(own, "Role") == []


def test_a_token_is_there_for_who_names_it_and_rights_for_who_lists_them(chart: Any) -> None:
    page = {"name": "x", "url": "https://x", "token_file": "/var/run/secrets/kubernetes.io/serviceaccount/token"}
    rule = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    for node in (
        {"conf": {"openmetrics.yaml": {"instances": [page]}}},
        {"serviceAccount": {"automount": True}},
        {"serviceAccount": {"rules": [rule]}},
    ):
        objects = chart.objects({"node": merged({"conf": {"k8s.yaml": ""}}, node)})
        assert pod(objects, "node")["automountServiceAccountToken"] is True
    assert named(objects, "ClusterRole", "vedette-node-extra")["rules"] == [rule]
    assert named(objects, "ClusterRoleBinding", "vedette-node-extra")["subjects"][0]["name"] == "vedette-node"


# Configuration


@slow
@pytest.mark.parametrize("role", ["node", "cluster"])
@pytest.mark.parametrize("name", ALL)
def test_vedette_accepts_the_configuration_of_both_roles(
    made: dict[str, Any], name: str, role: str, tmp_path: Path
) -> None:
    for file, text in conf(made[name], role).items():
        (tmp_path / file).write_text(text)
    done = vedette("validate", "--conf", tmp_path, cwd=tmp_path, NODE_NAME="worker-03")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = {"defaults": ("3 instances", "1 instance"), "full": ("2 instances", "5 instances"),
             "host": ("4 instances", "1 instance"), "root": ("3 instances", "1 instance")}  # fmt: skip
    owned = {"defaults": 1, "full": 5}.get(name, 1) if role == "cluster" else 0
    fleet = f" ({owned} of them on one agent of the fleet)" if owned else ""
    assert done.stdout.splitlines()[-1] == f"{tmp_path}: {shown[name][role == 'cluster']}{fleet}, no errors"
    said = [line for line in (done.stdout + done.stderr).splitlines() if "warning" in line]
    known = ("/etc/vedette/secrets/", "StatsD has no authentication", "matches no file on this machine")
    assert [line for line in said if not any(part in line for part in known)] == []


@pytest.mark.parametrize("text", ["  # note\ninstances:\n  - {host: x}\n", "\n\n    # note\na: 1\n", "a: 1"])
def test_a_file_given_as_text_arrives_as_it_is(chart: Any, text: str) -> None:
    objects = chart.objects({"node": {"conf": {"tcp.yaml": text}}})
    assert conf(objects, "node")["tcp.yaml"] == text.removesuffix("\n") + "\n"


def test_secrets_are_files_for_those_who_need_them(made: dict[str, Any]) -> None:
    def mounted(role: str) -> dict[str, str]:
        spec = pod(made["full"], role)
        places = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
        return {places[one["name"]]: one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one}

    shared = {
        "/etc/vedette/secrets/datadog": "datadog",
        "/etc/vedette/secrets/vedette-tls": "vedette-tls",
        "/etc/vedette/secrets/vedette-scrape": "vedette-scrape",
    }
    assert mounted("node") == {**shared, "/etc/vedette/secrets/values": "vedette-node"}
    assert mounted("cluster") == {
        **shared,
        "/etc/vedette/secrets/payments-db": "payments-db",
        "/etc/vedette/secrets/values": "vedette",
    }
    assert sorted(named(made["full"], "Secret", "vedette-node")["data"]) == ["token"]
    assert sorted(named(made["full"], "Secret", "vedette")["data"]) == ["own", "token"]
    texts = json.dumps([one for one in made["full"] if one["kind"] != "Secret"])
    assert "a secret of" not in texts
    paths = re.findall(r"/etc/vedette/secrets/([\w-]+)/", texts)
    assert {f"/etc/vedette/secrets/{name}" for name in paths} <= {*mounted("node"), *mounted("cluster")}


def test_who_is_let_in(made: dict[str, Any]) -> None:
    node = named(made["full"], "NetworkPolicy", "vedette-node")["spec"]
    cluster = named(made["full"], "NetworkPolicy", "vedette")["spec"]
    statsd = {"port": "statsd", "protocol": "UDP"}
    scrape = {"ports": [{"port": "metrics"}], "from": FULL["prometheus"]["from"]}
    assert node["ingress"] == [{"ports": [{"port": "probes"}, statsd]}, scrape]
    assert cluster["ingress"] == [{"ports": [{"port": "probes"}]}, scrape]
    names = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert cluster["egress"] == node["egress"] == [names, *API_SERVER, *FULL["networkPolicy"]["egress"]]
    assert cluster["policyTypes"] == ["Ingress", "Egress"]
    service = named(made["full"], "Service", "vedette-statsd")["spec"]
    assert (service["internalTrafficPolicy"], service["ports"][0]["targetPort"]) == ("Local", "statsd")
    agents = of_kind(made["full"], "DaemonSet") + of_kind(made["full"], "Deployment")
    for policy, one in ((node, agents[0]), (cluster, agents[1])):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert one["spec"]["selector"]["matchLabels"] == policy["podSelector"]["matchLabels"]
    assert node["podSelector"] != cluster["podSelector"]


def test_the_ports_of_statsd_are_those_of_its_instances(chart: Any) -> None:
    listen = [{"name": str(port), "listen": f"0.0.0.0:{port}"} for port in (9125, 8125, 9125)]
    text = yaml.dump({"defaults": {"run_on": "every_node"}, "instances": [*listen, {"name": "socket", "listen": None}]})
    conf_of_both = {"conf": {"statsd.yaml": text}}
    objects = chart.objects({"node": conf_of_both, "cluster": conf_of_both})
    (service,) = [one for one in of_kind(objects, "Service") if one["metadata"]["name"] == "vedette-statsd"]
    ports = {("statsd", 9125), ("statsd-8125", 8125)}
    assert {(one["targetPort"], one["port"]) for one in service["spec"]["ports"]} == ports
    for role, name in (("node", "vedette-node"), ("cluster", "vedette")):
        opened = pod(objects, role)["containers"][0]["ports"]
        assert {(one["name"], one["containerPort"]) for one in opened if one.get("protocol") == "UDP"} == ports
        (let_in,) = named(objects, "NetworkPolicy", name)["spec"]["ingress"]
        assert {one["port"] for one in let_in["ports"]} == {"probes", *(name for name, _ in ports)}


def test_only_who_asks_the_api_server_is_let_out_to_it(chart: Any) -> None:
    out = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]
    values = {"networkPolicy": {"egress": out, "apiServer": API_SERVER}, "node": {"conf": {"k8s.yaml": ""}}}
    objects = chart.objects(values)
    assert named(objects, "NetworkPolicy", "vedette-node")["spec"]["egress"][1:] == out
    assert named(objects, "NetworkPolicy", "vedette")["spec"]["egress"][1:] == [*API_SERVER, *out]
    assert named(chart.objects({}), "NetworkPolicy", "vedette")["spec"]["policyTypes"] == ["Ingress"]
    token = {"node": {"serviceAccount": {"automount": True}}}
    objects = chart.objects(merged(values, token))
    assert named(objects, "NetworkPolicy", "vedette-node")["spec"]["egress"][1:] == [*API_SERVER, *out]


def test_a_tight_policy_stays_tight(chart: Any) -> None:
    """No rule but the one for names is without addresses, whatever is left away."""
    out = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]
    nobody_asks = {"node": {"conf": {"k8s.yaml": ""}}, "cluster": {"enabled": False}}
    for policy, rest in (
        ({"egress": out, "apiServer": API_SERVER}, {}),
        ({"apiServer": API_SERVER, "dnsPorts": [5353]}, {}),
        ({"egress": out}, nobody_asks),
        ({"apiServer": API_SERVER, "dnsPorts": []}, nobody_asks),
    ):
        for made_policy in of_kind(chart.objects({"networkPolicy": policy, **rest}), "NetworkPolicy"):
            spec = made_policy["spec"]
            assert spec["policyTypes"] == ["Ingress", "Egress"]
            everywhere = [one["ports"] for one in spec.get("egress", []) if not one.get("to")]
            ports = policy.get("dnsPorts", [53])
            names = [{"port": port, "protocol": kind} for port in ports for kind in ("UDP", "TCP")]
            assert everywhere == ([names] if names else [])


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, 30),
        ("500ms", 21),
        (90, 110),
        ("1.5m", 110),
        ("1h", 3620),
        ("0.25d", 21620),
        (" 30s ", 50),
        (2000000, 2000020),
    ],
)
def test_pods_have_longer_to_stop_than_their_agents_take(chart: Any, timeout: Any, seconds: int) -> None:
    objects = chart.objects({"cluster": {"agent": {"stop_timeout": timeout} if timeout else {}}})
    assert pod(objects, "cluster")["terminationGracePeriodSeconds"] == seconds
    assert pod(objects, "node")["terminationGracePeriodSeconds"] == 30


def test_the_page_listens_as_the_probes_do(chart: Any) -> None:
    objects = chart.objects({**PAGE, "probes": {"listen": "[::]:8128"}, "terminationGracePeriodSeconds": 90})
    assert yaml.safe_load(conf(objects, "cluster")["agent.yaml"])["sinks"][0]["listen"] == "[::]:9464"
    assert pod(objects, "node")["terminationGracePeriodSeconds"] == 90


def test_prometheus_operator_is_told_how_to_scrape(chart: Any) -> None:
    values = merged(FULL, {"prometheus": {"serviceMonitor": True, "serverName": "vedette.vedette.svc",
                                          "serviceMonitorLabels": {"release": "prometheus"}}})  # fmt: skip
    monitors = of_kind(chart.objects(values), "ServiceMonitor")
    assert [one["metadata"]["name"] for one in monitors] == ["vedette", "vedette-node"]
    for one in monitors:
        assert one["metadata"]["labels"]["release"] == "prometheus"
        (endpoint,) = one["spec"]["endpoints"]
        assert (endpoint["port"], endpoint["scheme"]) == ("metrics", "https")
        assert endpoint["tlsConfig"]["serverName"] == "vedette.vedette.svc"
        assert endpoint["tlsConfig"]["ca"]["secret"] == {"name": "vedette-tls", "key": "ca.crt"}
        assert endpoint["basicAuth"]["password"] == {"name": "vedette-scrape", "key": "password"}

    public = merged(values, {"prometheus": {"publicCertificate": True}})
    for one in of_kind(chart.objects(public), "ServiceMonitor"):
        assert one["spec"]["endpoints"][0]["tlsConfig"] == {"serverName": "vedette.vedette.svc"}


@slow
def test_a_changed_configmap_reaches_the_agent_which_stays_ready(chart: Any, tmp_path: Path) -> None:
    """The volume as the kubelet writes it: a folder for each version, and a link that flips."""
    probes, statsd = free_port(), free_port()
    folder = tmp_path / "conf.d"
    folder.mkdir()

    def bring(number: int, interval: str) -> None:
        values = {
            "agent": {"http": {"listen": "127.0.0.1:0"}, "sinks": [{"type": "file", "path": str(tmp_path / "out")}]},
            "node": {"conf": {
                "k8s.yaml": "",
                "host.yaml": {"instances": [{"name": "node", "interval": interval}]},
                "statsd.yaml": {"instances": [{"name": "node", "listen": f"127.0.0.1:{statsd}"}]},
            }},
        }  # fmt: skip
        files = conf(chart.objects(values), "node")
        version = folder / f"..2026_{number}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text.replace("0.0.0.0:8128", f"127.0.0.1:{probes}"))
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").rename(folder / "..data")

    bring(1, "1m")
    with Running("--conf", folder, cwd=tmp_path, NODE_NAME="worker-03") as running:
        until(lambda: asked(probes, "/readyz") == (200, "ok\n"), "the agent to be ready")
        assert asked(probes, "/healthz") == (200, "ok\n")
        assert asked(probes, "/api/status")[0] == 404
        bring(2, "2m")
        running.wait_for("1m → 2m")
        assert asked(probes, "/readyz") == (200, "ok\n")
        assert running.end(signal.SIGTERM) == 0


def asked(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer; 0 where there is none."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
    except httpx.TransportError:
        return 0, ""
    return answer.status_code, answer.text


# What is made from it


def test_manifests_and_readme_are_those_of_the_chart(chart: Any) -> None:
    stale = [path.name for path, text in chart.made().items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run: make manifests"


def test_every_option_is_in_the_schema_and_in_the_readme(chart: Any) -> None:
    readme = (CHART / "README.md").read_text()
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path, _, meaning in chart.options():
        assert f"| `{path}` |" in readme
        assert meaning in readme
        node = schema
        for part in path.split("."):
            node = node["properties"][part]
            if "$ref" in node:
                node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for node in every(schema):
        if node.get("type") == "object" and "properties" in node and node is not schema["$defs"]["agent"]:
            assert node["additionalProperties"] is False or "items" in node or node.get("required") == ["type"], node


def every(node: Any) -> list[dict[str, Any]]:
    """All mappings within."""
    if isinstance(node, list):
        return [found for item in node for found in every(item)]
    if isinstance(node, dict):
        return [node, *(found for value in node.values() for found in every(value))]
    return []


@slow
@pytest.mark.parametrize("block", re.findall(
    r"^```yaml\n(# values\.yaml\n.*?)^```$", (ROOT / "docs" / "kubernetes.md").read_text(), re.MULTILINE | re.DOTALL
), ids=lambda text: text.splitlines()[1])  # fmt: skip
def test_the_values_of_the_page_work(chart: Any, block: str, tmp_path: Path) -> None:
    objects = chart.objects(yaml.safe_load(block))
    for role in ("node", "cluster"):
        (tmp_path / role).mkdir()
        for file, text in conf(objects, role).items():
            (tmp_path / role / file).write_text(text)
        done = vedette("validate", "--conf", tmp_path / role, cwd=tmp_path, NODE_NAME="worker-03")
        assert done.returncode == 0, done.stdout + done.stderr
