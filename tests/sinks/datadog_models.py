"""Payloads read with the models of Datadog's own API client: what it does not know it marks instead of raising."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.model_utils import ModelComposed, ModelNormal, ModelSimple, UnparsedObject
from datadog_api_client.v1.model.distribution_points_payload import DistributionPointsPayload
from datadog_api_client.v1.model.event_create_request import EventCreateRequest
from datadog_api_client.v1.model.metric_metadata import MetricMetadata
from datadog_api_client.v1.model.service_checks import ServiceChecks
from datadog_api_client.v2.model.http_log import HTTPLog
from datadog_api_client.v2.model.metric_payload import MetricPayload

MODELS = {
    "/api/v2/series": MetricPayload,
    "/api/v1/distribution_points": DistributionPointsPayload,
    "/api/v1/check_run": ServiceChecks,
    "/api/v1/events": EventCreateRequest,
    "/api/v2/logs": HTTPLog,
}


def parsed(path: str, body: Any) -> Any:
    """The model of a body.

    Raises:
        AssertionError: a part of it is not what the API describes.
    """
    client = ApiClient(Configuration(api_key={"apiKeyAuth": ""}))
    model = client.deserialize(json.dumps(body), (MODELS.get(path, MetricMetadata),), True)
    wrong = list(unparsed(model, path))
    assert not wrong, wrong
    return model


def unparsed(value: Any, path: str, *, strictly: bool = False) -> Iterator[str]:
    """Paths of the parts that the client could not make sense of; `strictly` also of those it keeps unknown."""
    inner = partial(unparsed, strictly=strictly)
    if isinstance(value, UnparsedObject) or getattr(value, "_unparsed", False):
        yield path
    elif isinstance(value, ModelComposed):  # one of several models: which one it is
        if strictly and not value._composed_instances:
            yield path
        for one in value._composed_instances:
            yield from inner(one, path)
    elif isinstance(value, ModelNormal):
        known = set(value.attribute_map)
        for name, one in value._data_store.items():
            if strictly and name not in known:
                yield f"{path}.{name}"
            yield from inner(one, f"{path}.{name}")
    elif isinstance(value, ModelSimple):
        yield from inner(value.value, path)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from inner(one, f"{path}.{name}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from inner(one, f"{path}[{number}]")
