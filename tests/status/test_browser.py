"""The page in Debian's Chromium: what a person sees, by keyboard alone, in light and dark, and what no page may do.

To take the pictures in docs/ anew: VEDETTE_PICTURES=docs pytest tests/status/test_browser.py -k pictures
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import free_port
from status.parts import NOW, Actor, Served, batch, failing, served, vitals, wave
from status.test_page import HOSTILE
from vedette.errors import Problem
from vedette.report import SinkVitals
from vedette.runner import State

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists() or os.geteuid() != 0,
    reason="THE STATUS PAGE IS NOT LOOKED AT: it needs root and Debian's chromium (apt-get install chromium)",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield browser
        browser.close()


class Tab:
    """A page of the browser that notes errors, requests to other hosts and dialogs."""

    def __init__(self, chromium: Any, served: Served, **options: Any) -> None:
        self.context = chromium.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append("a dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: request.url.startswith(served.url) or self.wrong.append(request.url))
        self.url = served.url

    def open(self, path: str = "/") -> Any:
        self.page.goto(f"{self.url}{path}", wait_until="load")
        self.page.wait_for_selector("#live:text-is('live')")  # a function would be evaluated, which the policy forbids
        return self.page


@pytest.fixture
def tab(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    tabs: list[Tab] = []

    def make(served: Served, **options: Any) -> Tab:
        tabs.append(Tab(chromium, served, **options))
        return tabs[-1]

    yield make
    for each in tabs:
        each.context.close()
        assert each.wrong == []


def shop() -> Actor:
    """What the pictures show: a shop whose payments database does not let the agent in."""
    refused = {
        "message": 'pg_hba.conf rejects user "vedette" for database "payments" (10.2.0.14)',
        "hint": "add to pg_hba.conf: hostssl payments vedette 10.2.0.0/16 scram-sha-256",
        "file": "conf.d/postgres.yaml",
        "line": 12,
        "failures": 40,
        "runs": 40,
    }
    late = {"message": "replication is 74 s behind", "since": NOW - 125}
    return Actor(
        failing("postgres/payments", **refused),
        vitals("postgres/shop-primary", runs=1204),
        vitals("postgres/shop-replica", State.WARNING, **late),
        vitals("redis/cache", duration=0.00091, runs=3611, file="conf.d/redis.yaml", line=3),
        vitals("redis/dashboard", duration=0.00072, runs=3609),
        vitals("business_sql/hourly-summary", duration=0.0152, runs=12),
        vitals("synthetic/payment-flow", State.CRITICAL, message="verify: 502 from /payments/verify", duration=1.31),
        vitals("synthetic/partner-bank", State.FAILING, message="timed out after 5s", muted_until=NOW + 3000),
        vitals("host/host", duration=0.0021, runs=720),
        sinks=(
            SinkVitals("dogstatsd", 1_204_332, 0, 0, 0, ""),
            SinkVitals("prometheus", 1_204_332, 0, 0, 0, ""),
            SinkVitals("audit", 88_201, 1_920, 14, 10_000, "/var/log/audit.jsonl: no space left on device"),
        ),
        problems=(Problem("conf.d/redis.yaml", 17, "instances[2].prot", "unknown option", "did you mean 'port'?"),),
    )


REDIS = (
    "redis.mem.used",
    "redis.clients.blocked",
    "redis.net.clients",
    "redis.keys",
    "redis.stats.hits",
    "redis.cpu.sys",
)


def remember(page: Served, name: str = "redis/cache") -> None:
    for number in range(60):
        samples = [wave(metric, number, phase, redis_port="6379") for phase, metric in enumerate(REDIS)]
        took = 0.9 + 0.3 * (number % 7 == 0) + number / 200
        page.remember(batch(name, NOW + number, *(samples if number not in (30, 31) else ()), took=took))


def in_view(page: Any, text: str) -> bool:
    box = page.get_by_text(text, exact=True).first.bounding_box()
    return bool(box) and box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


def test_the_first_screen_names_the_failing_instance_since_when_the_error_and_the_hint(tab: Any) -> None:
    many = [vitals(f"redis/r{number}") for number in range(200)]
    with served(Actor(*many, failing("redis/cache"))) as page:
        shown = tab(page).open()
        since = shown.locator("#wrong .since").inner_text()
        assert since.startswith("since ")
        for text in ("redis/cache", since, "nothing listens on 10.0.0.5:6379", "is the server running?"):
            assert in_view(shown, text), text
        assert shown.title() == "1 of 201 instances failing – vedette"


def test_what_happens_shows_without_a_reload(tab: Any) -> None:
    one, other = vitals("redis/a"), vitals("redis/b")
    actor = Actor(one, other)
    with served(actor) as page:
        shown = tab(page).open()
        assert shown.locator("h1").inner_text() == "All is well: 2 instances"
        shown.evaluate("window.kept = true")
        other.state, other.message, other.hint, other.runs = State.FAILING, "refused", "ask the DBA", 43
        shown.wait_for_selector("#wrong >> text=ask the DBA")
        assert shown.locator("h1").inner_text() == "1 of 2 instances failing"
        assert shown.locator("#rows tr").nth(1).get_attribute("class") == "failing"
        actor.instances.append(vitals("redis/c"))
        shown.wait_for_selector("#rows >> text=redis/c")
        assert shown.evaluate("window.kept")


def test_an_instance_page_follows_its_runs(tab: Any) -> None:
    one = vitals("redis/cache")
    with served(Actor(vitals("host/host"), one)) as page:
        remember(page)
        shown = tab(page).open("/instance/redis/cache")
        assert shown.locator("svg.spark").count() == len(REDIS) + 1
        shown.evaluate("window.kept = true")
        one.runs = 4711
        shown.wait_for_selector("dd >> text=4,711")
        assert shown.evaluate("window.kept")


def test_an_agent_that_goes_away_and_comes_back(tab: Any) -> None:
    listen = f"127.0.0.1:{free_port()}"
    first = Served(Actor(vitals("redis/a")), listen=listen)
    first.start()
    watched = tab(first)
    shown = watched.open()
    first.stop()
    shown.wait_for_selector("#live >> text=not live")
    watched.wrong.clear()  # the browser says that it could not connect
    with served(Actor(vitals("redis/a"), vitals("redis/new")), listen=listen):
        shown.wait_for_selector("#rows >> text=redis/new", timeout=30_000)
        shown.wait_for_selector("#live:text-is('live')")
        watched.wrong.clear()
        shown.goto("about:blank")


def test_the_keyboard_is_enough(tab: Any) -> None:
    with served(shop()) as page:
        shown = tab(page).open()
        press = shown.keyboard.press
        focused = "document.activeElement.textContent.trim()"
        press("Tab")
        assert shown.evaluate(focused) == "Skip to the content"
        press("Enter")
        assert shown.evaluate("document.activeElement.id") == "main"
        press("Tab")
        assert shown.evaluate(focused) == "postgres/payments"
        assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        press("/")
        shown.keyboard.type("synth flow")
        assert shown.locator("#rows tr:visible").count() == 1
        press("Escape")
        assert shown.locator("#rows tr:visible").count() == 9
        shown.keyboard.type("dashb")
        press("Tab")  # the table's own scrolling
        press("Tab")
        assert shown.evaluate(focused) == "redis/dashboard"
        press("Enter")
        shown.wait_for_url("**/instance/redis/dashboard")
        assert shown.locator("h1").inner_text().startswith("redis/dashboard")


def test_news_do_not_take_the_focus_away(tab: Any) -> None:
    actor = shop()
    with served(actor) as page:
        shown = tab(page).open()
        shown.locator("#wrong a").first.focus()
        actor.instances[0].message, actor.instances[0].runs = "another error", 41
        shown.wait_for_selector("#wrong >> text=another error")
        assert shown.evaluate("document.activeElement.textContent") == "postgres/payments"


def test_hostile_names_tags_and_errors_do_nothing(tab: Any) -> None:
    bad = failing(f"redis/{HOSTILE}", message=HOSTILE, hint=HOSTILE, file=HOSTILE)
    sink = SinkVitals(HOSTILE, 0, 0, 0, 0, HOSTILE)
    actor = Actor(bad, sinks=(sink,), problems=(Problem(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE),))
    with served(actor) as page:
        page.remember(batch(bad.instance, NOW, wave(HOSTILE, 1, tag=HOSTILE)))
        watched = tab(page)
        shown = watched.open()
        bad.message, bad.runs = f"again {HOSTILE}", 43
        shown.wait_for_selector("#rows >> text=again")
        shown.wait_for_selector("#wrong >> text=again")
        assert shown.locator("#wrong .error").inner_text() == f"again {HOSTILE}"
        shown.locator("#rows a").click()
        shown.wait_for_selector("figure >> text=tag:")
        assert shown.locator("figure h3").inner_text() == HOSTILE
        assert shown.title() != "taken"
        assert shown.locator("img, main script").count() == 0


def test_no_script_but_the_agents_own_runs(tab: Any) -> None:
    with served(shop()) as page:
        watched = tab(page)
        shown = watched.open()
        shown.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.bad = 1'}))"
        )
        assert shown.evaluate("window.bad") is None
        assert "Content Security Policy" in watched.wrong.pop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/instance/redis/cache", "/instance/postgres/payments", "/instance/nope"])
def test_axe_finds_nothing(tab: Any, scheme: str, path: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with served(shop()) as page:
        remember(page)
        watched = tab(page, color_scheme=scheme, bypass_csp=True)  # axe is injected, which the policy rightly forbids
        shown = watched.open(path)
        found = Axe().run(shown).response["violations"]
        watched.wrong = [text for text in watched.wrong if "404" not in text]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_pictures_in_light_and_dark(tab: Any, tmp_path: Path) -> None:
    folder = Path(os.environ.get("VEDETTE_PICTURES", tmp_path))
    with served(shop()) as page:
        remember(page)
        for path, name in (("/", "status"), ("/instance/redis/cache", "instance")):
            for scheme in ("light", "dark"):
                shown = tab(page, color_scheme=scheme, viewport={"width": 1120, "height": 900}).open(path)
                shown.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)
                ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
                assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 21, 28)"}[scheme]


def test_a_narrow_screen_needs_no_scrolling_sideways(tab: Any) -> None:
    with served(shop()) as page:
        remember(page)
        for path in ("/", "/instance/redis/cache"):
            shown = tab(page, viewport={"width": 360, "height": 700}).open(path)
            assert shown.evaluate("document.documentElement.scrollWidth") <= 360
