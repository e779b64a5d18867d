"""What all metrics of an application share: one client and the terms of one vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Literal

from vedette.instrument.client import Client, Stats, shared_client
from vedette.instrument.settings import Settings, read_settings
from vedette.instrument.vocabulary import Terms, Vocabulary

_MOST_CACHED = 10_000


class Outlet:
    """Client, terms, and the texts that lines are made of, by their tags' values.

    Args:
        settings: target and constant tags.
        vocabulary: the values that tags may have.
    """

    def __init__(self, settings: Settings, vocabulary: Vocabulary) -> None:
        self.client: Client = shared_client(settings)
        self.terms = Terms(vocabulary, self.client.count)
        self.texts: dict[object, tuple[str, ...]] = {}
        self._settings = settings
        self.histogram = settings.histogram_as
        self._constant = settings.suffix
        self._keys = frozenset(tag.partition(":")[0] for tag in settings.tags)

    def tags(self, **values: str) -> str:
        """The end of a line: its own tags, then the constant ones of other keys.

        Args:
            values: tag values by key, in order.
        """
        constant = self._constant
        if not self._keys.isdisjoint(values):  # a tag said twice would count as two values
            constant = "".join(f",{tag}" for tag in self._settings.tags if tag.partition(":")[0] not in values)
        joined = ",".join(f"{key}:{value}" for key, value in values.items()) + constant
        return f"|#{joined.lstrip(',')}" if joined else ""

    def keep(self, key: object, texts: tuple[str, ...]) -> None:
        """Remember texts for the next call with the same values."""
        if len(self.texts) >= _MOST_CACHED:
            self.texts.clear()
        self.texts[key] = texts


@cache
def shared_outlet(settings: Settings, vocabulary: Vocabulary) -> Outlet:
    """The outlet of these settings and this vocabulary, one in a process, so that limits hold for all of it."""
    return Outlet(settings, vocabulary)


class Metrics:
    """What `BusinessMetrics` and `TechnicalMetrics` have in common. Cheap to make: all with equal arguments share one
    client and one thread, which begins with the first metric.

    No method raises, waits or opens a connection in the caller's thread; `stats()` says what was lost.

    Args:
        host: of the Datadog agent or StatsD server. Default: `DD_DOGSTATSD_URL`, `DD_AGENT_HOST`, then 127.0.0.1.
        port: its UDP port. Default: `DD_DOGSTATSD_PORT`, then 8125.
        socket_path: unix socket instead: a path, or `unixgram://` or `unixstream://` and a path.
        environment: tag. Default: `ENVIRONMENT` or `DD_ENV`.
        service: tag. Default: `DD_SERVICE`.
        version: tag. Default: `APP_VERSION` or `DD_VERSION`.
        tags: more `key:value` tags of every metric, before those of `DD_TAGS`.
        vocabulary: the values that tags may have.
        histogram_as: `h`, which a Datadog agent sums up for each host, or `d`, a distribution over all hosts.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        socket_path: str | None = None,
        environment: str | None = None,
        service: str | None = None,
        version: str | None = None,
        tags: Iterable[str] = (),
        vocabulary: Vocabulary | None = None,
        histogram_as: Literal["h", "d"] = "h",
    ) -> None:
        settings = read_settings(
            host=host, port=port, socket_path=socket_path, environment=environment, service=service, version=version,
            tags=tags, histogram_as=histogram_as,
        )  # fmt: skip
        self._outlet = shared_outlet(settings, Vocabulary() if vocabulary is None else vocabulary)
        self._client = self._outlet.client
        self._put = self._client.put

    def stats(self) -> Stats:
        """What became of the metrics of this client so far: sent, dropped, waiting, left out."""
        return self._client.stats()

    def failed(self) -> None:
        """Count a failure of what instruments a library; for such parts only."""
        self._client.count("failed")

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until everything so far is sent or dropped, at most `timeout` seconds; for tests and short scripts.

        Services need not call it: lines leave after 0.1 s, and at the end of the process.
        """
        return self._client.flush(timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Send what is queued and end the thread, within `timeout` seconds; a later metric starts it anew."""
        self._client.close(timeout)
