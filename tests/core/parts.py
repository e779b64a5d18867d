"""Small parts for tests of the core: an instance of any check class, surroundings that record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from vedette.config import Instance
from vedette.runner import Surroundings
from vedette.secrets import Masker

if TYPE_CHECKING:
    from vedette.metrics import Batch


def instance(plugin: Any, **options: Any) -> Instance:
    options.setdefault("name", plugin.name)
    config = plugin.config_class.model_validate(options)
    return Instance(
        id=f"{plugin.name}/{config.name}",
        check=plugin.name,
        plugin=plugin,
        config=config,
        file="conf.d/test.yaml",
        line=1,
        content=options,
    )


class Recorder:
    """Surroundings that keep every batch."""

    def __init__(self, *secrets: str, changes: tuple[str, ...] = ()) -> None:
        self.batches: list[Batch] = []
        self.states: dict[str, dict[str, Any]] = {}
        self.changes = changes
        self.masker = Masker()
        for secret in secrets:
            self.masker.add(secret)

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(
            deliver=self.deliver,
            room=self._room,
            tags=("environment:test",),
            host="node-7",
            masker=self.masker,
            state=lambda instance: self.states.setdefault(instance, {}),
            save=self.save,
            clock=lambda: asyncio.get_running_loop().time(),
            changes=self.changes,
        )

    def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.states.setdefault(batch.instance, {}).update(batch.commits)

    async def save(self, instance: str, key: str, value: Any) -> bool:
        self.states.setdefault(instance, {})[key] = value
        return True

    async def _room(self) -> None:
        return

    def values(self, name: str) -> list[Any]:
        return [sample.value for batch in self.batches for sample in batch.samples if sample.name == name]
