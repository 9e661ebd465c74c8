"""The page for managers: as HTML, and in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from tests.api.fixtures.bucket import AS_OF, STORES, Bucket, StoreSpec
from tests.api.fixtures.records import DAY, score_row, write_scores
from tests.api.fixtures.serving import RunningApi, serve
from tests.api.fixtures.tokens import PROXY, key_set, proxy_token, serve_keys, write_grants


@pytest.fixture(scope="module")
def page_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("bucket")
    bucket = Bucket.make(folder)
    closed = StoreSpec("w", reason_code="closed_weekday", reason="no sales on Mondays for 9 weeks")
    bucket.publish((*STORES, StoreSpec("x", items=("<b>", "ä & b")), closed))
    scores = {}
    for back in range(28):
        day = AS_OF - back * DAY
        actual = 100.0 + 5 * (back % 7)
        scores[day] = write_scores(bucket, day, [score_row("1", day, 1, actual + 4, actual)])
    bucket.change(accuracy=scores)
    with serve(str(folder)) as api:
        yield api


class _BalanceChecker(HTMLParser):
    """Fails unless every element is closed."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert isinstance(attrs, list)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """An element that closes itself changes nothing."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("store", ["", *"123456wx"])
def test_every_page_is_well_formed(page_api, store):
    answer = page_api.get("/", params={"store_id": store})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    parser = _BalanceChecker()
    parser.feed(answer.text)
    assert parser.open == []
    assert "http://" not in answer.text
    assert "https://" not in answer.text


def test_the_sentences_of_a_store(page_api):
    page = page_api.get("/?store_id=1").text
    assert "Up to date." in page
    assert "Monday 23 Nov<" in page
    assert "Not delivered for some of these days: promo, weather." in page
    # Every error is 4. The sales of four weeks are 4 × (100 + … + 130).
    assert "<strong>±3 %</strong>, better than last week's number (±30 %) on 28 of 28." in page
    carried = page_api.get("/?store_id=3").text
    assert "Not up to date: it was made from sales through Friday 20 November 2026" in carried
    assert "row 7 has no date" in carried
    assert "No forecast any more: the last one ended with Friday 20 November" in (
        page_api.get("/?store_id=4").text
    )
    assert "No forecast: nothing was ever delivered" in page_api.get("/?store_id=5").text
    assert "Taken for closed: no sales on Mondays for 9 weeks." in (
        page_api.get("/?store_id=w").text
    )
    assert "Taken for closed" not in carried


def test_delivered_texts_are_escaped(page_api):
    page = page_api.get("/?store_id=x").text
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    unknown = page_api.get("/", params={"store_id": "<script>"})
    assert unknown.status_code == 404
    assert "<script>" not in unknown.text


def test_a_caller_sees_only_the_granted_stores(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1"), StoreSpec("2"), StoreSpec("3")])
    write_grants(
        bucket.storage, {"issuer": PROXY, "email": "ida@example.com", "stores": ["1", "3"]}
    )
    with (
        serve_keys(key_set(ec_names=("p1",))) as key_server,
        serve(str(tmp_path), issuers=(key_server.proxy(),)) as api,
    ):
        headers = {"X-Goog-IAP-JWT-Assertion": proxy_token("7", email="ida@example.com")}
        page = api.get("/", headers=headers).text
        assert "store_id=1" in page
        assert "store_id=3" in page
        assert "store_id=2" not in page
        assert api.get("/?store_id=2", headers=headers).status_code == 403
        assert api.get("/").status_code == 401


def test_in_a_browser(page_api, browser):
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(f"{page_api.url}/")
    assert page.get_by_role("heading", level=1).inner_text() == "Your stores"
    page.get_by_role("link", name="1", exact=True).click()
    assert page.get_by_role("heading", level=1).inner_text() == "Store 1"
    assert page.get_by_role("img", name="Forecast and sales by day").is_visible()
    table = page.get_by_role("table", name="Expected sales of the store")
    assert table.get_by_role("rowheader").count() == 7
    assert page.locator("polygon.band").first.bounding_box()["width"] > 300
    assert console == []
    assert hosts == {f"127.0.0.1:{page_api.port}"}


def test_with_the_keyboard_only(page_api, browser):
    page = browser.new_page()
    page.goto(f"{page_api.url}/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the forecast"
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?store_id=2")
    assert page.get_by_role("heading", level=1).inner_text() == "Store 2"
    assert page.get_by_role("table", name="Expected sales by item and day").is_visible()


def test_on_a_phone(page_api, browser):
    page = browser.new_page(viewport={"width": 360, "height": 740})
    for path in ("/", "/?store_id=1", "/?store_id=2", "/?store_id=99"):
        page.goto(f"{page_api.url}{path}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, path


def test_a_screen_reader_gets_names_and_roles(page_api, browser):
    """Every control and figure has a name, and each page has one heading and one main part."""
    page = browser.new_page()
    for path in ("/", "/?store_id=1", "/?store_id=2", "/?store_id=99"):
        page.goto(f"{page_api.url}{path}")
        assert page.locator("main").count() == 1
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("h1").count() == 1
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll(
                'a,button,input:not([type=hidden]),select,svg,table,[role=region]')].filter(
                e => !(e.textContent.trim() || e.labels?.length || e.ariaLabel
                       || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"""
        )
        assert unnamed == []
        assert page.evaluate(
            """() => [...document.querySelectorAll('[aria-labelledby]')].every(
                e => e.getAttribute('aria-labelledby').split(' ').every(
                    id => document.getElementById(id)))"""
        )
        assert page.evaluate("[...document.querySelectorAll('th')].every(e => e.scope)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page_api, browser, scheme):
    """WCAG 2.2, 1.4.3: 4.5 to 1 between a text and the nearest background behind it."""
    page = browser.new_page(color_scheme=scheme)
    for path in ("/", "/?store_id=1", "/?store_id=3"):
        page.goto(f"{page_api.url}{path}")
        low = page.evaluate(
            """() => {
              const parse = c => c.match(/[\\d.]+/g).map(Number);
              const lum = ([r, g, b]) => [r, g, b].map(v => v / 255).map(
                v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
              const behind = e => {
                for (; e; e = e.parentElement) {
                  const c = parse(getComputedStyle(e).backgroundColor);
                  if (c.length < 4 || c[3] > 0) return c;
                }
                return [255, 255, 255];
              };
              return [...document.querySelectorAll('p,td,th,a,label,h1,h2,caption,summary,.date')]
                .filter(e => e.textContent.trim()).map(e => {
                  const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
                  return [e.textContent.trim().slice(0, 40),
                          (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
                }).filter(([, ratio]) => ratio < 4.5);
            }"""
        )
        assert low == [], path
