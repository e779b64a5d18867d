"""Reads GetMetricData's answers leanly: the SDK takes a second for one full of datapoints, and blocks the loop with it.

Source: Amazon CloudWatch API Reference, GetMetricData (query protocol).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

_NS = "{http://monitoring.amazonaws.com/doc/2010-08-01/}"
_ID, _CODE, _TIMES, _VALUES = f"{_NS}Id", f"{_NS}StatusCode", f"{_NS}Timestamps", f"{_NS}Values"
_EMPTY = (
    b'<GetMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><GetMetricDataResult/>'
    b"<ResponseMetadata/></GetMetricDataResponse>"
)


def before_parse(
    response_dict: MutableMapping[str, Any], customized_response_dict: MutableMapping[str, Any], **_: Any
) -> None:
    """The SDK's event before it parses: what is XML and went well is read here, all else left to it."""
    body = response_dict["body"]
    if response_dict["status_code"] >= 300 or not body.lstrip().startswith(b"<"):
        return
    try:
        result = fromstring(body).find(f"{_NS}GetMetricDataResult")  # noqa: S314 - AWS', or whom one calls so
    except ParseError:
        return
    if result is None:
        return
    customized_response_dict["MetricDataResults"] = _results(result)
    token = result.findtext(f"{_NS}NextToken")
    if token:
        customized_response_dict["NextToken"] = token
    response_dict["body"] = _EMPTY


def _results(result: Element) -> list[dict[str, Any]]:
    seconds: dict[str | None, int] = {}
    made = []
    for member in result.iterfind(f"{_NS}MetricDataResults/{_NS}member"):
        times = []
        for one in member.iterfind(f"{_TIMES}/{_NS}member"):
            text = one.text
            if text not in seconds:
                seconds[text] = int(datetime.fromisoformat(text or "").timestamp())
            times.append(seconds[text])
        values = [float(one.text or "nan") for one in member.iterfind(f"{_VALUES}/{_NS}member")]
        made.append(
            {
                "Id": member.findtext(_ID, ""),
                "StatusCode": member.findtext(_CODE, ""),
                "Points": dict(zip(times, values, strict=False)),
            }
        )
    return made


def points_of(result: dict[str, Any]) -> dict[int, float]:
    """Values by their time, Unix seconds, whoever parsed the answer."""
    if "Points" in result:
        points: dict[int, float] = result["Points"]
        return points
    times = [int(one.timestamp()) for one in result.get("Timestamps", ())]
    return dict(zip(times, result.get("Values", ()), strict=False))
