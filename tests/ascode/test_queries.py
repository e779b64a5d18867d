"""A series in both query languages, character by character."""

from __future__ import annotations

from typing import Any

import pytest

from vedette.datadog.model import Head, Monitor, Notify
from vedette.datadog.payloads import monitor_payload
from vedette.datadog.queries import datadog_query, filled, label, promql
from vedette.datadog.series import Series


@pytest.mark.parametrize(
    ("options", "datadog", "prometheus"),
    [
        (
            {"metric": "redis.mem.used", "take": "max", "by": ["instance"]},
            "max:redis.mem.used{*} by {instance}",
            "max by (exported_instance) (redis_mem_used)",
        ),
        (
            {"metric": "redis.net.commands", "kind": "rate", "where": {"env": "prod"}},
            "sum:redis.net.commands{env:prod}",
            'sum (rate(redis_net_commands_total{env="prod"}[5m]))',
        ),
        (
            {"metric": "api.requests", "kind": "count", "where": {"endpoint": "/v1/*"}},
            "sum:api.requests{endpoint:/v1/*}.as_count()",
            'sum (increase(api_requests_total{endpoint=~"/v1/.*"}[5m]))',
        ),
        (
            {"metric": "x.total", "kind": "counter", "per": "second"},
            "sum:x.total{*}.as_rate()",
            "sum (rate(x_total[5m]))",
        ),
        (
            {"metric": "redis.keys.evicted", "take": "sum", "grows": True},
            "monotonic_diff(sum:redis.keys.evicted{*})",
            "sum (increase(redis_keys_evicted[5m]))",
        ),
        (
            {"metric": "api.time", "kind": "histogram", "take": "p95", "by": ["host"]},
            "max:api.time.95percentile{*} by {host}",
            "histogram_quantile(0.95, sum by (le, instance) (rate(api_time_bucket[5m])))",
        ),
        (
            {"metric": "api.time", "kind": "histogram"},
            "avg:api.time.avg{*}",
            "sum (rate(api_time_sum[5m])) / sum (rate(api_time_count[5m]))",
        ),
        (
            {"metric": "api.time", "kind": "distribution", "take": "median"},
            "p50:api.time{*}",
            "histogram_quantile(0.5, sum by (le) (rate(api_time_bucket[5m])))",
        ),
        (
            {"metric": "users", "kind": "set"},
            "max:users{*}",
            "max (users)",
        ),
    ],
)
def test_a_series_in_both_languages(options: dict[str, Any], datadog: str, prometheus: str) -> None:
    series = Series.model_validate(options)
    assert datadog_query(series) == datadog
    assert promql(series, window="5m") == prometheus


def test_histograms_may_arrive_as_distributions() -> None:
    series = Series.model_validate({"metric": "api.time", "kind": "histogram", "take": "p95"})
    assert datadog_query(series, ["$service"], as_distribution=True) == "p95:api.time{$service}"


def test_the_instance_is_ours_where_labels_are_honoured() -> None:
    assert (label("instance"), label("instance", honor_labels=True), label("host")) == (
        "exported_instance",
        "instance",
        "instance",
    )
    series = Series.model_validate({"metric": "a", "by": ["instance", "host"]})
    assert (
        promql(series, ["instance"], window="5m", honor_labels=True) == 'avg by (instance) (a{instance=~"$instance"})'
    )


def test_a_name_in_a_formula_is_replaced_whole() -> None:
    assert filled("100 * hit / (hit + hits)", {"hit": "a", "hits": "b"}) == "100 * (a) / ((a) + (b))"


def test_the_way_back_lies_halfway_to_the_warning() -> None:
    monitor = Monitor(id="a", name="A", metric="a.b", above=10, warning=5, during="min", over=7200, remind=3600)
    body = monitor_payload(monitor, Head())
    assert body["query"] == "min(last_2h):avg:a.b{*} > 10"
    assert body["options"]["thresholds"] == {"critical": 10, "critical_recovery": 7.5, "warning": 5}
    assert body["options"]["renotify_interval"] == 60


def test_small_and_large_numbers_are_written_out() -> None:
    said = [
        monitor_payload(Monitor(id="a", name="A", metric="a.b", above=one), Head())["query"] for one in (1e-5, 1e21)
    ]
    assert said == ["avg(last_5m):avg:a.b{*} > 0.00001", "avg(last_5m):avg:a.b{*} > 1000000000000000000000"]


def test_silence_goes_to_others_if_the_file_says_so() -> None:
    notify = Notify(critical=("@pagerduty-a",), no_data=("@slack-b",))
    monitor = Monitor(id="a", name="A", status="a.ok", by=("instance",), times=2, no_data=1200)
    body = monitor_payload(monitor, Head(notify=notify))
    assert body["query"] == '"a.ok".over("*").by("instance").last(3).count_by_status()'
    assert "{{#is_no_data}}@slack-b{{/is_no_data}}" in body["message"]
    assert "{{#is_warning}}" not in body["message"]  # nobody to tell
    assert body["options"]["no_data_timeframe"] == 20
