"""Technical metrics as plain functions: requests, queries, cache and queues. What instruments libraries calls these."""

from __future__ import annotations

from collections.abc import Callable

from vedette.instrument.outlet import Metrics
from vedette.instrument.queues import QueueWorker
from vedette.instrument.vocabulary import OTHER
from vedette.instrument.wire import number

READS = frozenset({"get", "mget", "getex", "getdel", "hget", "hmget"})
"""Cache operations that hit or miss, and so have a part in `cache.hit_ratio`."""


class TechnicalMetrics(Metrics):
    """Sends technical metrics. Takes the arguments of `Metrics`."""

    def track_api_performance(self, *, endpoint: str, method: str, response_time_ms: float, status_code: int) -> None:
        """Count a request, with its time and whether it failed.

        Args:
            endpoint: the route's template, such as `/payments/{id}`. Never a path with ids in it: after 200 different
                endpoints all others are `other`.
            method: of HTTP, or `WEBSOCKET`.
            response_time_ms: milliseconds.
            status_code: from 100 to 599; an error from 400 on.
        """
        try:
            texts = self._outlet.texts.get((2, endpoint, method, status_code))
            if texts is None:
                texts = self._request(endpoint, method, status_code)
            took = number(response_time_ms)
            if took is None:
                self._client.count("invalid")
                self._put(texts[0])
            else:
                self._put(f"{texts[0]}{texts[1]}{took}{texts[2]}")
        except Exception:
            self._client.count("failed")

    def _request(self, endpoint: str, method: str, status_code: int) -> tuple[str, ...]:
        outlet, terms = self._outlet, self._outlet.terms
        where, how = terms.word("endpoint", endpoint), terms.word("method", method)
        known = isinstance(status_code, int) and 100 <= status_code <= 599
        code = str(int(status_code)) if known else OTHER
        if not known:
            self._client.count("other status_code")
        tags = outlet.tags(endpoint=where, method=how, status_code=code)
        failed = outlet.tags(endpoint=where, method=how, error="true" if known and status_code >= 400 else "false")
        texts = (
            f"api.requests:1|c{tags}\napi.errors:1|c{failed}",
            "\napi.response_time:",
            f"|{outlet.histogram}{tags}",
        )
        if known and (where, how) == (endpoint, method):
            outlet.keep((2, endpoint, method, status_code), texts)
        return texts

    def track_error(self, *, endpoint: str, method: str) -> None:
        """Count an error of a request that is counted already: a websocket that fails after its handshake."""
        try:
            where, how = self._outlet.terms.word("endpoint", endpoint), self._outlet.terms.word("method", method)
            self._put(f"api.errors:1|c{self._outlet.tags(endpoint=where, method=how, error='true')}")
        except Exception:
            self._client.count("failed")

    def track_database_performance(self, *, operation: str, execution_time_ms: float, success: bool = True) -> None:
        """Record a statement.

        Args:
            operation: its verb, such as `select`.
            execution_time_ms: milliseconds.
            success: whether it ended without an error.
        """
        try:
            done = "true" if success else "false"
            texts = self._outlet.texts.get((3, operation, done))
            if texts is None:
                verb = self._outlet.terms.word("database_operation", operation)
                texts = (f"|{self._outlet.histogram}{self._outlet.tags(operation=verb, success=done)}",)
                if verb == operation:
                    self._outlet.keep((3, operation, done), texts)
            took = number(execution_time_ms)
            if took is None:
                self._client.count("invalid")
            else:
                self._put(f"database.query_time:{took}{texts[0]}")
        except Exception:
            self._client.count("failed")

    def track_pool(self, *, active: int, idle: int, total: int | None = None, pool: str = "") -> None:
        """Report the connections of a pool.

        Args:
            active: in use.
            idle: open and free.
            total: open. Default: the sum of the two.
            pool: a name, which becomes a tag, where a process has several pools.
        """
        try:
            name = self._outlet.terms.word("pool", pool) if pool else ""
            tags = self._outlet.tags(pool=name) if name else self._outlet.tags()
            counts = (("active", active), ("idle", idle), ("total", active + idle if total is None else total))
            lines = [f"database.pool.{what}_connections:{int(count)}|g{tags}" for what, count in counts]
            self._put("\n".join(lines))
        except Exception:
            self._client.count("failed")

    def track_cache_performance(self, *, operation: str, hit: bool | None, response_time_ms: float | None) -> None:
        """Record an operation of a cache.

        Args:
            operation: such as `get`.
            hit: whether the key was there; None where there is nothing to hit, as with `set`, or the command failed.
            response_time_ms: milliseconds; None to send no time, as for the keys of one `mget` beyond the first.
        """
        try:
            texts = self._outlet.texts.get((4, operation, hit)) or self._cache(operation, hit)
            if response_time_ms is None:
                self._put(texts[0])
                return
            took = number(response_time_ms)
            if took is None:
                self._client.count("invalid")
            self._put(texts[0] if took is None else f"{texts[0]}{texts[1]}{took}{texts[2]}")
        except Exception:
            self._client.count("failed")

    def _cache(self, operation: str, hit: bool | None) -> tuple[str, ...]:
        outlet = self._outlet
        verb = outlet.terms.word("cache_operation", operation)
        found = "none" if hit is None else "true" if hit else "false"
        lines = f"cache.operations:1|c{outlet.tags(operation=verb, hit=found)}"
        if hit is not None and verb in READS:
            lines += f"\ncache.hit_ratio:1|c{outlet.tags(result='hit' if hit else 'miss')}"
        texts = (lines, "\ncache.response_time:", f"|{outlet.histogram}{outlet.tags(operation=verb)}")
        if verb == operation:
            outlet.keep((4, operation, hit), texts)
        return texts

    def track_message_queue(
        self, *, queue: str, depth: int | None = None, processing_time_ms: float | None = None, processed: int = 0
    ) -> None:
        """Report a queue.

        Args:
            queue: its name.
            depth: messages that wait, if known.
            processing_time_ms: milliseconds that a message took, if one was worked on.
            processed: messages that were worked on without an error.
        """
        try:
            tags = self._outlet.tags(queue=self._outlet.terms.word("queue", queue))
            lines = []
            for name, kind, value in (
                ("queue.depth", "g", depth),
                ("queue.processing_time", self._outlet.histogram, processing_time_ms),
                ("queue.messages_processed", "c", processed or None),
            ):
                if value is None:
                    continue
                text = number(value)
                if text is None:
                    self._client.count("invalid")
                else:
                    lines.append(f"{name}:{text}|{kind}{tags}")
            if lines:
                self._put("\n".join(lines))
        except Exception:
            self._client.count("failed")

    def queue_worker(self, queue: str, *, depth: Callable[[], int] | None = None) -> QueueWorker:
        """A context manager around the work on each message of a queue. May be made anew for each message.

        Args:
            queue: its name.
            depth: says how many messages wait, such as `asyncio.Queue.qsize`. Asked every ten seconds, in another
                thread, so that a worker that hangs shows; it must not wait. Of one queue the last one is asked.
        """
        return QueueWorker(self, queue, depth)

    def every_ten_seconds(self, read: Callable[[], None], key: object) -> None:
        """Have the client's own thread call this; a ReferenceError ends that, and so does a later one of this key."""
        self._client.poll(read, key)
