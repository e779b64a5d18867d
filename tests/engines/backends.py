"""The coordination engines under test, each with a real server that can be harmed."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lease_process import LeaseServer
from lease_server import write_kubeconfig
from servers import RedisServer, Server, redis62, valkey9
from vedette import Engine
from vedette_checks.k8s.engine import KubernetesEngine, KubernetesEngineConfig
from vedette_checks.redis.engine import RedisEngine, RedisEngineConfig


class Backend:
    """A server and the engine that talks to it.

    Attributes:
        server: the server, which keeps its records over a restart.
        guards: whether a write can depend on a second record.
        remembers: whether it cannot lose what it acknowledged.
    """

    guards = True
    remembers = False

    def __init__(self, server: Server) -> None:
        self.server = server

    def engine(self, fleet: str, *, port: int = 0, ttl: float = 30) -> Engine[Any]:
        """An engine that is not open; `port` leads through a proxy."""
        raise NotImplementedError

    def forget(self) -> None:
        """Throw away the records of a server that is not running."""
        raise NotImplementedError


class RedisBackend(Backend):
    server: RedisServer

    def __init__(self, binary: Callable[[], Path], folder: Path) -> None:
        super().__init__(RedisServer(binary(), folder, appendonly="yes", appendfsync="no"))

    def engine(self, fleet: str, *, port: int = 0, ttl: float = 30) -> Engine[Any]:
        options = {"host": "127.0.0.1", "port": port or self.server.port, "ttl": ttl}
        return RedisEngine(RedisEngineConfig.model_validate({"backend": "redis", "name": fleet, **options}))

    def forget(self) -> None:
        for path in self.server.directory.glob("appendonly*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class KubernetesBackend(Backend):
    server: LeaseServer
    guards = False
    remembers = True

    def __init__(self, folder: Path) -> None:
        super().__init__(LeaseServer(folder))
        self._files = itertools.count()

    def engine(self, fleet: str, *, port: int = 0, ttl: float = 30) -> Engine[Any]:
        path = self.server.directory / f"kubeconfig{next(self._files)}"
        options = {"kubeconfig": write_kubeconfig(port or self.server.port, path), "namespace": "vedette", "ttl": ttl}
        made = {"backend": "kubernetes", "name": fleet, **options}
        return KubernetesEngine(KubernetesEngineConfig.model_validate(made))

    def forget(self) -> None:
        self.server.journal.unlink()


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "redis6.2": lambda folder: RedisBackend(redis62, folder),
    "valkey9": lambda folder: RedisBackend(valkey9, folder),
    "leases": KubernetesBackend,
}
