"""Queues and supervision: drop oldest, room for listeners, redelivery, restart with backoff."""

from __future__ import annotations

import asyncio
from typing import Any

from core.clock import run_virtually
from vedette import Batch, Kind, Sample, Sink, SinkConfig
from vedette.filters import MetricFilter
from vedette.outbox import Outbox, Receipt, supervise


def batch(number: int, samples: int = 1) -> Batch:
    made = tuple(Sample(f"m{n}", Kind.GAUGE, number) for n in range(samples))
    return Batch(instance=f"t/{number}", check="t", time=float(number), samples=made)


class Plain(Sink[SinkConfig]):
    name = "plain"

    def __init__(self, fail_on: tuple[str, ...] = (), times: int = 1) -> None:
        super().__init__(SinkConfig(type="plain"))
        self.got: list[str] = []
        self.starts: list[float] = []
        self.fail_on = dict.fromkeys(fail_on, times)

    async def run(self, batches: Any) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        async for one in batches:
            if self.fail_on.get(one.instance, 0) > 0:
                self.fail_on[one.instance] -= 1
                raise OSError(28, "No space left on device")
            self.got.append(one.instance)


def test_a_full_queue_drops_the_oldest_and_counts_samples() -> None:
    outbox = Outbox(limit=5)
    for number in range(4):
        outbox.put(batch(number, samples=2))
    assert (outbox.queued, outbox.waiting, outbox.dropped) == (4, 2, 4)
    outbox.put(batch(9, samples=50))  # larger than the whole limit: still better than nothing
    assert (outbox.queued, outbox.waiting, outbox.dropped) == (50, 1, 8)


def test_what_something_waits_for_is_dropped_last_however_large_it_is() -> None:
    settled: list[str] = []
    outbox = Outbox(limit=5, durable=True)
    outbox.put(batch(1, samples=9), Receipt(1, lambda: settled.append("window")))
    outbox.put(batch(2))
    assert (outbox.waiting, outbox.dropped, settled) == (1, 1, [])
    outbox.put(batch(3), Receipt(1, lambda: settled.append("another")))
    assert (outbox.waiting, outbox.dropped, settled) == (1, 10, ["window"])


def test_names_are_told_as_they_get_to_the_sink() -> None:
    names = MetricFilter(include=["redis.*"], rename={"redis.mem.used": "cache.memory"}).compile()
    metrics = {"redis.mem.used": 1, "redis.keys": 2, "postgres.size": 3}
    assert Outbox(5, names).as_sent(metrics) == {"cache.memory": 1, "redis.keys": 2}
    assert Outbox(5).as_sent(metrics) == metrics


def test_a_sink_gets_everything_in_order_and_ends_with_its_queue() -> None:
    async def main() -> None:
        sink, outbox = Plain(), Outbox(100)
        task = asyncio.create_task(supervise(sink, outbox))
        for number in range(5):
            outbox.put(batch(number))
            await asyncio.sleep(0)
        outbox.close()
        await task
        assert sink.got == [f"t/{n}" for n in range(5)]
        assert (outbox.delivered, outbox.dropped, outbox.queued) == (5, 0, 0)

    run_virtually(main())


def test_a_crashing_sink_restarts_with_backoff_and_gets_the_batch_in_hand_once_more() -> None:
    async def main() -> None:
        sink, outbox = Plain(fail_on=("t/1", "t/2"), times=2), Outbox(100)
        task = asyncio.create_task(supervise(sink, outbox))
        for number in range(4):
            outbox.put(batch(number))
        while "t/3" not in sink.got:  # noqa: ASYNC110 - on a virtual clock
            await asyncio.sleep(1)
        assert sink.got == ["t/0", "t/3"]  # t/1 and t/2 each failed twice: given up, counted
        assert (outbox.delivered, outbox.dropped) == (2, 2)
        assert sink.errors == 4
        assert sink.trouble == "No space left on device"
        pauses = [after - before for before, after in zip(sink.starts, sink.starts[1:], strict=False)]
        assert all(low / 2 <= pause <= low for low, pause in zip((1, 2, 4, 8), pauses, strict=True))
        outbox.close()
        await task

    run_virtually(main())


def test_a_sink_that_fails_while_the_agent_stops_is_not_waited_for() -> None:
    async def main() -> None:
        sink, outbox = Plain(fail_on=("t/0",)), Outbox(100)
        outbox.put(batch(0))
        outbox.put(batch(1))
        outbox.close()
        await supervise(sink, outbox)
        assert (sink.got, outbox.dropped, outbox.queued) == ([], 2, 0)

    run_virtually(main())


def test_a_durable_outbox_settles_a_batch_when_its_sink_is_through_with_it_or_it_is_dropped() -> None:
    async def main() -> None:
        sink, outbox, settled = Plain(fail_on=("t/1", "t/2"), times=1), Outbox(3, durable=True), list[str]()
        sink.fail_on["t/2"] = 2  # given up after the second try
        task = asyncio.create_task(supervise(sink, outbox))
        for number in range(3):
            outbox.put(batch(number), Receipt(1, lambda number=number: settled.append(f"t/{number}")))  # type: ignore[misc]
        assert settled == []  # queued is not settled
        await asyncio.sleep(0.4)  # of virtual time: t/1 is tried again after half a second at the earliest
        assert settled == sink.got == ["t/0"]
        await asyncio.sleep(100)
        assert (settled, sink.got, outbox.dropped) == (["t/0", "t/1", "t/2"], ["t/0", "t/1"], 1)
        outbox.close()
        await task

    run_virtually(main())


def test_what_is_left_at_the_stop_is_not_settled() -> None:
    settled: list[int] = []
    outbox = Outbox(3, durable=True)
    for number in range(5):
        outbox.put(batch(number), Receipt(1, lambda number=number: settled.append(number)))  # type: ignore[misc]
    outbox.abandon()
    assert (settled, outbox.dropped) == ([0, 1], 5)  # those that the full queue had no room for


class Groups(Plain):
    """Finishes all that waits at once."""

    async def run(self, batches: Any) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        while not batches.ended:
            taken = [one.instance for one in await batches.take()]
            for name in taken:
                if self.fail_on.get(name, 0) > 0:
                    self.fail_on[name] -= 1
                    raise OSError(28, "No space left on device")
            self.got.append(" ".join(taken))
            batches.release()()


def test_a_sink_may_take_all_that_waits_and_settle_it_at_once() -> None:
    async def main() -> None:
        outbox, settled = Outbox(100, durable=True), list[int]()
        for number in range(3):
            outbox.put(batch(number, 2), Receipt(1, lambda number=number: settled.append(number)))  # type: ignore[misc]
        assert [one.instance for one in await outbox.take()] == ["t/0", "t/1", "t/2"]
        assert await outbox.take(1.0) == []
        outbox.put(batch(3))
        assert [one.instance for one in await outbox.take(1.0)] == ["t/3"]  # in hand with the others
        assert (outbox.queued, outbox.delivered, settled) == (0, 0, [])
        settle = outbox.release()
        assert (outbox.delivered, settled) == (7, [])
        settle()
        assert settled == [0, 1, 2]
        outbox.put(batch(4))
        outbox.close()
        assert (len(await outbox.take()), outbox.ended, await outbox.take()) == (1, True, [])
        outbox.abandon()
        assert outbox.dropped == 1

    run_virtually(main())


def test_what_two_sinks_are_to_have_is_settled_once_both_have_it() -> None:
    async def main() -> None:
        one, other, settled = Outbox(100, durable=True), Outbox(100, durable=True), list[str]()
        receipt = Receipt(2, lambda: settled.append("both"))
        for outbox in (one, other):
            outbox.put(batch(0), receipt)
            await outbox.take()
        one.release()()
        assert settled == []
        other.release()()
        assert settled == ["both"]

    run_virtually(main())


def test_of_a_group_that_fails_only_the_batch_that_fails_again_is_dropped() -> None:
    async def main() -> None:
        sink, outbox = Groups(fail_on=("t/2",), times=2), Outbox(100)
        for number in range(5):
            outbox.put(batch(number))
        task = asyncio.create_task(supervise(sink, outbox))
        await asyncio.sleep(100)
        outbox.put(batch(5))
        outbox.put(batch(6))
        await asyncio.sleep(1)
        assert sink.got == ["t/0", "t/1", "t/3", "t/4", "t/5 t/6"]  # one by one until the culprit is found
        assert (outbox.delivered, outbox.dropped) == (6, 1)
        outbox.close()
        await task

    run_virtually(main())


def test_a_receipt_waits_for_every_outbox() -> None:
    done: list[str] = []
    Receipt(0, lambda: done.append("none"))
    receipt = Receipt(2, lambda: done.append("both"))
    receipt.settle()
    assert done == ["none"]
    receipt.settle()
    assert done == ["none", "both"]


def test_what_one_of_two_sinks_has_is_settled_only_when_the_other_has_it_too() -> None:
    async def main() -> None:
        quick, slow = Outbox(100, durable=True), Outbox(100, durable=True)
        settled: list[int] = []
        for number in range(4):
            receipt = Receipt(2, lambda number=number: settled.append(number))  # type: ignore[misc]
            quick.put(batch(number), receipt)
            slow.put(batch(number), receipt)
        task = asyncio.create_task(supervise(Plain(), quick))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (quick.delivered, settled) == (4, [])
        await slow.take()
        slow.release()()
        assert settled == [0, 1, 2, 3]
        quick.close()
        await task

    run_virtually(main())


def test_room_holds_a_listener_back_until_the_sink_has_taken_something() -> None:
    async def main() -> None:
        outbox, seen = Outbox(limit=2), []

        async def listener() -> None:
            for number in range(4):
                outbox.put(batch(number))
                seen.append(number)
                await outbox.room()

        task = asyncio.create_task(listener())
        for _ in range(10):
            await asyncio.sleep(0)
        assert seen == [0, 1]
        assert (await anext(outbox)).instance == "t/0"
        for _ in range(10):
            await asyncio.sleep(0)
        assert seen == [0, 1, 2]
        await anext(outbox)
        await anext(outbox)
        await task
        assert outbox.dropped == 0

    run_virtually(main())


def test_a_sinks_metric_filter_drops_and_renames() -> None:
    async def main() -> None:
        names = MetricFilter(exclude=("m1",), rename={"m2": "two"}).compile()
        outbox = Outbox(100, names)
        outbox.put(batch(0, samples=3))
        assert [sample.name for sample in (await anext(outbox)).samples] == ["m0", "two"]

    run_virtually(main())


def test_a_stop_does_not_wait_for_a_failing_sinks_next_attempt() -> None:
    async def main() -> None:
        sink, outbox = Plain(fail_on=("t/0",), times=99), Outbox(100)
        outbox.put(batch(0))
        task = asyncio.create_task(supervise(sink, outbox))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = asyncio.get_running_loop().time()
        outbox.close()
        await task
        assert asyncio.get_running_loop().time() == before
        assert outbox.dropped == 1

    run_virtually(main())


def test_what_nothing_waits_for_goes_first() -> None:
    settled: list[str] = []
    outbox = Outbox(limit=4, durable=True)
    outbox.put(batch(0, samples=2), Receipt(1, lambda: settled.append("window")))
    outbox.put(batch(1, samples=2))
    outbox.put(batch(2, samples=2))
    assert (outbox.queued, outbox.dropped, settled) == (4, 2, [])
    assert [asyncio.run(_next(outbox)) for _ in range(2)] == ["t/0", "t/2"]


async def _next(outbox: Outbox) -> str:
    return (await anext(outbox)).instance


def test_what_a_sink_leaves_behind_is_settled_where_the_agent_goes_on() -> None:
    for goes_on, expected in ((True, ["done"]), (False, [])):
        settled: list[str] = []
        outbox = Outbox(limit=4, durable=True)
        outbox.put(batch(0, samples=2), Receipt(1, lambda settled=settled: settled.append("done")))  # type: ignore[misc]
        outbox.close(goes_on=goes_on)
        outbox.abandon()
        assert (settled, outbox.dropped) == (expected, 2)
