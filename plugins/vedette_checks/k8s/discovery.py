"""The discovery: the pods of the agent's own node, by one watch that asks for nothing else of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from vedette import Diagnosis, Discovery, DiscoveryConfig, Found, hookimpl
from vedette_checks.k8s.access import Access
from vedette_checks.k8s.client import Client
from vedette_checks.k8s.config import K8sConfig
from vedette_checks.k8s.doctor import diagnose
from vedette_checks.k8s.findings import of_watch
from vedette_checks.k8s.pace import Manners, Pace
from vedette_checks.k8s.resources import sources
from vedette_checks.k8s.targets import VARIABLES, Targets
from vedette_checks.k8s.watch import Watch


class K8sDiscoveryConfig(DiscoveryConfig):
    """The options of the discovery of pods."""

    node: str = Field(
        "",
        description="The node whose pods count. Default: the environment variable NODE_NAME, else the host's name.",
        examples=["worker-03"],
    )
    namespaces: tuple[str, ...] = Field(
        (), description="Only pods of these namespaces (glob patterns).", examples=[["payments", "web-*"]]
    )
    annotation: str = Field("vedette.dev/checks", description="Annotation in which a pod asks for checks.")
    kubeconfig: Path | None = Field(
        None,
        description="How to reach the cluster. Default: the pod's service account, else what kubectl uses.",
        examples=["/etc/vedette/kubeconfig"],
    )
    context: str = Field("", description="Context of the kubeconfig. Default: its current one.", examples=["prod"])

    @field_validator("node")
    @classmethod
    def _node_name(cls, value: str) -> str:
        if value:
            K8sConfig.model_validate({"scope": "node", "node": value})
        return value

    @property
    def asked(self) -> K8sConfig:
        """The instance of the k8s check that asks the cluster for the same, and nothing else."""
        return K8sConfig.model_validate(
            {
                "scope": "node",
                "node": self.node,
                "resources": ("pods",),
                "usage": False,
                "kubelet": None,
                "kubeconfig": self.kubeconfig,
                "context": self.context,
            }
        )


class K8sDiscovery(Discovery[K8sDiscoveryConfig]):
    """Finds the pods that run on the agent's own node."""

    name = "k8s"
    variables = VARIABLES
    pace: ClassVar[Pace] = Pace()
    """How patient the watch is."""
    look: ClassVar[float] = 1.0
    """Seconds between two looks at how the watch does."""

    async def run(self, found: Found) -> None:
        """Keep a list of the pods up to date. A watch that breaks goes on by itself; what was known stays.

        Raises:
            CheckError: the configuration of the cluster cannot be used.
        """
        asked = self.config.asked
        access = Access(asked.kubeconfig, asked.context)
        watching: asyncio.Task[None] | None = None
        try:
            await access.open()
            (source,) = sources(asked)
            store = Targets(self.config.annotation, self.config.namespaces, found)
            watch = Watch(Client(access), source, store, Manners(self.pace))
            watching = asyncio.create_task(watch.run(), name=source.path)
            while not watching.done():
                await asyncio.wait({watching}, timeout=self.look)
                self._tell(watch, store)
            watching.result()
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait({watching})
            await access.close()

    def _tell(self, watch: Watch, store: Targets) -> None:
        """Say what is wrong, once."""
        wrong = _wrong(watch, store, self.config.asked.own_node)
        if wrong is None:
            self.recovered()
        elif wrong and wrong != self.trouble:
            self.failed(wrong)

    async def diagnose(self, diagnosis: Diagnosis) -> None:
        """See `Discovery`."""
        await diagnose(self.config.asked, diagnosis)


def _wrong(watch: Watch, store: Targets, node: str) -> str | None:
    """What is wrong in a sentence; None if nothing is, empty while that is not known yet."""
    if watch.fault is not None:
        finding = of_watch(watch, fresh=False)
        return str(finding).replace("nothing is shown", "what was found last goes on")
    if not watch.synced:
        return ""
    return None if store.rows else f"no pod is on a node called {node}; is `node:` the node's name?"


@hookimpl
def register_discoveries(register: Callable[[type[Discovery[Any]]], None]) -> None:
    """Offer the discovery to the agent."""
    register(K8sDiscovery)
