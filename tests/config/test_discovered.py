"""What targets ask for, and what templates make of them: instances, names, tags, and every refusal with its message."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from core.scouting import find, pod
from vedette import Container, Target
from vedette.config import Configuration, Instance, load
from vedette.config.discovered import MOST_PROBLEMS, MOST_SHOWN, Findings, Maker
from vedette.config.template import spellings
from vedette.plugins import Registry

SECRET = "hunter2-s3cret"
WHO = "payments/api-7f9c: vedette.dev/checks"
REDIS = 'redis:\n  - host: "%%host%%"\n    port: "%%port_redis%%"\n'
AGENT = "autodiscovery:\n  - {type: scouting, allow: [redis, postgres, synthetic]}\nsinks: [{type: console}]\n"


def files(folder: Path, agent: str = AGENT, **more: str) -> Configuration:
    conf = folder / "conf.d"
    conf.mkdir(exist_ok=True)
    (conf / "agent.yaml").write_text(agent)
    for name, text in more.items():
        (conf / f"{name}.yaml").write_text(text)
    return load(conf, Registry(find), environ={"AGENTS_OWN": SECRET})


def resolve(configuration: Configuration, *targets: Target) -> Findings:
    return Maker(Registry(find)).make(configuration, {"scouting": targets})


def lines(found: Findings) -> list[str]:
    return [str(problem) for problem in found.problems]


def only(found: Findings) -> Instance:
    assert lines(found) == []
    (instance,) = found.instances
    return instance


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    made = files(tmp_path_factory.mktemp("agent"))
    assert made.problems == ()
    return made


def test_an_annotation_makes_an_instance_that_says_whose_it_is(agent: Configuration) -> None:
    target = pod(asks=REDIS, tags=("pod_name:api-7f9c", "kube_namespace:payments"))
    found = resolve(agent, target)
    instance = only(found)
    config: Any = instance.config
    assert (instance.id, instance.file, instance.line) == ("redis/payments.api-7f9c", WHO, 2)
    assert instance.origin == "pod payments/api-7f9c"
    assert (config.host, config.port, config.interval) == ("10.1.2.3", 6379, 15.0)
    assert config.tags == ("pod_name:api-7f9c", "kube_namespace:payments")
    assert (found.made, found.wrong) == ({"scouting": 1}, {"scouting": 0})


def test_several_instances_have_names_within_the_pods_own(agent: Configuration) -> None:
    asks = "redis:\n" + '  - {host: "%%host%%"}\n' * 2 + '  - {name: sessions, host: "%%host%%", db: 3}\n'
    found = resolve(agent, pod(asks=asks), pod("api-7f9c-2", asks=asks))
    assert [one.id.removeprefix("redis/payments.") for one in found.instances] == [
        "api-7f9c", "api-7f9c:2", "api-7f9c:sessions", "api-7f9c-2", "api-7f9c-2:2", "api-7f9c-2:sessions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("%%host%%", "10.1.2.3"),
        ("%%port%%", "6379"),
        ("%%port_redis%%", "6379"),
        ("%%env:ROLE%%", "cache"),
        ("%%label:app.kubernetes.io/name%%", "api"),
        ("%%zone%%", "eu-1"),
        ("%%host%%:%%port%%/%%env:ROLE%%", "10.1.2.3:6379/cache"),
        ("100%%%% of %%env:ROLE%%", "100%% of cache"),
        ("{%Y%m%d%H}", "{%Y%m%d%H}"),
        ("%%env:TRICKY%%", "%%host%% ${env:AGENTS_OWN}"),  # what is filled in is not looked at again
    ],
)
def test_variables(agent: Configuration, text: str, value: str) -> None:
    environ = {"ROLE": "cache", "TRICKY": "%%host%% ${env:AGENTS_OWN}"}
    target = pod(
        asks=f'redis: [{{host: "%%host%%", keys: ["{text}"]}}]',
        containers=[Container("redis", "redis", {"redis": 6379}, environ)],
        labels={"app.kubernetes.io/name": "api"},
        variables={"zone": "eu-1"},
    )
    config: Any = only(resolve(agent, target)).config
    assert config.keys == (value,)


def test_an_ipv6_address_is_in_brackets_inside_a_url_and_bare_alone(agent: Configuration) -> None:
    asks = 'synthetic: [{url: "http://%%host%%:%%port%%/", follow_redirects: false}]\n' + REDIS
    found = resolve(agent, pod(asks=asks, host="fd00::7"))
    http, redis = (one.config for one in found.instances)
    assert (http.url, redis.host) == ("http://[fd00::7]:6379/", "fd00::7")  # type: ignore[attr-defined]


def test_a_literal_password_is_masked_in_its_own_instance_and_nowhere_else(agent: Configuration) -> None:
    environ = {"PW": "payments"}  # would blot out every name of a namespace
    asks = 'redis: [{host: "%%host%%", password: "%%env:PW%%"}]'
    instance = only(resolve(agent, pod(asks=asks, containers=[Container("redis", "redis", {}, environ)])))
    assert instance.config.password.reveal() == "payments"  # type: ignore[attr-defined]
    assert instance.masker is not None
    assert instance.masker("AUTH payments failed") == "AUTH **** failed"
    assert agent.masker("payments/api-7f9c") == "payments/api-7f9c"


BIG = ", ".join(f'"%%env:BIG%%{n}"' for n in range(20))
HOST = 'host: "%%host%%"'
BAD: dict[str, tuple[str, str]] = {
    "a check that is not allowed": (
        "business_sql: [{}]",
        ":1: business_sql: agent.yaml does not allow this check; it allows redis, postgres, synthetic",
    ),
    "a check that is not allowed, misspelt": (
        "rediss: [{}]",
        ":1: rediss: agent.yaml does not allow this check; did you mean 'redis'?",
    ),
    "a check that is none": ('"../../x": [{}]', ":1: ?: agent.yaml does not allow this check; it allows redis, "
                             "postgres, synthetic"),
    "a variable of the agent": (
        f"redis:\n  - {HOST}\n    password: ${{env:AGENTS_OWN}}",
        ":3: redis[0].password: a '${' is not resolved here; %%env:NAME%% is a variable of the target",
    ),
    "a variable of the agent in a nested option": (
        f'redis:\n  - {HOST}\n    counters: [{{metric: x, key: "a${{env:AGENTS_OWN}}"}}]',
        ":3: redis[0].counters[0].key: a '${' is not resolved here; %%env:NAME%% is a variable of the target",
    ),
    "a file of the agent as a reference": (
        f'redis:\n  - {HOST}\n    keys: ["${{file:/etc/passwd}}"]',
        ":3: redis[0].keys[0]: a '${' is not resolved here; %%env:NAME%% is a variable of the target",
    ),
    "a secret of a maker": (
        f'redis: [{{{HOST}, password: "${{aws-sm:prod/db}}"}}]',
        ":1: redis[0].password: a '${' is not resolved here; %%env:NAME%% is a variable of the target",
    ),
    "an escaped reference": (
        f'redis: [{{{HOST}, keys: ["$${{env:X}}"]}}]',
        ":1: redis[0].keys[0]: a '${' is not resolved here; %%env:NAME%% is a variable of the target",
    ),
    "a file of the agent": (
        f"redis:\n  - {HOST}\n    tls: true\n    ca_file: /etc/ssl/ca.pem",
        ":4: redis[0].ca_file: only the operator may name files of the agent's machine",
    ),
    "a socket of the agent's machine": (
        "redis: [{unix_socket_path: /run/containerd/containerd.sock}]",
        ":1: redis[0].unix_socket_path: only the operator may name files of the agent's machine",
    ),
    "a socket of the agent's machine in a URL": (
        'redis: [{url: "unix:///run/redis.sock"}]',
        ":1: redis[0]: reaches a host that is not the pod's own; "
        'write "%%host%%", or have it added to `hosts:` of agent.yaml',
    ),
    "a folder of sockets as host": (
        "postgres: [{host: /var/run/postgresql, username: u, password: p, sslmode: disable}]",
        ":1: postgres[0].host: reaches a host that is not the pod's own; "
        'write "%%host%%", or have it added to `hosts:` of agent.yaml',
    ),
    "a file in a DSN": (
        'postgres: [{dsn: "postgresql://u:p@%%host%%/db?sslmode=verify-full&sslrootcert=/etc/passwd"}]',
        ":1: postgres[0]: only the operator may name files of the agent's machine",
    ),
    "the agent's own password file": (
        f"postgres: [{{{HOST}, username: u, sslmode: disable}}]",
        ":1: postgres[0]: needs username and password: the agent's own are not for everybody",
    ),
    "the agent's own certificate": (
        f"postgres: [{{{HOST}, username: u, password: p}}]",
        ":1: postgres[0]: sslmode must be disable, verify-ca or verify-full: others use the agent's certificate",
    ),
    "another host": (
        "redis:\n  - {}\n  - host: 169.254.169.254",
        ":3: redis[1].host: reaches a host that is not the pod's own; "
        'write "%%host%%", or have it added to `hosts:` of agent.yaml',
    ),
    "another host as replica": (
        f'postgres: [{{{HOST}, username: u, password: p, sslmode: disable, '
        'replica: {dsn: "postgresql://u:p@10.9.9.9/db?sslmode=disable"}}]',
        ":1: postgres[0].host: reaches a host that is not the pod's own; "
        'write "%%host%%", or have it added to `hosts:` of agent.yaml',
    ),
    "hosts that servers name": (
        "redis: [{sentinel: {master: m, addresses: ['10.1.2.3:26379']}}]",
        ":1: redis[0]: only the operator may use `sentinel` and `cluster`, whose servers name other servers",
    ),
    "redirects": (
        'synthetic: [{url: "http://%%host%%/"}]',
        ":1: synthetic[0]: needs `follow_redirects: false`: an answer must not lead the agent elsewhere",
    ),
    "a proxy": (
        'synthetic: [{url: "http://%%host%%/", follow_redirects: false, proxy: "http://10.9.9.9:3128"}]',
        ":1: synthetic[0]: only the operator may set proxy",
    ),
    "more work for the agent": (
        'synthetic: [{url: "http://%%host%%/", follow_redirects: false, retry: 5, cleanup_timeout: 300s}]',
        ":1: synthetic[0]: only the operator may set cleanup_timeout, retry",
    ),
    "a flow": (
        'synthetic: [{base_url: "http://%%host%%", steps: [{name: a, request: GET /}]}]',
        ":1: synthetic[0]: only the operator may run flows of `steps`; give a `url`",
    ),
    "a URL that looks like the pod's": (
        'synthetic: [{url: "http://%%host%%.evil.example/", follow_redirects: false}]',
        ":1: synthetic[0]: reaches a host that is not the pod's own; "
        'write "%%host%%", or have it added to `hosts:` of agent.yaml',
    ),
    "a shorter interval": (
        f"redis:\n  - {HOST}\n    interval: 1ms",
        ":3: redis[0].interval: must be at least 10s, says `min_interval:` of agent.yaml",
    ),
    "a clock of its own": (
        f'redis: [{{{HOST}, schedule: "* * * * * *"}}]',
        ":1: redis[0].schedule: only the operator may set this option",
    ),
    "a long timeout": (f"redis: [{{{HOST}, timeout: 1d}}]", ":1: redis[0].timeout: must be at most 1m"),
    "a budget": (f"redis: [{{{HOST}, tag_limit: 100000}}]", ":1: redis[0]: only the operator may set tag_limit"),
    "nested budgets": (
        f'redis: [{{{HOST}, scan: {{by_prefix: ":", budget: 1000000, prefixes: 10000}}, slowlog: {{limit: 10000}}}}]',
        ":1: redis[0]: only the operator may set scan.budget, scan.prefixes, slowlog.limit",
    ),
    "a budget in a list": (
        f"postgres: [{{{HOST}, username: u, password: p, sslmode: disable, relations: [{{limit: 9}}]}}]",
        ":1: postgres[0]: only the operator may set relations.limit",
    ),
    "a long list": (
        f"redis: [{{{HOST}, streams: [{', '.join(f'k{n}' for n in range(51))}]}}]",
        ":1: redis[0].streams: must have at most 50 entries",
    ),
    "a process of its own": (f"redis: [{{{HOST}, isolate: true}}]", ":1: redis[0].isolate: only the operator may "
                             "set this option"),
    "where it runs": (f"redis: [{{{HOST}, run_on: leader}}]", ":1: redis[0].run_on: only the operator may set this "
                      "option"),
    "metrics under another name": (
        f"redis: [{{{HOST}, metrics: {{rename: {{redis.mem.used: health_check.overall}}}}}}]",
        ":1: redis[0].metrics.rename: only the operator may rename metrics",
    ),
    "tags of another pod": (
        f'redis:\n  - {HOST}\n    tags: ["team:x", "kube_namespace:kube-system"]',
        ":3: redis[0].tags[1]: the agent itself sets this tag",
    ),
    "tags of another instance, by a variable": (
        f'redis: [{{{HOST}, tags: ["%%env:TAG%%"]}}]', ":1: redis[0].tags[0]: the agent itself sets this tag",
    ),
    "tags of another instance, in a nested option": (
        f'redis: [{{{HOST}, counters: [{{metric: redis.mine, key: k, tags: ["a:b", "instance:other"]}}]}}]',
        ":1: redis[0].counters[0].tags[1]: the agent itself sets this tag",
    ),
    "a tag that is two": (
        f'redis: [{{{HOST}, tags: ["a:b,instance:evil"]}}]',
        ":1: redis[0].tags[0]: must not hold a comma, a '|' or an invisible character",
    ),
    "a tag that ends the line": (
        f'redis: [{{{HOST}, tags: ["x", "a:b\\ninstance:evil"]}}]',
        ":1: redis[0].tags[1]: must not hold a comma, a '|' or an invisible character",
    ),
    "a tag with an invisible character": (
        f'redis: [{{{HOST}, tags: ["\\u200binstance:x"]}}]',
        ":1: redis[0].tags[0]: must not hold a comma, a '|' or an invisible character",
    ),
    "a tag in other letters that look the same": (
        f'redis: [{{{HOST}, tags: ["\uff49nstance:x"]}}]', ":1: redis[0].tags[0]: the agent itself sets this tag",
    ),
    "a metric of another check": (
        f"redis: [{{{HOST}, counters: [{{metric: k8s.pods.running, key: k}}]}}]",
        ":1: redis[0]: names a metric that agent.yaml does not allow; see `metric_names:` of its `autodiscovery:`",
    ),
    "a query's tag that says where it comes from": (
        f"postgres: [{{{HOST}, username: u, password: p, sslmode: disable, queries: [{{name: q, sql: SELECT 1, "
        "columns: [{name: kube_namespace, type: tag}, {name: postgres.mine, type: gauge}]}]}]",
        ":1: postgres[0]: names a tag that the agent itself sets",
    ),
    "many tags": (
        f"redis: [{{{HOST}, tags: [{', '.join('abcdefghijklmnopqrstu')}]}}]",
        ":1: redis[0].tags: must have at most 20 entries",
    ),
    "a long tag": (
        f"redis: [{{{HOST}, tags: [{'x' * 201}]}}]", ":1: redis[0].tags[0]: must have at most 200 characters",
    ),
    "a metric of the agent's": (
        f"redis: [{{{HOST}, counters: [{{metric: health_check.overall, key: k}}]}}]",
        ":1: redis[0]: names a metric of the agent's own",
    ),
    "a name that could be another's": (
        f"redis: [{{{HOST}, name: ../x}}]",
        ":1: redis[0].name: must be letters, digits, '_', '.' and '-', since it follows the name of what was found",
    ),
    "an unknown option": (f"redis: [{{{HOST}, prot: 1}}]", ":1: redis[0].prot: unknown option; did you mean 'port'?"),
    "a wrong value": (f"redis: [{{{HOST}, port: 99999}}]", ":1: redis[0].port: must be at most 65535"),
    "an unknown variable": (
        'redis:\n  - host: "%%hots%%"',
        ":2: redis[0].host: an unknown variable; this pod has %%host%%, %%port_redis%%, %%env:TAG%%, "
        "%%env:BIG%%, %%env:HUGE%%",
    ),
    "an unknown port": (
        f'redis: [{{{HOST}, port: "%%port_http%%"}}]',
        ":1: redis[0].port: this pod has no such port; it has %%port_redis%%",
    ),
    "an unknown variable of the pod's environment": (
        f'redis: [{{{HOST}, password: "%%env:AGENTS_OWN%%"}}]',
        ":1: redis[0].password: this pod has no such environment variable with a value of its own; it has %%env:TAG%%, "
        "%%env:BIG%%, %%env:HUGE%%",
    ),
    "an unknown label": (
        f'redis: [{{{HOST}, tags: ["a:%%label:x%%"]}}]',
        ":1: redis[0].tags[0]: this pod has no such label; it has none",
    ),
    "half a variable": (
        f'redis: [{{{HOST}, keys: ["a%%b"]}}]',
        ":1: redis[0].keys[0]: a '%%' that begins no variable; write %%host%%, or %%%% for a literal %%",
    ),
    "too many instances": (
        "redis:\n" + f"  - {{{HOST}}}\n" * 11,
        ":12: redis[10]: asks for more than 10 instances; `max_instances:` of agent.yaml says how many",
    ),
    "variables that grow": (
        f"redis: [{{{HOST}, keys: [{BIG}]}}]",
        ":1: redis[0]: is larger than 64 KiB once its variables are filled in",
    ),
    "a variable that is large": (
        f'redis: [{{{HOST}, keys: ["%%env:HUGE%%"]}}]',
        ":1: redis[0].keys[0]: this environment variable with a value of its own is longer than 4 KiB",
    ),
    "too much text": (f"redis: [{{{HOST}, keys: [{'x' * 16384}]}}]", ": is larger than 16 KiB"),
    "a bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in ("ab", "bc", "cd", "de")
        ),
        ":4: holds more than 2,000 values once its aliases (*) are expanded",
    ),
    "no YAML": ("redis: [", ":1: a bracket is opened and never closed; if it is text, put quotes around it"),
    "a tag": ("redis: !!python/object:os.system [x]", ":1: redis: a tag (!) is not allowed here; if it is text, put "
              "quotes around it"),
    "two documents": ("redis: [{}]\n---\nredis: [{}]", ":2: a second document begins here ('---'); use one file for "
                      "each"),
    "a list": ("- redis", ':1: must be a mapping of checks; such as `redis: [{host: "%%host%%"}]`'),
    "no list of instances": ("redis: {host: x}", ":1: redis: must be a list of instances; begin each instance with "
                             "'- '"),
    "an instance that is text": ('redis: ["%%host%%"]', ':1: redis[0]: must be a mapping of options; such as {host: '
                                 '"%%host%%"}'),
    "a control character": ("redis: [{host: \x1b[2J}]", ":1: holds a control character; delete it"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_what_others_may_not_ask_for(agent: Configuration, case: str) -> None:
    asks, expected = BAD[case]
    environ = {"TAG": "instance:payments-primary", "BIG": "x" * 4096, "HUGE": "x" * 4097}
    target = pod(
        asks=asks,
        tags=("kube_namespace:payments",),
        containers=[Container("redis", "redis:7", {"redis": 6379}, environ)],
    )
    found = resolve(agent, target)
    errors = [str(one) for one in found.problems if one.severity == "error"]
    others = [line for line in errors if line != f"{WHO}{expected}"]
    assert f"{WHO}{expected}" in errors
    assert all("reaches a host" in line for line in others)  # `- {}` of the list is wrong too
    assert SECRET not in repr(found)
    good = 10 if case == "too many instances" else 0
    assert len(found.instances) == good


def test_what_is_wrong_with_one_instance_leaves_the_others(agent: Configuration) -> None:
    asks = f"redis:\n  - {{{HOST}}}\n  - {{{HOST}, ca_file: x}}\n  - {{{HOST}, db: 2}}\n"
    found = resolve(agent, pod(asks=asks))
    assert [one.id for one in found.instances] == ["redis/payments.api-7f9c", "redis/payments.api-7f9c:3"]
    assert len(found.problems) == 1


def test_metrics_that_agent_yaml_lists_may_be_named(tmp_path: Path) -> None:
    agent = files(tmp_path, AGENT.replace("allow:", "metric_names: ['shop.*'], allow:"))
    asks = "redis: [{%s, counters: [{metric: %s, key: k}]}]"
    found = resolve(agent, pod(asks=asks % (HOST, "shop.orders")), pod("odd", asks=asks % (HOST, "shopping.orders")))
    assert [one.id for one in found.instances] == ["redis/payments.api-7f9c"]
    assert [line.partition("]: ")[2] for line in lines(found)] == [
        "names a metric that agent.yaml does not allow; see `metric_names:` of its `autodiscovery:`"
    ]


def test_hosts_that_agent_yaml_lists_may_be_reached(tmp_path: Path) -> None:
    agent = files(tmp_path, AGENT.replace("allow:", "hosts: ['*.rds.example'], allow:"))
    asks = "redis: [{host: cache.RDS.example}, {host: rds.example.evil}]"
    found = resolve(agent, pod(asks=asks))
    assert [one.config.host for one in found.instances] == ["cache.RDS.example"]  # type: ignore[attr-defined]


def test_a_default_shorter_than_the_least_interval_becomes_that(tmp_path: Path) -> None:
    agent = files(tmp_path, AGENT.replace("allow:", "min_interval: 1m, allow:"))
    assert only(resolve(agent, pod(asks=REDIS))).config.interval == 60.0


def test_nothing_is_allowed_unless_agent_yaml_says_so(tmp_path: Path) -> None:
    agent = files(tmp_path, "autodiscovery: [{type: scouting}]\n")
    found = resolve(agent, pod(asks=REDIS))
    assert lines(found) == [f"{WHO}:1: redis: agent.yaml does not allow this check; it allows none"]


def test_allow_names_checks_that_say_what_they_reach(tmp_path: Path) -> None:
    agent = files(
        tmp_path, "autodiscovery:\n  - type: scouting\n    allow: [redis, host, alone, reddis]\n    alow: []\n"
    )
    conf = f"{agent.directory.as_posix()}/agent.yaml"
    hint = "a file of conf.d with `match:` runs it for the targets that you choose"
    assert [str(one) for one in agent.problems] == [
        f"{conf}:4: autodiscovery[0].alow: unknown option; did you mean 'allow'?"
    ]
    agent = files(tmp_path, "autodiscovery:\n  - type: scouting\n    allow: [redis, host, alone, reddis]\n")
    assert [str(one) for one in agent.problems] == [
        f"{conf}:3: autodiscovery[0].allow[1]: only the operator may configure this check; {hint}",
        f"{conf}:3: autodiscovery[0].allow[2]: only the operator may configure this check; {hint}",
        f"{conf}:3: autodiscovery[0].allow[3]: unknown check; did you mean 'redis'?",
    ]
    assert agent.fatal


def test_agent_yaml_says_what_is_wrong_with_a_discovery(tmp_path: Path) -> None:
    agent = files(tmp_path, "autodiscovery:\n  - {}\n  - {type: scoting}\n  - {type: scouting}\n"
                  "  - {type: scouting, name: scouting}\n  - text\n")  # fmt: skip
    conf = f"{agent.directory.as_posix()}/agent.yaml"
    assert [str(one) for one in agent.problems] == [
        f"{conf}:2: autodiscovery[0].type: is required; such as `type: k8s`",
        f"{conf}:3: autodiscovery[1].type: unknown discovery; did you mean 'scouting'?",
        f"{conf}:5: autodiscovery[3].name: the same name as autodiscovery[2]",
        f"{conf}:6: autodiscovery[4]: must be a mapping of options; such as {{type: k8s}}",
    ]
    agent = files(tmp_path, "autodiscovery: scouting\n")
    assert [str(one) for one in agent.problems] == [
        f"{conf}:1: autodiscovery: must be a list; begin each discovery with '- type: '"
    ]


# Templates

TEMPLATE = """defaults: {interval: 30s, match: {image: "redis:*", namespace: "*"}}
instances:
  - host: "%%host%%"
    port: "%%port%%"
    password: ${env:AGENTS_OWN}
"""


def test_a_template_makes_an_instance_for_each_container_that_fits(tmp_path: Path) -> None:
    agent = files(tmp_path, caches=f"check: redis\n{TEMPLATE}", host="instances: [{}]")
    assert agent.problems == ()
    assert [one.id for one in agent.instances] == ["host/host"]
    one = Container("one", "docker.io/library/redis:7.2@sha256:ab", {"redis": 6379}, tags=("kube_container_name:one",))
    two = Container("two", "redis:6", {"redis": 6380, "6381": 6380}, tags=("kube_container_name:two",))
    other = Container("web", "shop/web:1", {"http": 80})
    found = resolve(
        agent, pod(containers=[one, other]), pod("both", containers=[one, two]), pod("web", containers=[other])
    )
    assert lines(found) == []
    made = [(i.id, i.config.port, i.config.tags) for i in found.instances]  # type: ignore[attr-defined]
    assert made == [
        ("redis/payments.api-7f9c", 6379, ("kube_container_name:one",)),
        ("redis/payments.both:one", 6379, ("kube_container_name:one",)),
        ("redis/payments.both:two", 6380, ("kube_container_name:two",)),
    ]
    first: Any = found.instances[0]
    assert (first.file.rpartition("/")[2], first.line) == ("caches.yaml", 4)
    assert (first.config.password.reveal(), first.config.interval) == (SECRET, 30.0)
    assert first.origin == "pod payments/api-7f9c"


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("image: redis", True),
        ('image: "redis:7.*"', True),
        ("image: library/redis", True),
        ('image: ["nginx", "docker.io/library/redis:7.2"]', True),
        ('image: "redis:6*"', False),
        ("image: edis", False),
        ("labels: {app: api}", True),
        ('labels: {app: "a*", tier: "*"}', True),
        ("labels: {app: api, missing: x}", False),
        ("namespace: pay*", True),
        ("namespace: [web, kube-*]", False),
        ("image: redis, namespace: web", False),
        ("image: redis, discovery: scouting", True),
        ("image: redis, discovery: other", False),
    ],
)
def test_what_fits(tmp_path: Path, match: str, fits: bool) -> None:
    agent = files(tmp_path, redis=f'instances: [{{host: "%%host%%", match: {{{match}}}}}]')
    assert agent.problems == ()
    target = pod(containers=[Container("c", "docker.io/library/redis:7.2", {})], labels={"app": "api", "tier": "cache"})
    assert len(resolve(agent, target).instances) == fits


def test_the_spellings_of_an_image_with_a_registrys_port() -> None:
    assert set(spellings("reg:5000/team/redis:7@sha256:ab")) == {
        "reg:5000/team/redis:7@sha256:ab", "reg:5000/team/redis:7", "team/redis:7", "redis:7",
        "reg:5000/team/redis", "team/redis", "redis",
    }  # fmt: skip


def test_what_a_secret_holds_is_no_variable_and_what_a_pod_holds_no_reference(tmp_path: Path) -> None:
    text = 'instances: [{host: "%%host%%", keys: ["${env:TRAP}-%%env:ROLE%%"], match: {image: redis}}]'
    conf = files(tmp_path, redis=text).directory
    agent = load(conf, Registry(find), environ={"TRAP": "%%env:ROLE%%", "AGENTS_OWN": SECRET})
    container = Container("redis", "redis", {}, {"ROLE": "${env:AGENTS_OWN}"})
    config: Any = only(resolve(agent, pod(containers=[container]))).config
    assert config.keys == ("%%env:ROLE%%-${env:AGENTS_OWN}",)


def test_a_pod_that_asks_itself_gets_no_instance_of_a_template_of_that_check(tmp_path: Path) -> None:
    agent = files(tmp_path, redis=TEMPLATE, synthetic='instances: [{url: "http://%%host%%/", match: {image: redis}}]')
    found = resolve(agent, pod(asks=REDIS), pod("wrong", "redis: [{}]"))
    assert [(one.id, Path(one.file).name) for one in found.instances] == [
        ("redis/payments.api-7f9c", "checks"),
        ("synthetic/payments.api-7f9c", "synthetic.yaml"),
        ("redis/payments.wrong", "redis.yaml"),  # what it asks for is refused: the template stays
        ("synthetic/payments.wrong", "synthetic.yaml"),
    ]


def test_a_template_that_does_not_fit_a_pod_says_so_at_its_line(tmp_path: Path) -> None:
    agent = files(tmp_path, redis=TEMPLATE)
    several = pod(containers=[Container("redis", "redis", {"a": 1, "b": 2})])
    found = resolve(agent, several, pod("fine"))
    assert [one.id for one in found.instances] == ["redis/payments.fine"]
    assert lines(found) == [
        f"{agent.directory.as_posix()}/redis.yaml:4: instances[0].port: pod payments/api-7f9c: this pod has several "
        "ports; write %%port_a%%, %%port_b%%"
    ]


WRONG_TEMPLATES = {
    'instances: [{host: "%%hots%%", match: {image: redis}}]': (
        "instances[0].host: an unknown variable; there are %%host%%, %%port%%, %%port_NAME%%, %%env:NAME%%, "
        "%%label:NAME%%, %%zone%%"
    ),
    'instances: [{host: "%%host%%", match: redis}]': (
        'instances[0].match: must be a mapping of options; such as {image: "redis:*"}'
    ),
    'instances: [{host: "%%host%%", match: {}}]': "instances[0].match: needs image, labels or namespace",
    'instances: [{host: "%%host%%", match: {imag: x}}]': (
        "instances[0].match.imag: unknown option; did you mean 'image'?"
    ),
    'instances: [{host: "%%host%%", prot: "%%port%%", match: {image: x}}]': (
        "instances[0].prot: unknown option; did you mean 'port'?"
    ),
    'instances: [{name: "a b", host: "%%host%%", match: {image: x}}]': (
        "instances[0].name: must be letters, digits, '_', '.' and '-', since it follows the name of what was found"
    ),
    'instances: [{host: "%%host%%", interval: "-1s", match: {image: x}}]': (
        "instances[0].interval: must be a duration such as 500ms, 15s, 5m, 1h or 1d"
    ),
}


@pytest.mark.parametrize("text", list(WRONG_TEMPLATES))
def test_a_template_is_checked_before_anything_is_found(tmp_path: Path, text: str) -> None:
    agent = files(tmp_path, redis=text)
    (problem,) = map(str, agent.problems)
    assert problem.partition(":1: ")[2] == WRONG_TEMPLATES[text]
    assert agent.templates == ()


def test_values_that_are_not_known_yet_are_no_mistake(tmp_path: Path) -> None:
    text = 'instances: [{host: "%%host%%", port: "%%env:PORT%%", db: "%%label:db%%", match: {image: redis}}]'
    agent = files(tmp_path, redis=text)
    assert (agent.problems, len(agent.templates)) == ((), 1)
    container = Container("redis", "redis", {}, {"PORT": "7000"})
    found = resolve(agent, pod(containers=[container], labels={"db": "2"}), pod("none", labels={"db": "x"}))
    assert [(i.config.port, i.config.db) for i in found.instances] == [(7000, 2)]  # type: ignore[attr-defined]


def test_templates_without_a_discovery_are_warned_of(tmp_path: Path) -> None:
    agent = files(tmp_path, "sinks: [{type: console}]\n", redis=TEMPLATE)
    (problem,) = agent.problems
    assert (problem.severity, problem.message) == (
        "warning", "nothing is ever found for it: agent.yaml has no `autodiscovery:`"
    )  # fmt: skip


def test_two_templates_of_a_check_need_names_of_their_own(tmp_path: Path) -> None:
    one = 'instances: [{host: "%%host%%", match: {image: redis}}]'
    agent = files(tmp_path, redis=one, sessions=f"check: redis\n{one}")
    (problem,) = agent.problems
    assert re.search(r"sessions\.yaml:2: instances\[0\]: has the same name as the instance at .*redis\.yaml:1; "
                     r"give it a `name:`$", str(problem))  # fmt: skip
    (tmp_path / "conf.d" / "sessions.yaml").unlink()
    named = one.replace("{host", "{name: sessions, host")
    agent = files(tmp_path, redis=one, sessions=f"check: redis\n{named}")
    assert [i.id for i in resolve(agent, pod()).instances] == [
        "redis/payments.api-7f9c", "redis/payments.api-7f9c:sessions"
    ]  # fmt: skip


@pytest.mark.parametrize("password", ["${env:AGENTS_OWN}", "${aws-iam:}\n    username: u\n    tls: true"])
def test_a_secret_for_whatever_calls_itself_so_is_warned_of(tmp_path: Path, password: str) -> None:
    agent = files(tmp_path, redis=TEMPLATE.replace(', namespace: "*"', "").replace("${env:AGENTS_OWN}", password))
    (problem,) = agent.problems
    assert str(problem).partition("redis.yaml")[2] == (
        ":5: instances[0].password: warning: this secret is sent to whatever has such an image or label; "
        'add `namespace:` to `match:`; "*" is all of them'
    )
    assert len(agent.templates) == 1


def test_what_a_pod_says_of_itself_leads_no_url_to_another_host(tmp_path: Path) -> None:
    url = "redis://%%env:USER%%:${env:AGENTS_OWN}@%%host%%:%%port%%/%%env:DB%%"
    agent = files(tmp_path, redis=f'instances: [{{url: "{url}", match: {{image: redis, namespace: "*"}}}}]')
    assert agent.problems == ()
    environ = {"USER": "x@10.9.9.9/", "DB": "2"}
    config: Any = only(resolve(agent, pod(containers=[Container("r", "redis", {"r": 6379}, environ)]))).config
    assert config.url.reveal() == f"redis://x%4010.9.9.9%2F:{SECRET}@10.1.2.3:6379/2"
    address = config.address
    assert (address.host, address.username, address.db) == ("10.1.2.3", "x@10.9.9.9/", 2)


def test_a_name_that_is_too_long_ends_in_a_digest(agent: Configuration) -> None:
    found = resolve(agent, *(pod("x" * 250 + end, REDIS) for end in "ab"))
    names = [one.config.name for one in found.instances]
    assert [len(name) for name in names] == [200, 200]
    assert len(set(names)) == 2


# Many


def test_a_name_that_a_file_has_already_stays_with_the_file(tmp_path: Path) -> None:
    agent = files(tmp_path, redis="instances: [{name: payments.api-7f9c}]")
    found = resolve(agent, pod(asks=REDIS))
    assert found.instances == ()
    assert lines(found) == [
        f"{WHO}:2: pod payments/api-7f9c: redis/payments.api-7f9c is there already: "
        f"{agent.directory.as_posix()}/redis.yaml:1"
    ]


def test_only_what_changed_is_made_again(agent: Configuration) -> None:
    maker = Maker(Registry(find))
    targets = [pod(f"p{n}", REDIS) for n in range(500)]
    before = maker.make(agent, {"scouting": targets}).instances
    targets[7] = pod("p7", REDIS, host="10.9.9.9")
    after = maker.make(agent, {"scouting": targets}).instances
    assert len(before) == 500
    assert [n for n, (one, other) in enumerate(zip(before, after, strict=True)) if one is not other] == [7]
    assert before[7].content != after[7].content


def test_no_annotation_makes_vedettes_own_code_fail(agent: Configuration) -> None:
    dice = random.Random(7)
    texts = [text for text, _ in BAD.values() if len(text) < 400]
    pieces = [
        "%%",
        "%%port%%",
        "%%env:",
        "${",
        "&a ",
        "*a",
        "<<: ",
        "- ",
        "[",
        "{",
        "}",
        ": ",
        "\n",
        "\ud800",
        "\x00",
        "#",
        "1e999",
    ]
    wild = []
    for number in range(300):
        text = list(dice.choice(texts))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(text))
            text[at : at + dice.randint(0, 3)] = dice.choice(pieces)
        wild.append(pod(f"p{number}", "".join(text)))
    maker = Maker(Registry(find))
    told = [line for one in wild for line in lines(maker.make(agent, {"scouting": (one,)}))]
    assert len(told) > 200
    assert not [line for line in told if "own code fail" in line]


class Sly(dict[str, str]):
    """Labels that no API gives."""

    def __contains__(self, key: object) -> bool:
        raise RuntimeError


def test_a_fault_of_ours_at_one_target_leaves_the_others(tmp_path: Path) -> None:
    agent = files(tmp_path, redis='instances: [{host: "%%host%%", match: {labels: {app: x}}}]')
    found = resolve(agent, pod("odd", labels=Sly(a="b")), pod("fine", labels={"app": "x"}))
    assert [one.id for one in found.instances] == ["redis/payments.fine"]
    assert lines(found) == ["payments/odd: makes vedette's own code fail (RuntimeError)"]


def test_problems_of_many_do_not_flood(agent: Configuration) -> None:
    asks = "redis:\n" + "  - {x: 1, y: 2, z: 3, isolate: true}\n" * 9 + f"postgres: [{{{HOST}, {'a' * 9}: 1}}]\n" * 1
    wild = "".join(f"check{n}: [{{}}]\n" for n in range(100))
    found = resolve(agent, *(pod(f"p{n}", wild) for n in range(20)), pod("x", asks))
    assert found.wrong["scouting"] > 20 * MOST_PROBLEMS
    assert len(found.problems) == MOST_SHOWN + 1
    assert re.fullmatch(r"autodiscovery: \d+ more problems are not shown", str(found.problems[-1]))
