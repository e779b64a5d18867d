"""Floor 5: what each option of Datadog's checks is called here.

Source: the `conf.yaml.example` of each integration in DataDog/integrations-core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vedette.moving.patterns import excluded, included
from vedette.moving.translation import (
    Convert,
    Move,
    Translation,
    settle_http,
    settle_openmetrics,
    settle_rabbitmq,
    settle_redis,
    settle_tls,
)
from vedette.moving.values import (
    listed,
    names,
    opposite,
    queries,
    relations,
    seconds,
    sslmode,
    status_codes,
    text,
    truth,
)


def _any(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, ...)


def _minor(to: str, how: Convert = lambda value: value) -> Move:
    return Move(to, how, minor=True)


_NOWHERE: Final[Mapping[str, Any]] = {
    **_any("use_global_custom_queries", "skip_proxy", "persist_connections", "tag_by_host"),
    **dict.fromkeys(("collect_default_metrics", "enable_health_service_check"), True),
    **dict.fromkeys(("dbm", "disable_generic_tags", "empty_default_hostname"), False),
    **dict.fromkeys(("send_distribution_buckets", "histogram_buckets_as_distributions"), False),
}
_HTTP: Final[Mapping[str, Any]] = {
    "proxy": {},
    "auth_token": {},
    "authtype": "basic",
    "kerberos_auth": "disabled",
}
"""How a request gets there, and as whom."""
_TLS: Final = {
    "tls_ca_cert": Move("ca_file"),
    "tls_cert": Move("cert_file"),
    "tls_private_key": Move("key_file"),
    "tls_verify": Move("verify", truth),
    "ssl_ca_certs": Move("ca_file"),
    "ssl_certfile": Move("cert_file"),
    "ssl_keyfile": Move("key_file"),
    "timeout": _minor("timeout", seconds),
}
_HOST: Final = Translation(
    "host",
    {
        "file_system_exclude": _minor("filesystems.exclude", excluded),
        "file_system_include": _minor("filesystems.include", included),
        "mount_point_exclude": _minor("mount_points.exclude", excluded),
        "mount_point_include": _minor("mount_points.include", included),
        "device_exclude": _minor("devices.exclude", excluded),
        "device_include": _minor("devices.include", included),
        "excluded_interfaces": _minor("interfaces.exclude"),
        "collect_connection_state": _minor("connections", truth),
    },
    {
        **_NOWHERE,
        **_any("collect_count_metrics", "collect_rate_metrics", "include_all_devices", "service_check_rw"),
        "use_mount": False,
    },
    one=True,
)
TRANSLATIONS: Final[Mapping[str, Translation]] = {
    **dict.fromkeys(("cpu", "disk", "io", "load", "memory", "network", "system_core", "system_swap", "uptime"), _HOST),
    "postgres": Translation(
        "postgres",
        {
            **{name: Move(name, text) for name in ("host", "username", "password", "dbname")},
            "port": Move("port"),
            "ssl": Move("sslmode", sslmode),
            "ssl_root_cert": Move("ca_file"),
            "ssl_cert": Move("cert_file"),
            "ssl_key": Move("key_file"),
            "relations": _minor("relations", relations),
            "custom_queries": _minor("queries", queries),
            "query_timeout": _minor("statement_timeout", lambda value: seconds(float(value) / 1000)),
        },
        {
            **_NOWHERE,
            **_any(*(f"collect_{what}_metrics" for what in ("count", "activity", "database_size"))),
            **dict.fromkeys((f"collect_{what}_metrics" for what in ("function", "bloat", "wal")), False),
        },
        aims=("host",),
    ),
    "redisdb": Translation(
        "redis",
        {
            **_TLS,
            **{name: Move(name, text) for name in ("host", "username", "password", "unix_socket_path")},
            "port": Move("port"),
            "db": Move("db"),
            "keys": _minor("keys"),
            "ssl": Move("tls", truth),
            "ssl_cert_reqs": Move("verify", lambda value: int(value) != 0),
            "command_stats": _minor("command_stats", truth),
            "slowlog-max-len": _minor("slowlog.limit"),
            "socket_timeout": _minor("timeout", seconds),
        },
        {**_NOWHERE, **_any("warn_on_missing_keys")},
        aims=("host", "unix_socket_path"),
        settle=settle_redis,
    ),
    "http_check": Translation(
        "synthetic",
        {
            **_TLS,
            "url": Move("url"),
            "method": Move("method", lambda value: str(value).upper()),
            "headers": Move("headers"),
            "username": Move("auth.username"),
            "password": Move("auth.password"),
            "content_match": Move("expect.regex"),
            "http_response_status_code": Move("expect.status", status_codes),
            "days_warning": _minor("expect.certificate_days"),
            "allow_redirects": _minor("follow_redirects", truth),
        },
        {**_NOWHERE, **_any("include_content", "use_cert_from_response"), "collect_response_time": True},
        needed={**_HTTP, "reverse_content_match": False, "data": {}},
        more=frozenset(("check_certificate_expiration",)),
        called=("name", "url"),
        aims=("url",),
        settle=settle_http,
    ),
    "dns_check": Translation(
        "dns",
        {
            "hostname": Move("hostname"),
            "nameserver": Move("nameservers", listed),
            "nameserver_port": Move("nameserver_port"),
            "record_type": Move("record_type", lambda value: str(value).upper()),
            "resolves_as": Move("resolves_as", listed),
            "timeout": _minor("timeout", seconds),
            "default_timeout": _minor("timeout", seconds),
        },
        _NOWHERE,
        called=("name", "hostname"),
        aims=("hostname",),
    ),
    "process": Translation(
        "process",
        {
            "search_string": Move("search_string", names),
            "exact_match": Move("exact_match", truth),
            "pid": Move("pid", int),
            "pid_file": Move("pid_file"),
            "user": Move("user"),
            "collect_children": Move("collect_children", truth),
            "ignore_denied_access": Move("ignore_denied_access", truth),
            "thresholds": Move("thresholds"),
            "procfs_path": Move("procfs_path"),
            "shared_process_list_cache_duration": _minor("list_age", seconds),
        },
        {
            **_NOWHERE,
            **_any("pid_cache_duration", "access_denied_cache_duration"),
            **_any("reset_cache_on_process_changes", "use_oneshot"),
        },
        aims=("search_string", "pid", "pid_file"),
    ),
    "tcp_check": Translation(
        "tcp",
        {
            "host": Move("host", text),
            "port": Move("port"),
            "timeout": _minor("timeout", seconds),
            "multiple_ips": Move("all_addresses", truth),
        },
        {**_NOWHERE, **_any("ip_cache_duration"), "collect_response_time": True},
        aims=("host",),
    ),
    "rabbitmq": Translation(
        "rabbitmq",
        {
            **_TLS,
            "rabbitmq_api_url": Move("url", lambda value: value if "://" in value else f"http://{value}"),
            **dict.fromkeys(("username", "rabbitmq_user"), Move("username", text)),
            **dict.fromkeys(("password", "rabbitmq_pass"), Move("password", text)),
            "ssl_verify": Move("verify", truth),
            **{name: Move(name) for name in ("vhosts", "queues", "exchanges")},
            "queues_regexes": Move("queues_regex"),
            "exchanges_regexes": Move("exchanges_regex"),
            "tag_families": _minor("tag_families", truth),
            "collect_node_metrics": _minor("node_metrics", truth),
            "max_detailed_queues": _minor("max_queues"),
            "max_detailed_exchanges": _minor("max_exchanges"),
        },
        {**_NOWHERE, **_any("ignore_ssl_warning", "max_detailed_nodes")},
        needed={**_HTTP, "prometheus_plugin": {}},
        called=("name", "rabbitmq_api_url"),
        aims=("rabbitmq_api_url",),
        settle=settle_rabbitmq,
    ),
    "tls": Translation(
        "tls",
        {
            **{name: move for name, move in _TLS.items() if move.to != "verify"},
            "server": Move("host", text),
            "port": Move("port"),
            "server_hostname": Move("server_name"),
            "local_cert_path": Move("cert_path"),
            "days_warning": Move("warning_days"),
            "days_critical": Move("critical_days"),
        },
        {**_NOWHERE, **_any("send_cert_duration")},
        needed={"tls_verify": True, "tls_validate_hostname": True, "transport": "tcp", "start_tls": ""},
        called=("name", "server", "local_cert_path"),
        aims=("server", "local_cert_path"),
        settle=settle_tls,
    ),
    "openmetrics": Translation(
        "openmetrics",
        {
            **_TLS,
            "openmetrics_endpoint": Move("url"),
            "prometheus_url": Move("url"),
            "namespace": Move("namespace"),
            "exclude_labels": _minor("exclude_labels"),
            "rename_labels": _minor("rename_labels"),
            "headers": Move("headers"),
            "extra_headers": Move("headers"),
            "username": Move("username"),
            "password": Move("password"),
            "bearer_token_path": Move("token_file"),
            "collect_histogram_buckets": _minor("buckets", truth),
            "ignore_metrics_timestamps": _minor("timestamps", opposite),
        },
        _NOWHERE,
        needed=_HTTP,
        more=frozenset(("metrics", "extra_metrics", "exclude_metrics", "ignore_metrics")),
        called=("name", "openmetrics_endpoint", "prometheus_url"),
        aims=("openmetrics_endpoint", "prometheus_url"),
        settle=settle_openmetrics,
    ),
}
"""By the name that Datadog has."""
ELSEWHERE: Final[Mapping[str, str]] = {
    "kubernetes_state_core": "check k8s watches the cluster: see its README",
    "kubelet": "check k8s watches the cluster: see its README",
    "nagios": "check exec runs the plugins themselves",
    "amazon_rds": "check cloudwatch",
    "dogstatsd": "check statsd",
}
"""What has no translation, and where to look."""
