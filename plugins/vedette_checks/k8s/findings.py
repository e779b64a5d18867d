"""What is wrong with a watch or a request, as one sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from vedette import CheckError, Status
from vedette_checks.k8s.errors import ApiError, Fault
from vedette_checks.k8s.rbac import WATCH, Rule
from vedette_checks.k8s.usage import METRICS_PATH
from vedette_checks.k8s.watch import Watch

_CUT_OFF = (Fault.UNREACHABLE, Fault.UNTRUSTED, Fault.UNAUTHORIZED, Fault.BUSY)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong.

    Attributes:
        status: how bad.
        message: what, in a sentence.
        hint: what to do.
    """

    status: Status
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def error(self) -> CheckError:
        """As a run's failure."""
        return CheckError(self.message, hint=self.hint)


SILENT = Finding(Status.CRITICAL, "the API server says nothing", "is it running, and is this its address?")
"""It takes connections, or did, and is frozen."""


def refused(fault: ApiError | CheckError | None) -> bool:
    """Whether a fault is a resource's, which is asked for again in minutes only: of the server it tells nothing."""
    return isinstance(fault, ApiError) and fault.fault in (Fault.FORBIDDEN, Fault.ABSENT)


def cut_off(fault: ApiError | CheckError | None) -> bool:
    """Whether a fault is the server's or the login's, and not one resource's."""
    return isinstance(fault, CheckError) or (fault is not None and fault.fault in _CUT_OFF)


def of_watch(watch: Watch, *, fresh: bool) -> Finding | None:
    """What is wrong with a watch; None if nothing is."""
    fault, source = watch.fault, watch.source
    where = f" in the namespace {source.namespace}" if source.namespace else ""
    if fault is None and not watch.synced:
        return Finding(Status.WARNING, f"{source.resource} are still being listed")
    if fault is None:
        return None if fresh else Finding(Status.CRITICAL, f"{source.resource}{where}: nothing is shown: {SILENT}")
    if isinstance(fault, ApiError) and fault.fault is Fault.FORBIDDEN:
        return _forbidden(fault, Rule(source.group, source.resource, WATCH, source.namespace), where)
    if isinstance(fault, ApiError) and fault.fault is Fault.ABSENT:
        return Finding(
            Status.WARNING, f"the cluster has no {source.resource} at {source.path}", "name others in `resources`"
        )
    status = Status.WARNING if fresh else Status.CRITICAL
    found = of_server(fault)
    shown = "what was known last is shown" if fresh else "nothing is shown"
    return Finding(status, f"{source.resource}{where} are not being watched, {shown}: {found.message}", found.hint)


def of_unreadable(watch: Watch, number: int) -> Finding:
    """That some objects are not as the API's documentation has them."""
    source = watch.source
    where = f" in the namespace {source.namespace}" if source.namespace else ""
    return Finding(
        Status.WARNING,
        f"{number} of the {source.resource}{where} cannot be read and are left out: what counts all of them is absent",
        "is this version of the API server newer than the agent?",
    )


def of_node(node: str) -> Finding:
    """That there is no such node."""
    return Finding(
        Status.CRITICAL, f"the cluster has no node called {node}", "see `node`, or the environment variable NODE_NAME"
    )


def _forbidden(fault: ApiError, rule: Rule, where: str) -> Finding:
    if "system:anonymous" in fault.message:
        return Finding(
            Status.CRITICAL,
            "the cluster takes the agent for nobody: no token was sent",
            "see the user of the kubeconfig",
        )
    role = f"Role in {rule.namespace}" if rule.namespace else "ClusterRole"
    verbs = " and ".join(rule.verbs)
    return Finding(Status.WARNING, f"may not {verbs} {rule.resource}{where}", f"the {role} lacks {str(rule)[2:]}")


def of_server(fault: ApiError | CheckError) -> Finding:
    """What is wrong with the server or the login."""
    if isinstance(fault, CheckError):
        return Finding(Status.CRITICAL, fault.message, fault.hint)
    if fault.fault is Fault.UNAUTHORIZED:
        return Finding(
            Status.CRITICAL, "the API server does not know the token", "is it of this cluster, and has it ended?"
        )
    if fault.fault is Fault.UNTRUSTED:
        return Finding(
            Status.CRITICAL, f"the API server: {fault.message}", "see certificate-authority of the kubeconfig"
        )
    if fault.fault is Fault.UNREACHABLE:
        return Finding(Status.CRITICAL, f"the API server: {fault.message}", "is it running, and is this its address?")
    if fault.fault is Fault.BUSY:
        return Finding(
            Status.CRITICAL, f"the API server is overloaded or half down: HTTP {fault.status}, {fault.message}"
        )
    return Finding(Status.CRITICAL, f"the API server refused: {fault.message}")


def of_usage(fault: ApiError | CheckError) -> Finding:
    """Why metrics.k8s.io says nothing."""
    absent = "k8s.cpu.utilization and k8s.memory.utilization are absent"
    if isinstance(fault, ApiError) and fault.fault is Fault.FORBIDDEN:
        verb = "list" if "cannot list" in fault.message else "get"
        rule = Rule("metrics.k8s.io", "nodes", (verb,))
        return Finding(
            Status.WARNING,
            f"may not {verb} nodes of metrics.k8s.io: {absent}",
            f"the ClusterRole lacks {str(rule)[2:]}",
        )
    if isinstance(fault, ApiError) and fault.fault is Fault.ABSENT:
        return Finding(
            Status.WARNING,
            f"the cluster has no metrics.k8s.io: {absent}",
            "install metrics-server, or say `usage: false`",
        )
    return Finding(Status.WARNING, f"{METRICS_PATH} says nothing: {absent}: {of_server(fault).message}")


def of_kubelet(fault: ApiError | CheckError) -> Finding:
    """Why the kubelet says nothing."""
    if isinstance(fault, ApiError) and fault.fault is Fault.FORBIDDEN:
        rule = Rule("", "nodes/stats", ("get",))
        return Finding(
            Status.WARNING, "may not ask the kubelet for /stats/summary", f"the ClusterRole lacks {str(rule)[2:]}"
        )
    if isinstance(fault, ApiError) and fault.fault is Fault.UNTRUSTED:
        hint = "kubelets often sign it themselves: see `kubelet.ca_file`, or set `kubelet.verify: false`"
        return Finding(Status.WARNING, "the kubelet's certificate cannot be trusted", hint)
    return Finding(
        Status.WARNING, f"the kubelet says nothing: {fault.message}", "see `kubelet.url`, or say `kubelet: null`"
    )
