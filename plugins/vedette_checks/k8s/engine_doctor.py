"""What the fleet needs of its cluster, and what it lacks: for `vedette doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vedette import CheckError, Diagnosis
from vedette_checks.k8s.access import Access
from vedette_checks.k8s.client import Client
from vedette_checks.k8s.doctor import examine, judge
from vedette_checks.k8s.errors import ApiError, Fault
from vedette_checks.k8s.rbac import fleet_rules

if TYPE_CHECKING:
    from vedette_checks.k8s.engine import KubernetesEngineConfig


async def diagnose(config: KubernetesEngineConfig, diagnosis: Diagnosis) -> None:
    """Look at the way to the API server, at who the agent is, and at its rights to leases; nothing is written."""
    try:
        namespace = config.home()
    except CheckError as error:
        diagnosis.failed("namespace", error.message, error.hint)
        return

    async def look(client: Client, user: str) -> None:
        await judge(client, fleet_rules(namespace), user, "the fleet needs", diagnosis)
        await _served(client, namespace, diagnosis)

    await examine(Access(config.kubeconfig, config.context), diagnosis, look)


async def _served(client: Client, namespace: str, diagnosis: Diagnosis) -> None:
    """Whether the server has leases and the namespace is there; a list of a namespace that is not is just empty."""
    try:
        await client.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", {"limit": "1"})
    except ApiError as error:
        if error.fault is not Fault.FORBIDDEN:
            diagnosis.failed("leases", f"they cannot be listed: {error.message}")
        return
    try:
        await client.get(f"/api/v1/namespaces/{namespace}")
    except ApiError as error:
        if error.fault is Fault.ABSENT:
            hint = "create it, or say another `namespace`"
            diagnosis.failed("leases", f"there is no namespace {namespace}", hint, f"kubectl create ns {namespace}")
            return  # whoever may not look at namespaces learns of it at the first write
    diagnosis.ok("leases", f"in the namespace {namespace}")
