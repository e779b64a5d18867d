"""What resolvers answered is kept, renewed, and outlives their failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import pytest

from vedette import SecretError
from vedette.config.vault import Source, Vault
from vedette.secrets import Masker


@dataclass
class World:
    """What the resolver finds, and what it did."""

    values: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    rounds: int = 0
    closed: int = 0
    lasts: float = 60.0
    now: float = 1000.0


def source(world: World) -> Source:
    class Store:
        name: ClassVar[str] = "store"

        def __init__(self) -> None:
            world.rounds += 1
            self.lasts = world.lasts

        async def resolve(self, reference: str) -> str:
            world.asked.append(reference)
            if reference not in world.values:
                raise SecretError("the store is closed")
            return world.values[reference]

        async def close(self) -> None:
            world.closed += 1

    return Source(Store)


@pytest.fixture
def world() -> World:
    return World({"a": "alpha", "b": "beta"})


@pytest.fixture
def vault(world: World) -> Vault:
    return Vault(lambda: world.now)


def ask(vault: Vault, made: Source, *names: str) -> list[Any]:
    vault.ask({("store", name): made for name in names}, Masker())
    return [vault["store", name].value for name in names]


def test_a_round_is_one_resolver_for_all_that_is_asked(world: World, vault: Vault) -> None:
    assert ask(vault, source(world), "a", "b") == ["alpha", "beta"]
    assert (world.rounds, world.closed, sorted(world.asked)) == (1, 1, ["a", "b"])
    assert vault.next_due == 60


def test_a_value_holds_as_long_as_its_resolver_says(world: World, vault: Vault) -> None:
    made = source(world)
    ask(vault, made, "a")
    world.now += 59
    assert ask(vault, made, "a", "b") == ["alpha", "beta"]
    assert world.asked == ["a", "b"]
    world.now += 1
    world.values["a"] = "new"
    assert vault.refresh() is True
    assert vault["store", "a"].value == "new"
    assert world.asked == ["a", "b", "a"]
    assert vault.refresh() is False  # b holds for 59 s more


def test_without_a_time_it_is_asked_for_at_each_load_and_never_in_between(world: World, vault: Vault) -> None:
    world.lasts = 0.0
    made = source(world)
    ask(vault, made, "a")
    assert vault.next_due == inf
    ask(vault, made, "a")
    assert world.asked == ["a", "a"]


def test_the_last_good_value_stays_and_the_trouble_is_news_once(world: World, vault: Vault) -> None:
    made = source(world)
    ask(vault, made, "a")
    gone = world.values.pop("a")
    world.now += 60
    assert vault.refresh() is True
    assert (vault["store", "a"].value, vault["store", "a"].trouble) == ("alpha", "the store is closed")
    pauses = []
    for _ in range(9):
        pauses.append(vault.next_due)
        world.now += vault.next_due
        assert vault.refresh() is False
    assert all(
        0.8 * most <= pause <= most for pause, most in zip(pauses, (5, 10, 20, 40, 80, 160, 300, 300, 300), strict=True)
    )
    world.values["a"] = gone
    world.now += 300
    assert vault.refresh() is True  # the value is the same, the trouble is over
    assert (vault["store", "a"].trouble, vault.next_due) == ("", 60)


def test_what_never_had_a_value_is_waited_for(world: World, vault: Vault) -> None:
    made = source(world)
    assert ask(vault, made, "a", "later") == ["alpha", None]
    assert vault.waiting
    assert 4 <= vault.next_due <= 5
    world.values["later"] = "at last"
    world.now += 5
    assert vault.refresh() is True
    assert not vault.waiting
    assert vault["store", "later"].value == "at last"


def test_other_options_are_another_source(world: World, vault: Vault) -> None:
    ask(vault, source(world), "a")
    world.values["a"] = "elsewhere"
    assert ask(vault, source(world), "a") == ["elsewhere"]


def test_what_is_not_wanted_any_more_is_forgotten(world: World, vault: Vault) -> None:
    made = source(world)
    ask(vault, made, "a", "b")
    ask(vault, made, "b")
    world.now += 60
    vault.refresh()
    assert world.asked.count("a") == 1


def test_a_resolver_that_cannot_even_be_made(vault: Vault) -> None:
    class Broken:
        name = "broken"

        def __init__(self) -> None:
            raise RuntimeError("hunter2")

    vault.ask({("broken", "a"): Source(Broken)}, Masker())
    assert vault["broken", "a"].trouble == "'broken' failed (RuntimeError)"


def test_what_was_refused_is_asked_for_again_although_it_would_still_hold(vault: Vault, world: World) -> None:
    made = source(world)
    assert ask(vault, made, "a") == ["alpha"]
    world.values["a"] = "newer"
    assert ask(vault, made, "a") == ["alpha"]
    vault.expire()
    assert ask(vault, made, "a") == ["newer"]
