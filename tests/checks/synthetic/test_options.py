"""What `validate` finds in a flow: every mistake at its place, no value repeated."""

# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vedette.config import load
from vedette.plugins import Registry
from vedette_checks.synthetic import SyntheticConfig

from .api import PaymentsApi, payment_flow


def problems(folder: Path, text: str) -> list[str]:
    """The lines that validate prints for this file."""
    (folder / "synthetic.yaml").write_text(text)
    found = load(folder, Registry(), environ={}, secrets="lazy", thorough=True).problems
    return [str(problem).removeprefix(f"{folder}/") for problem in found]


FLOW = """\
instances:
  - name: pay
    base_url: https://pay.example.com
    interval: 60s
    variables: {amount: "1.00"}
    headers: {X-Tenant: "{{ tennant }}"}
    show: [paymnt_id]
    timeout: 20s
    steps:
      - name: login
        request: POST /login
        json: {password: "${env:PW:-x}", amount: "{{ amont }}"}
        extract: {token: json.access_token, bad: "json.a[", amount: header.x, "a b": json.b}
      - name: balance
        request: GET balance
        headers: {Authorization: "Bearer {{ tokn }}"}
        expect: {json: {"currency.": USD}}
        when: token && blance > `0`
      - name: login
        request: POST http://pay.example.com/x
        extract: {token: "regex:(a)(b)"}
        expect: {certificate_days: 14}
        until: {json: {a: "{{ run_id }} {{ x y }}"}}
      - name: transaction
        request: FETCH /x
    cleanup:
      - {name: refund, request: "POST /refund/{{ token }}/{{ id }}"}
"""


def test_every_mistake_of_a_flow_at_its_line(tmp_path: Path) -> None:
    """All of them at once: no bad pattern hides an unknown variable elsewhere."""
    assert problems(tmp_path, FLOW) == [
        "synthetic.yaml:6: instances[0].headers.X-Tenant: uses tennant, which is not in `variables`",
        "synthetic.yaml:7: instances[0].show[0]: no step extracts paymnt_id",
        "synthetic.yaml:12: instances[0].steps[0].json.amount: uses amont, which no earlier step extracts; did you mean 'amount'?",
        "synthetic.yaml:13: instances[0].steps[0].extract.bad: is no valid JMESPath at character 3",
        "synthetic.yaml:13: instances[0].steps[0].extract.amount: `variables` sets amount already; choose another name",
        "synthetic.yaml:13: instances[0].steps[0].extract.?: a variable's name is letters, digits and _",
        "synthetic.yaml:15: instances[0].steps[1].request: must be a path that begins with /, or a URL that begins with http:// or https://",
        "synthetic.yaml:16: instances[0].steps[1].headers.Authorization: uses tokn, which no earlier step extracts; did you mean 'token'?",
        "synthetic.yaml:17: instances[0].steps[1].expect.json: a key is no valid JMESPath at character 10",
        "synthetic.yaml:18: instances[0].steps[1].when: uses blance, which no earlier step extracts",
        "synthetic.yaml:19: instances[0].steps[2].name: another step has this name",
        "synthetic.yaml:19: instances[0].steps[2]: `until` would repeat a request that may change something; if it does not, say `safe: true`",
        "synthetic.yaml:21: instances[0].steps[2].extract.token: has more than one group; write (?:…) for those that are not to be taken",
        "synthetic.yaml:21: instances[0].steps[2].extract.token: another step extracts token already; choose another name",
        "synthetic.yaml:22: instances[0].steps[2].expect.certificate_days: there is no certificate without https",
        "synthetic.yaml:23: instances[0].steps[2].until.json.a: has a `{{` that no variable's name and `}}` follow; write {{ name }}",
        "synthetic.yaml:24: instances[0].steps[3].name: has a meaning of its own in names of metrics; choose another",
        "synthetic.yaml:25: instances[0].steps[3].request: must be a method and an address, such as: GET /health",
        "synthetic.yaml:27: instances[0].cleanup[0].request: uses id, which no earlier step extracts",
    ]


def test_a_variable_in_a_pattern_is_warned_of(tmp_path: Path) -> None:
    text = """\
instances:
  - name: one
    url: https://h.example/x
    expect:
      regex: "run {{ run_id }}"
  - name: flow
    base_url: https://h.example
    interval: 60s
    timeout: 20s
    steps:
      - name: a
        request: GET /x
        expect: {regex: 'a{2} \\{\\{ y }}'}
        until:
          headers: {X: "{{ y }}"}
"""
    said = "has a {{ name }}, which is no variable in a pattern but stands for itself; compare with `json`, or write \\{\\{"
    assert problems(tmp_path, text) == [
        f"synthetic.yaml:5: instances[0].expect.regex: warning: {said}",
        f"synthetic.yaml:15: instances[1].steps[0].until.headers.X: warning: {said}",
    ]


URL = """\
instances:
  - name: one
    url: "{url}"
    headers: {{X: "{{{{ y }}}}"}}
    variables: {{path: health}}
    auth: {{bearer: "{{{{ tokn }}}}"}}
    expect:
      json: {{a: "{{{{ pth }}}}"}}
      certificate_days: 3
"""


def test_every_mistake_of_a_single_address_at_its_line(tmp_path: Path) -> None:
    assert problems(tmp_path, URL.format(url="http://h.example/{{ nope }}/{{ path }}")) == [
        "synthetic.yaml:3: instances[0].url: uses nope, which is not in `variables`",
        "synthetic.yaml:4: instances[0].headers.X: uses y, which is not in `variables`",
        "synthetic.yaml:6: instances[0].auth.bearer: uses tokn, which is not in `variables`",
        "synthetic.yaml:8: instances[0].expect.json.a: uses pth, which is not in `variables`; did you mean 'path'?",
        "synthetic.yaml:9: instances[0].expect.certificate_days: there is no certificate without https",
    ]
    assert problems(tmp_path, URL.format(url="http://h/a b")) == [
        "synthetic.yaml:3: instances[0].url: has a space in it; write %20"
    ]


def test_the_issues_own_file_is_valid_and_the_dangers_are_warned_of(tmp_path: Path) -> None:
    text = """\
instances:
  - name: a
    url: http://api.example/health
    verify: false
    timeout: 30s
    auth: {username: me, password: "${env:PW}"}
  - name: b
    base_url: https://pay.example.com
    steps:
      - {name: a, request: GET /a, until: {json: {x: 1}, within: 30s}}
"""
    assert problems(tmp_path, text) == [
        "synthetic.yaml:2: instances[0]: warning: verify is false: nobody knows whose server gets the requests",
        "synthetic.yaml:2: instances[0]: warning: secrets go over http://: whoever listens on the way can read them",
        "synthetic.yaml:2: instances[0]: warning: timeout is longer than interval: runs that take so long skip the next",
        "synthetic.yaml:6: instances[0].auth.password: warning: environment variable PW is not set; set it, or write "
        "${env:PW:-default}",
        "synthetic.yaml:7: instances[1]: warning: step a: `until` may wait longer than the whole flow may take; raise "
        "`timeout`",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs either `url` or `steps`"),
        ({"url": "https://x", "steps": [{"name": "a", "request": "GET /"}]}, "needs either `url` or `steps`"),
        ({"url": "https://x", "base_url": "https://y"}, "base_url go with `steps`, not with `url`"),
        ({"base_url": "https://y", "steps": [{"name": "a", "request": "GET /"}], "method": "GET"}, "method go with `url`"),
        ({"url": "ftp://x"}, "must begin with http:// or https:// and a host"),
        ({"url": "https://me:pw@x"}, "must not hold a password; use `auth`"),
        ({"url": "https://x/#a"}, "must end before # and ?"),
        ({"base_url": "https://x/?a=1", "steps": [{"name": "a", "request": "GET /"}]}, "must end before # and ?"),
        ({"url": "https://x", "method": "TRACE"}, "method must be GET, HEAD"),
        ({"url": "https://x", "key_file": "/k"}, "`key_file` needs `cert_file`"),
        ({"url": "https://x", "proxy": "socks5://x"}, "must look like http://user:password@host:port"),
        ({"url": "https://x", "auth": {"username": "a", "bearer": "b"}}, "needs either username"),
        ({"url": "https://x", "expect": {"status": 99}}, "a status is a number from 100 to 599"),
        ({"url": "https://x", "expect": {"status": "6xx"}}, "a family of statuses is written as 2xx"),
        ({"url": "https://x", "expect": {"regex": "(?=a)"}}, "RE2 has no look-around"),
        ({"url": "https://x", "headers": {"a b": "c"}}, "has a name that no header can have"),
        ({"url": "https://x", "variables": {"run_id": 1}}, "sets run_id, which every flow has by itself"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace("?", r"\?").replace("`", "`")):
        SyntheticConfig.model_validate(options)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"request": "GET"}, "must be a method and an address"),
        ({"request": "GET /a b"}, "has a space in its address"),
        ({"json": {"a": 1}, "form": {"b": 2}}, "has several bodies: json, form; keep one"),
        ({"until": {"every": "1s"}}, "needs what to wait for"),
        ({"name": "Log in"}, "must be a small letter"),
        ({"extract": {"x": "jsn.a"}}, r"extract.x\n +is no extraction; write json.<JMESPath>"),
        ({"extract": {"x": "header.a b"}}, r"extract.x\n +needs the name of a header"),
        ({"when": "foo(@)"}, "calls a function that JMESPath does not have"),
        ({"expect": {"headers": {"X": "("}}}, r"headers.X\n +is no valid pattern"),
    ],
)
def test_steps_that_do_not_fit(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SyntheticConfig.model_validate(
            {"base_url": "https://x", "steps": [{"name": "a", "request": "GET /a", **changes}]}
        )


def test_times_add_up() -> None:
    flow = SyntheticConfig.model_validate(payment_flow(PaymentsApi(), timeout="20s", cleanup_timeout="7s"))
    assert (flow.patience, flow.deadline, flow.grace) == (20.0, 35.0, 8.0)
    single = SyntheticConfig.model_validate({"url": "https://x", "interval": "30s"})
    assert (single.patience, single.deadline, single.grace) == (10.0, 11.0, 1.0)
