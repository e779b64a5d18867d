"""Floor 5: what each option of Datadog's checks is called here.

Source: the `conf.yaml.example` of each integration in DataDog/integrations-core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vedette.units import format_duration

Convert = Callable[[Any], Any]
"""Makes the value; raises ValueError with what cannot be said here."""


@dataclass(frozen=True, slots=True)
class Move:
    """One option.

    Attributes:
        to: its name here, with dots.
        how: makes its value.
    """

    to: str
    how: Convert = lambda value: value


@dataclass(frozen=True, slots=True)
class Translation:
    """One check.

    Attributes:
        check: its name here.
        options: by the name that Datadog has.
        idle: options that change nothing here, or say what is so anyway.
        one: whether all instances, of several of Datadog's checks, are one here.
        called: options that name an instance, the first that is there.
    """

    check: str
    options: Mapping[str, Move] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    one: bool = False
    called: tuple[str, ...] = ("name", "host")


def seconds(value: Any) -> str:
    """A number of seconds as we write it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("is not a number of seconds")
    return format_duration(float(value))


def opposite(value: Any) -> bool:
    """For an option that means the contrary."""
    return not truth(value)


def truth(value: Any) -> bool:
    """True and false as YAML and people have them."""
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "1", "on", "false", "no", "0", "off"):
        return str(value).lower() in ("true", "yes", "1", "on")
    raise ValueError("is neither true nor false")


def listed(value: Any) -> list[str]:
    """What Datadog writes with commas."""
    return [one.strip() for one in str(value).split(",") if one.strip()]


def names(value: Any) -> list[str]:
    """Names of programs; `All` meant every process there is."""
    found = [str(one) for one in value] if isinstance(value, list) else [str(value)]
    if "All" in found:
        raise ValueError("'All' processes: `search_string: [.]` with `exact_match: false` finds those of users")
    return found


def sslmode(value: Any) -> str:
    """`ssl` of Datadog's postgres check: a mode of libpq, or true and false."""
    if isinstance(value, bool):
        return "require" if value else "disable"
    return str(value).replace("_", "-")


def relations(value: Any) -> list[dict[str, Any]]:
    """Tables by name, pattern and schemas."""
    made: list[dict[str, Any]] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str):
            made.append({"name": one})
            continue
        pattern = one.get("relation_regex")
        named: dict[str, Any] = {"name": one["relation_name"]} if "relation_name" in one else {}
        named |= {"regex": pattern} if pattern not in (None, ".*") else {}
        made += [{**named, "schema": schema} for schema in one.get("schemas") or ()] or [named]
    return made


def queries(value: Any) -> list[dict[str, Any]]:
    """`custom_queries`: statements with columns."""
    return [_query(one, number) for number, one in enumerate(value or (), 1)]


_COLUMNS: Final = {"gauge": "gauge", "count": "count", "monotonic_count": "counter", "rate": "rate", "tag": "tag"}


def _query(one: dict[str, Any], number: int) -> dict[str, Any]:
    prefix = one.get("metric_prefix", "postgresql")
    columns = []
    for column in one.get("columns") or ():
        kind = _COLUMNS.get(str(column.get("type", "gauge")))
        if kind is None:
            raise ValueError(f"has a column of type {column.get('type')}, which there is none of")
        name = str(column["name"])
        columns.append({"name": name if kind == "tag" else f"{prefix}.{name}", "type": kind})
    made = {"name": f"{prefix} {number}", "sql": str(one["query"]).strip(), "columns": columns}
    return made | ({"interval": seconds(one["collection_interval"])} if "collection_interval" in one else {})


def status_codes(value: Any) -> list[str]:
    """`(1|2|3)\\d\\d` and the like, as classes and codes."""
    text = str(value).strip("^$")
    found = []
    for part in text.removeprefix("(").removesuffix(")").split("|") if "|" in text and "\\d" not in text else [text]:
        found += _codes(part)
    return found


def _codes(text: str) -> list[str]:
    if text.isdigit() and len(text) == 3:
        return [text]
    head = text.removesuffix("\\d\\d")
    digits = head.strip("()[]").replace("|", "").replace("-", "")
    if head != text and digits.isdigit() and (len(digits) == 1 or "|" in head or head.startswith("(")):
        return [f"{digit}xx" for digit in digits]
    raise ValueError("is a pattern; name the codes, such as [200, 3xx]")


_NOWHERE: Final = frozenset(
    (
        *("collect_default_metrics", "dbm", "disable_generic_tags", "empty_default_hostname", "tag_by_host"),
        *("use_global_custom_queries", "skip_proxy", "persist_connections", "enable_health_service_check"),
        *("send_distribution_buckets", "histogram_buckets_as_distributions", "min_collection_interval", "tags"),
        *("service", "name", "metrics"),
    )
)
_TLS: Final = {
    "tls_ca_cert": Move("ca_file"),
    "tls_cert": Move("cert_file"),
    "tls_private_key": Move("key_file"),
    "tls_verify": Move("verify", truth),
    "ssl_ca_certs": Move("ca_file"),
    "ssl_certfile": Move("cert_file"),
    "ssl_keyfile": Move("key_file"),
    "timeout": Move("timeout", seconds),
}
_HOST: Final = Translation(
    "host",
    {
        "file_system_exclude": Move("filesystems.exclude"),
        "file_system_include": Move("filesystems.include"),
        "mount_point_exclude": Move("mount_points.exclude"),
        "mount_point_include": Move("mount_points.include"),
        "device_exclude": Move("devices.exclude"),
        "device_include": Move("devices.include"),
        "excluded_interfaces": Move("interfaces.exclude"),
        "collect_connection_state": Move("connections", truth),
    },
    _NOWHERE
    | {"use_mount", "collect_count_metrics", "collect_rate_metrics", "include_all_devices", "service_check_rw"},
    one=True,
)
TRANSLATIONS: Final[Mapping[str, Translation]] = {
    **dict.fromkeys(("cpu", "disk", "io", "load", "memory", "network", "system_core", "system_swap", "uptime"), _HOST),
    "postgres": Translation(
        "postgres",
        {
            **{name: Move(name) for name in ("host", "port", "username", "password", "dbname")},
            "ssl": Move("sslmode", sslmode),
            "ssl_root_cert": Move("ca_file"),
            "ssl_cert": Move("cert_file"),
            "ssl_key": Move("key_file"),
            "relations": Move("relations", relations),
            "custom_queries": Move("queries", queries),
            "query_timeout": Move("statement_timeout", lambda value: seconds(float(value) / 1000)),
        },
        _NOWHERE
        | {f"collect_{what}_metrics" for what in ("count", "activity", "database_size", "function", "bloat", "wal")},
    ),
    "redisdb": Translation(
        "redis",
        {
            **_TLS,
            **{name: Move(name) for name in ("host", "port", "username", "password", "db", "keys", "unix_socket_path")},
            "ssl": Move("tls", truth),
            "ssl_cert_reqs": Move("verify", lambda value: int(value) != 0),
            "command_stats": Move("command_stats", truth),
            "slowlog-max-len": Move("slowlog.limit"),
            "socket_timeout": Move("timeout", seconds),
        },
        _NOWHERE | {"warn_on_missing_keys"},
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
            "days_warning": Move("expect.certificate_days"),
            "allow_redirects": Move("follow_redirects", truth),
        },
        _NOWHERE
        | {"collect_response_time", "include_content", "check_certificate_expiration", "use_cert_from_response"},
        called=("name", "url"),
    ),
    "dns_check": Translation(
        "dns",
        {
            "hostname": Move("hostname"),
            "nameserver": Move("nameservers", listed),
            "nameserver_port": Move("nameserver_port"),
            "record_type": Move("record_type", lambda value: str(value).upper()),
            "resolves_as": Move("resolves_as", listed),
            "timeout": Move("timeout", seconds),
            "default_timeout": Move("timeout", seconds),
        },
        _NOWHERE,
        called=("name", "hostname"),
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
            "shared_process_list_cache_duration": Move("list_age", seconds),
        },
        _NOWHERE
        | {"pid_cache_duration", "access_denied_cache_duration", "reset_cache_on_process_changes", "use_oneshot"},
    ),
    "tcp_check": Translation(
        "tcp",
        {
            "host": Move("host"),
            "port": Move("port"),
            "timeout": Move("timeout", seconds),
            "multiple_ips": Move("all_addresses", truth),
        },
        _NOWHERE | {"collect_response_time", "ip_cache_duration"},
    ),
    "rabbitmq": Translation(
        "rabbitmq",
        {
            **_TLS,
            "rabbitmq_api_url": Move("url", lambda value: value if "://" in value else f"http://{value}"),
            "username": Move("username"),
            "rabbitmq_user": Move("username"),
            "password": Move("password"),
            "rabbitmq_pass": Move("password"),
            "ssl_verify": Move("verify", truth),
            **{name: Move(name) for name in ("vhosts", "queues", "exchanges")},
            "queues_regexes": Move("queues_regex"),
            "exchanges_regexes": Move("exchanges_regex"),
            "tag_families": Move("tag_families", truth),
            "collect_node_metrics": Move("node_metrics", truth),
            "max_detailed_queues": Move("max_queues"),
            "max_detailed_exchanges": Move("max_exchanges"),
        },
        _NOWHERE | {"ignore_ssl_warning", "max_detailed_nodes"},
        called=("name", "rabbitmq_api_url"),
    ),
    "tls": Translation(
        "tls",
        {
            **_TLS,
            "server": Move("host"),
            "port": Move("port"),
            "server_hostname": Move("server_name"),
            "local_cert_path": Move("cert_path"),
            "days_warning": Move("warning_days"),
            "days_critical": Move("critical_days"),
        },
        _NOWHERE | {"send_cert_duration", "tls_validate_hostname"},
        called=("name", "server", "local_cert_path"),
    ),
    "openmetrics": Translation(
        "openmetrics",
        {
            **_TLS,
            "openmetrics_endpoint": Move("url"),
            "prometheus_url": Move("url"),
            "namespace": Move("namespace"),
            "exclude_labels": Move("exclude_labels"),
            "rename_labels": Move("rename_labels"),
            "headers": Move("headers"),
            "extra_headers": Move("headers"),
            "username": Move("username"),
            "password": Move("password"),
            "bearer_token_path": Move("token_file"),
            "collect_histogram_buckets": Move("buckets", truth),
            "ignore_metrics_timestamps": Move("timestamps", opposite),
        },
        _NOWHERE,
        called=("name", "openmetrics_endpoint", "prometheus_url"),
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
