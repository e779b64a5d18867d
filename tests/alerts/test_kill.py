"""A kill between telling and keeping: the very same message comes again, or none is lost; never two that differ."""

from __future__ import annotations

import asyncio
import copy
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from alerts.parts import QUEUES, Stage
from vedette.alerts.memory import OWN
from vedette.alerts.post import Post
from vedette.metrics import Kind
from vedette.notifier import Alert, delivery_id
from vedette.state import StateStore

RULE = "alerts: [{name: old, when: sqs.age > 100 by (queue), every: 5m}]"


def run(stage: Stage, age: float) -> None:
    stage.values(QUEUES, ("sqs.age", Kind.GAUGE, age, "queue:pay"))


@pytest.mark.parametrize("after", [RULE, "alerts: []"], ids=["same rules", "rule gone"])
def test_a_kill_after_telling_and_before_keeping_repeats_the_same_message(after: str) -> None:
    killed: list[dict[str, Any]] = []
    stage = Stage(RULE)
    stage.engine.tell = lambda *_: killed.append(copy.deepcopy(stage.memory))
    run(stage, 200.0)
    while stage.now - stage.start < 310:
        stage.at(stage.now - stage.start + 10)
        run(stage, 200.0 if stage.now - stage.start < 310 else 1.0)
    assert stage.told == ["0 firing old{queue:pay}", "300 reminder old{queue:pay}", "310 resolved old{queue:pay}"]
    seconds = (3, 303, 313)
    for place, (told, memory) in enumerate(zip(stage.alerts, killed, strict=True)):
        again = Stage(after, memory=memory, now=seconds[place])
        run(again, 200.0 if place < 2 else 1.0)
        again.at(seconds[place] + 1)
        if after == RULE:
            assert [delivery_id(one) for one in again.alerts] == [delivery_id(told)]
        else:
            assert [one.state for one in again.alerts] == ["resolved"]  # those who may have heard of it hear of its end
        assert again.kept == ({"old{queue:pay}"} if place < 2 and after == RULE else set())


@pytest.mark.anyio
async def test_an_alert_is_handed_on_once_what_was_kept_before_is_on_disk(tmp_path: Path) -> None:
    state = StateStore(tmp_path)
    seen: list[tuple[str, list[tuple[str, str]]]] = []

    def tell(alert: Alert, _: Any) -> None:
        with closing(sqlite3.connect(tmp_path / "state.db")) as database:
            seen.append((alert.key, sorted(database.execute("SELECT key, value FROM state"))))

    post = Post(state, state.save, tell)
    for key in ("a", "b"):
        post.keep(OWN, f"vedette:alert:{key}", 1)
        post.tell(Alert(key, key, "firing", "critical", "", 0.0), ())
        post.keep(OWN, f"vedette:alert:{key}", 2)
    assert seen == []
    await post.close()
    rows = [("vedette:alert:a", "1"), ("vedette:alert:b", "1")]
    assert seen == [("a", rows), ("b", rows)]
    post.keep(OWN, "vedette:alert:a", None)
    await asyncio.sleep(0)
    await state.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        assert database.execute("SELECT key, value FROM state").fetchall() == [("vedette:alert:b", "2")]
    again = StateStore(tmp_path)
    assert dict(again.view(OWN)) == {"vedette:alert:b": 2}
    await again.close()
