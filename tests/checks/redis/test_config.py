"""The options: what is accepted, what is refused, and that no value is repeated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import vedette_checks.redis
from vedette_checks.redis import Redis, RedisConfig
from vedette_checks.redis.address import Address, parse_url

SECRET = "hunter2-is-secret"
HGET = "`read: hget` needs `field`, and only it may have one"
ZCOUNT = "`read: zcount` needs `window`, and only it may have one"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", Address("cache", 6379)),
        ("redis://cache:7000/3", Address("cache", 7000, "", 3)),
        ("rediss://u:p%40%2F%3A@cache:7000/", Address("cache", 7000, "", 0, "u", "p@/:", True)),
        ("redis://:p@[::1]:7000", Address("::1", 7000, "", 0, "", "p")),
        ("unix:///run/r.sock", Address("", 0, "/run/r.sock")),
        ("unix://u:p@/run/my%20r.sock?db=5", Address("", 0, "/run/my r.sock", 5, "u", "p")),
    ],
)
def test_url(url: str, address: Address) -> None:
    assert parse_url(url) == address
    assert RedisConfig.model_validate({"url": url}).address == address


@pytest.mark.parametrize(
    "url",
    [
        f"http://u:{SECRET}@cache",
        f"redis://u:{SECRET}@",
        f"redis://u:{SECRET}@cache:port",
        f"redis://u:{SECRET}@cache:99999",
        f"redis://u:{SECRET}@cache/notanumber",
        f"redis://u:{SECRET}@cache?db=1",
        f"redis://u:{SECRET}/x@cache",
        f"redis://u:{SECRET}@[::1",
        f"unix://u:{SECRET}@host/path",
        f"unix://u:{SECRET}@/path?user=x",
        "cache:6379",
        "",
    ],
)
def test_bad_urls_are_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RedisConfig.model_validate({"url": url})
    (problem,) = caught.value.errors()
    assert problem["type"] == "value_error"
    assert SECRET not in problem["msg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "redis://a", "host": "b", "port": 1}, "`url` says it all: leave out host, port"),
        ({"unix_socket_path": "/a", "port": 1}, "a unix socket has no port"),
        ({"unix_socket_path": "/a", "tls": True}, "a unix socket has no tls"),
        ({"ca_file": "/a"}, "ca_file without TLS: set `tls: true`"),
        ({"url": "redis://a", "cert_file": "/a"}, "cert_file without TLS: set `tls: true`"),
        ({"tls": True, "key_file": "/a"}, "`key_file` needs `cert_file`"),
        ({"username": "u"}, "`username` needs `password`"),
        ({"keys": ["a", "b", "a"]}, "lists a key twice"),
        ({"keys": [""]}, "an empty string is no key"),
        (
            {"counters": [{"metric": "a", "key": "{tag:region}"}]},
            "counters[0].key: a {tag:…} field names a tag that neither the counter nor the instance has",
        ),
        (
            {"counters": [{"metric": "a", "key": "k"}, {"metric": "a", "key": "l", "kind": "rate"}]},
            "counters[1].kind: the same metric has another kind further up",
        ),
        ({"counters": [{"metric": "a", "key": "k", "read": "hget"}]}, HGET),
        ({"counters": [{"metric": "a", "key": "k", "field": "f"}]}, HGET),
        ({"counters": [{"metric": "a", "key": "k", "read": "zcount"}]}, ZCOUNT),
        ({"counters": [{"metric": "a", "key": "k", "window": 5}]}, ZCOUNT),
        ({"counters": [{"metric": "a", "key": "{%Y"}]}, "a {%…} or {tag:…} field is not closed"),
        ({"counters": [{"metric": "a", "key": "{tag:}"}]}, "{tag:…} needs the name of a tag"),
        ({"counters": [{"metric": "redis.keys", "key": "k"}]}, "is a metric of the check itself; choose another name"),
    ],
)  # fmt: skip
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RedisConfig.model_validate(options)
    assert [problem["msg"] for problem in caught.value.errors()] == [f"Value error, {message}"]


@pytest.mark.parametrize("key", ["{%s}", "{%-d}", "{%Y%}", "{%Q}", "{%Y\x00}"])
def test_directives_that_are_not_portable(key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RedisConfig.model_validate({"counters": [{"metric": "a", "key": key}]})
    assert caught.value.errors()[0]["msg"].startswith("Value error, a {%…} field ")


@pytest.mark.parametrize("host", ["", "a b", "user@host", "host/0"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ValidationError):
        RedisConfig.model_validate({"host": host})


@pytest.mark.parametrize("metric", ["", "1a", "a b", "a-b", "é", "a\n"])
def test_metric_names(metric: str) -> None:
    with pytest.raises(ValidationError):
        RedisConfig.model_validate({"counters": [{"metric": metric, "key": "k"}]})


def test_password_is_not_printed() -> None:
    for config in (
        RedisConfig.model_validate({"password": SECRET}),
        RedisConfig.model_validate({"url": f"redis://:{SECRET}@a"}),
    ):
        assert config.address.password == SECRET
        assert SECRET not in repr(config) + str(config) + repr(config.address) + config.model_dump_json()


def test_every_option_is_described() -> None:
    for name, field in RedisConfig.model_fields.items():
        assert field.description, name


def test_metrics_are_declared_once() -> None:
    names = [metric.name for metric in Redis.metrics]
    assert len(names) == len(set(names))
    assert all(metric.help.endswith(".") for metric in Redis.metrics)


def test_lint() -> None:
    assert list(Redis.lint(RedisConfig.model_validate({"tls": True, "verify": False}))) == [
        "verify is off: whoever answers at this address gets the password"
    ]
    assert list(Redis.lint(RedisConfig.model_validate({"tls": True}))) == []


def test_the_examples_of_the_readme_are_valid() -> None:
    readme = Path(vedette_checks.redis.__file__).with_name("README.md").read_text()
    files = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)]
    configs = [RedisConfig.model_validate(options) for file in files for options in file["instances"]]
    assert [config.address.host for config in configs] == [
        "cache1.internal",
        "cache1.internal",
        "cache2.internal",
        "",
        "cache1.internal",
        "localhost",  # unused: `sentinel` and `cluster` say where the servers are
        "localhost",
        "cache1.internal",
    ]
    (counting,) = [config for config in configs if config.counters]
    assert [counter.read for counter in counting.counters] == ["get", "get", "zcount", "hget"]
