"""Which requests go through which proxy."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vedette.kit import HttpOptions

API = "https://api.datadoghq.com/api/v2/series"
PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, API, None),
        ({"HTTPS_PROXY": PROXY}, API, PROXY),
        ({"https_proxy": "http://small", "HTTPS_PROXY": PROXY}, API, "http://small"),
        ({"HTTPS_PROXY": "proxy:3128"}, API, PROXY),
        ({"HTTP_PROXY": PROXY}, API, None),
        ({"HTTP_PROXY": PROXY}, "http://relay/", PROXY),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://relay/", None),
        ({"ALL_PROXY": PROXY}, API, PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, API, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "[::1]:8126"}, "https://[::1]:8126", None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "[::1]:8127"}, "https://[::1]:8126", PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "[::1]"}, "https://[::1]:8126", None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "::1"}, "https://[::1]:8126", None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a.b, datadoghq.com"}, API, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": ".datadoghq.com"}, API, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "*.datadoghq.com"}, API, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "API.datadoghq.com"}, API, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "hq.com,datadoghq.co,"}, API, PROXY),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "10.0.0.0/8"}, "https://10.1.2.3:8443/", None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "10.0.0.0/8"}, "https://11.1.2.3/", PROXY),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "10.0.0.0/8"}, API, PROXY),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "10.1.2.3:8443"}, "https://10.1.2.3:8443/", None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "10.1.2.3:8443"}, "https://10.1.2.3/", PROXY),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "::1"}, "https://[::1]:8443/", None),
    ],
)
def test_the_environment_says_which(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert HttpOptions().proxy_for(url, environ) == proxy


def test_options_go_before_the_environment() -> None:
    options = HttpOptions.model_validate({"proxy": "http://u:p@mine:1", "no_proxy": ["internal"]})
    assert options.proxy_for(API, {"HTTPS_PROXY": PROXY}) == "http://u:p@mine:1"
    assert options.proxy_for("https://relay.internal/", {"HTTPS_PROXY": PROXY}) is None
    assert options.proxy_for(API, {"NO_PROXY": "datadoghq.com"}) is None
    assert "http://u:p" not in repr(options)


@pytest.mark.parametrize("text", ["ftp://proxy", "http://", "http://proxy:port", "socks5://proxy:1080"])
def test_a_proxy_that_is_none(text: str) -> None:
    with pytest.raises(ValidationError, match="must be the URL of a proxy such as http://proxy:3128"):
        HttpOptions.model_validate({"proxy": text})
