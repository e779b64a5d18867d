"""What this service measures with: one object of each kind, made from the environment, and logs that fit them."""

from __future__ import annotations

import logging

from vedette.instrument import BusinessMetrics, JsonFormatter, TechnicalMetrics

business = BusinessMetrics()
technical = TechnicalMetrics()


def log_as_json() -> None:
    """Send all logs, those of uvicorn too, to standard error as JSON with the service's own tags."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers.clear()
        log.propagate = True
