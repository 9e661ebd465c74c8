"""The pages for everybody: axe, telephones, paper, forced colours, languages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser

from tests.api.fixtures.bucket import AS_OF, NOON, STORES, Bucket, StoreSpec
from tests.api.fixtures.npm import npm_folder
from tests.api.fixtures.records import DAY, score_row, write_scores
from tests.api.fixtures.serving import Clock, RunningApi, serve

LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 3
MANY = 130
ITEMS = tuple(f"item {number:03}" for number in range(120))
PATHS = (
    "/", "/?q=market&order=name", "/?q=nothing", "/?only=problems", "/?page=2", "/?store_id=1",
    "/?store_id=3", "/?store_id=4", "/?store_id=5", "/?store_id=l", "/?store_id=l&item=01",
    "/?store_id=99", "/?store_id=e", "/problems", "/problems/too-old",
)  # fmt: skip


@pytest.fixture(scope="module")
def wide_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """A release that is one night too old, with many stores, many items and a long name."""
    folder = tmp_path_factory.mktemp("bucket")
    bucket = Bucket.make(folder)
    named = [
        StoreSpec(f"m{number:03}", description={"name": f"Market {number}", "region": "SL"})
        for number in range(MANY)
    ]
    long = StoreSpec("l", base=1_000_000, items=ITEMS, description={"name": LONG, "size": LONG})
    closed = StoreSpec("c", outcome="closed")
    compared = StoreSpec("e", base=23_456, last_week=23_987.0, special="holiday")
    bucket.publish((*STORES, *named, long, closed, compared))
    scores = {}
    for back in range(28):
        day = AS_OF - back * DAY
        rows = [score_row(store, day, 1, 104.0, 100.0) for store in ("1", "l")]
        scores[day] = write_scores(bucket, day, rows)
    bucket.change(accuracy=scores, unit="pieces")
    with serve(str(folder), clock=Clock(NOON + timedelta(days=1))) as api:
        yield api


@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(wide_api, browser: Browser, width, scheme):
    axe = (npm_folder() / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    # The page lets no script run. The check is one.
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    page = context.new_page()
    for path in PATHS:
        page.goto(f"{wide_api.url}{path}")
        page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true })")
        page.evaluate(axe)
        found_by_axe = page.evaluate("axe.run()")
        violations = [
            (entry["id"], [node["html"][:200] for node in entry["nodes"]])
            for entry in found_by_axe["violations"]
        ]
        assert violations == [], (path, json.dumps(violations, indent=1))
    context.close()


def test_on_a_telephone_nothing_is_clipped_and_everything_can_be_touched(wide_api, browser):
    page = browser.new_page(viewport={"width": 360, "height": 740}, has_touch=True, locale="de-DE")
    for path in PATHS:
        page.goto(f"{wide_api.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        scrolling = "e => e.scrollWidth > e.clientWidth"
        days = page.locator(".wide:has(.days)")
        assert not days.count() or not days.evaluate(scrolling), path
        small = page.evaluate(
            """() => [...document.querySelectorAll('a,button,input,select,summary')]
                 .filter(e => e.type !== 'hidden' && !e.classList.contains('skip'))
                 .filter(e => !e.closest('p:not([role]) code'))
                 .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
                 .filter(([, r]) => r.width > 0 && (r.height < 44 || r.width < 44))
                 .map(([html, r]) => `${html} ${r.width} ${r.height}`)"""
        )
        assert small == [], path
        clipped = page.evaluate(
            """() => [...document.querySelectorAll('svg.plot')].filter(e => e.clientWidth)
                 .flatMap(svg => [...svg.querySelectorAll('text')].filter(text => {
                   const inner = text.getBoundingClientRect(), outer = svg.getBoundingClientRect();
                   return inner.left < outer.left - 1 || inner.right > outer.right + 1;
                 }).map(text => text.textContent))"""
        )
        assert clipped == [], path


def test_on_paper_staleness_comes_first_and_the_legend_stays(wide_api, browser):
    page = browser.new_page(viewport={"width": 700, "height": 900})
    page.emulate_media(media="print")
    page.goto(f"{wide_api.url}/?store_id=1")
    state = page.locator(".state-text")
    assert "Not up to date" in state.inner_text()
    assert state.bounding_box()["y"] < page.locator("table").first.bounding_box()["y"]
    assert page.locator("figcaption .key").first.bounding_box()["width"] > 20
    assert page.get_by_role("table").nth(1).is_visible(), "the past days are printed"
    assert not page.locator("header form").is_visible()


@pytest.mark.parametrize(("media", "width"), [("print", 718), ("screen", 768)])
def test_a_list_shows_every_day_on_a_tablet_and_on_paper(wide_api, browser, media, width):
    page = browser.new_page(viewport={"width": width, "height": 1000}, locale="de-DE")
    page.emulate_media(media=media)
    page.goto(f"{wide_api.url}/?q=market")
    cells = page.locator("thead th")
    assert cells.count() == 8
    assert cells.nth(2).inner_text().startswith("Di.")
    box = cells.last.bounding_box()
    assert box["x"] + box["width"] <= width
    page.close()


def test_forced_colours_keep_lines_and_legend(wide_api, browser):
    page = browser.new_page(forced_colors="active", viewport={"width": 1100, "height": 900})
    page.goto(f"{wide_api.url}/?store_id=1")
    for drawn in (".wide-plot .forecast", "figcaption .forecast"):
        stroke = page.locator(drawn).first.evaluate("e => getComputedStyle(e).stroke")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert stroke not in ("none", paper)


def test_staleness_is_seen_first(wide_api, browser):
    for width in (360, 1100):
        page = browser.new_page(viewport={"width": width, "height": 740})
        page.goto(f"{wide_api.url}/")
        banner = page.locator(".banner").first
        assert "Not up to date: these forecasts were made" in banner.inner_text()
        assert banner.bounding_box()["y"] < 400
        first = page.locator("tbody tr").first
        assert "Not up to date" in first.locator("th .state").inner_text()


def test_pages_are_remembered(wide_api, browser):
    page = browser.new_page(locale="en-GB")
    page.goto(f"{wide_api.url}/")
    page.get_by_label("Search stores").fill("market")
    page.get_by_label("Search stores").press("Enter")
    page.get_by_label("Order").select_option("name")
    page.locator("form.filters button").click()
    page.get_by_role("link", name="More").click()
    assert "51 to 100 of 130 stores" in page.locator("main").inner_text()
    listed = page.url
    page.get_by_role("rowheader").first.get_by_role("link").click()
    page.get_by_role("link", name="Back to the stores").click()
    assert page.url == listed
    assert page.get_by_label("Search stores").input_value() == "market"


def test_items_are_paged_searched_and_counted(wide_api, browser):
    page = browser.new_page(locale="en-GB")
    page.goto(f"{wide_api.url}/?store_id=l&q=market")
    assert "1 to 50 of 120 items." in page.locator("main").inner_text()
    page.get_by_role("navigation", name="By item").get_by_role("link", name="More").click()
    assert "51 to 100 of 120 items." in page.locator("main").inner_text()
    page.get_by_label("Search items").fill("ITEM 01")
    page.get_by_label("Search items").press("Enter")
    assert "1 to 10 of 10 that match, of 120 items." in page.locator("main").inner_text()
    file = page.get_by_role("link", name="All items as a file").get_attribute("href")
    assert wide_api.get(str(file)).text.count("\r\nitem,l,") == 120 * 6
    page.get_by_role("link", name="Back to the stores").click()
    assert page.url.endswith("/?q=market")


def test_how_far_last_weeks_forecast_of_an_item_was_off(tmp_path):
    bucket = Bucket.make(tmp_path)
    earlier = AS_OF - 7 * DAY
    spec = StoreSpec("1", base=100, items=("a", "b"), as_of=earlier, data_through=earlier)
    bucket.publish([spec], as_of=earlier)
    bucket.publish([StoreSpec("1", items=("a", "b", "c"), last_week=100.0)])
    with serve(str(tmp_path)) as api:
        page = api.get("/?store_id=1").text
        # Item a was forecast as 101 … 107 and item b as 111 … 117. 100 were sold each day.
        assert page.count("off last week") == 1
        cells = re.findall(r'<th scope="row">(\w)</th>.*<td class="number">([^<]*)</td></tr>', page)
        assert cells == [("a", "4 %"), ("b", "14 %"), ("c", "–")]
        bucket.change(bad=(f"{earlier}-a",))
        api.refresh()
        assert "off last week" not in api.get("/?store_id=1").text
