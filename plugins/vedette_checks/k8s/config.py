"""The options of the k8s check."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vedette import CheckConfig, Duration

ResourceName = Literal[
    "pods",
    "nodes",
    "deployments",
    "daemonsets",
    "statefulsets",
    "jobs",
    "cronjobs",
    "horizontalpodautoscalers",
    "persistentvolumeclaims",
    "resourcequotas",
    "poddisruptionbudgets",
]
"""What the check can watch, as the API calls it."""

OF_A_NODE: tuple[ResourceName, ...] = ("pods", "nodes")
"""What `scope: node` asks about."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1123 label, which a namespace's name is."""
_LEAST_STALE = 10.0
_NODE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class KubeletConfig(BaseModel):
    """`kubelet:`, how to reach the kubelet of the own node."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "",
        description="Address of the kubelet. Default: the node's InternalIP, port 10250.",
        examples=["https://127.0.0.1:10250"],
        pattern=r"^(https?://[^/\s@]+)?$",
    )
    ca_file: Path | None = Field(
        None,
        description="Certificate authorities of the kubelet's certificate. Default: the cluster's.",
        examples=["/etc/kubernetes/pki/kubelet-ca.crt"],
    )
    verify: bool = Field(
        True, description="Check the kubelet's certificate; many clusters let kubelets sign it themselves."
    )


def _kubelet() -> KubeletConfig:
    return KubeletConfig.model_validate({})


class K8sConfig(CheckConfig):
    """The options of one k8s instance; every one has a default, so `instances: [{}]` is a whole configuration."""

    example: ClassVar[tuple[str, ...]] = ("kubeconfig", "context")

    scope: Literal["cluster", "node"] = Field(
        "cluster",
        description="`cluster` watches all of it and implies `run_on: leader`; `node` asks only about the agent's "
        "own node.",
    )
    kubeconfig: Path | None = Field(
        None,
        description="How to reach the cluster. Default: the pod's service account, else what kubectl uses.",
        examples=["/etc/vedette/kubeconfig"],
    )
    context: str = Field("", description="Context of the kubeconfig. Default: its current one.", examples=["prod"])
    node: str = Field(
        "",
        description="With `scope: node`, the node's name. Default: the variable NODE_NAME, else the host's name.",
        examples=["${env:NODE_NAME}"],
    )
    namespaces: tuple[str, ...] = Field(
        (), description="Look into these namespaces only. Default: all.", examples=[["payments", "web"]]
    )
    resources: tuple[ResourceName, ...] = Field(
        (),
        description="What to watch. Default: all of these; with `scope: node`, pods and nodes.",
        examples=[["pods", "nodes", "deployments", "horizontalpodautoscalers"]],
    )
    usage: bool = Field(
        True, description="Ask metrics.k8s.io (metrics-server) how much CPU and memory the nodes use, once a run."
    )
    kubelet: KubeletConfig | None = Field(
        default_factory=_kubelet,
        description="With `scope: node`, how to ask the kubelet for `/stats/summary`; `null` does not ask it.",
    )
    limit: int = Field(
        1000,
        description="Most workloads, nodes, autoscalers, … of each kind that get series of their own; the pods of "
        "the other workloads are added up as `workload:other`.",
        ge=1,
        le=100_000,
    )
    stale_after: Duration = Field(
        120.0,
        description="Report nothing about a resource whose watch has been broken for so long, rather than what was; "
        "at least 10s.",
    )
    compression: bool = Field(
        False,
        description="Ask for compressed lists: 5 MB instead of 85 for 10,000 pods, for a second of the server's CPU.",
    )

    @field_validator("stale_after")
    @classmethod
    def _long_enough(cls, value: float) -> float:
        if value < _LEAST_STALE:
            raise PydanticCustomError("vedette", "must be at least 10s")
        return value

    @field_validator("namespaces")
    @classmethod
    def _labels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not _LABEL.fullmatch(name) for name in value):
            raise ValueError("must be names of namespaces: lower-case letters, digits and dashes")
        if len(set(value)) < len(value):
            raise ValueError("names a namespace twice")
        return value

    @field_validator("resources")
    @classmethod
    def _once(cls, value: tuple[ResourceName, ...]) -> tuple[ResourceName, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a resource twice")
        return value

    @field_validator("node")
    @classmethod
    def _node_name(cls, value: str) -> str:
        if value and not _NODE.fullmatch(value):
            raise ValueError("must be the name of a node: lower-case letters, digits, dashes and dots")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> K8sConfig:
        if self.scope == "node" and not set(self.resources) <= set(OF_A_NODE):
            raise PydanticCustomError(
                "vedette",
                "`scope: node` watches pods and nodes only; leave the other `resources` to `scope: cluster`",
            )
        if self.scope == "cluster" and self.node:
            raise PydanticCustomError("vedette", "`node` goes with `scope: node`")
        if self.scope == "cluster" and "run_on" not in self.model_fields_set:
            vars(self).update(run_on="leader")  # implied: not among the fields that the user has set
        return self

    @property
    def watched(self) -> tuple[ResourceName, ...]:
        """The resources that this instance watches."""
        if self.resources:
            return self.resources
        return OF_A_NODE if self.scope == "node" else get_args(ResourceName)

    @property
    def own_node(self) -> str:
        """The node that `scope: node` is about; empty with `scope: cluster`."""
        if self.scope == "cluster":
            return ""
        return self.node or os.environ.get("NODE_NAME", "") or socket.gethostname().lower()
