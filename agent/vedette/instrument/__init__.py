"""For applications: business and technical metrics with one line each, never waiting, never failing the request.

Imports nothing of the agent: a service pays for the `datadog` client and for what it uses itself.
"""

from __future__ import annotations

from vedette.instrument.asgi import MetricsMiddleware
from vedette.instrument.business import BusinessMetrics
from vedette.instrument.caches import instrument_redis
from vedette.instrument.client import Stats
from vedette.instrument.databases import instrument_asyncpg, instrument_sqlalchemy
from vedette.instrument.logs import JsonFormatter
from vedette.instrument.queues import QueueWorker
from vedette.instrument.realtime import RealtimeCounters, Recorded
from vedette.instrument.technical import TechnicalMetrics
from vedette.instrument.vocabulary import Vocabulary

__all__ = [
    "BusinessMetrics",
    "JsonFormatter",
    "MetricsMiddleware",
    "QueueWorker",
    "RealtimeCounters",
    "Recorded",
    "Stats",
    "TechnicalMetrics",
    "Vocabulary",
    "instrument_asyncpg",
    "instrument_redis",
    "instrument_sqlalchemy",
]
