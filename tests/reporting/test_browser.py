"""The report's page in a browser: made from the committed metrics, with the network off."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.metrics import report
from tests import browser
from tests.browser import Page

ROOT = Path(__file__).parents[2]
VISIBLE = "[...document.querySelectorAll('a, summary, .scroll')].filter(one => one.checkVisibility())"
NAME = "(one => one && (one.getAttribute('aria-label') || one.textContent))"
# Of every element with text of its own: the text, its colour (fill, in a drawing) and the nearest background that is not transparent.
COLOURS = """[...document.querySelectorAll('body *')].filter(one => one.checkVisibility() && [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())
  && !one.closest('title')).map(one => {
  const style = getComputedStyle(one);
  let behind = one;
  while (behind && getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  return [one.textContent.slice(0, 30), one.closest('svg') ? style.fill : style.color, getComputedStyle(behind || document.body).backgroundColor];
})"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    report.main(ROOT / "metrics", folder / "confusion.csv", folder / "report", folder / "headline.json")
    return (folder / "report/index.html").as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not browser.program():
        assert not os.environ.get("CI"), "no Chromium: install it, so that the page is tested here"
        pytest.skip("no Chromium on this machine, so the report's page is not looked at. Install it, for example with `apt install chromium`.")
    with browser.opened(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(tab: Page, address: str) -> Page:
    tab.size(1200)
    tab.scheme("light")
    tab.open(address)
    return tab


def luminance(colour: str) -> float:
    """Relative luminance by the Web Content Accessibility Guidelines 2.2."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(", ")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_nothing_but_the_page_itself_is_asked_for(page: Page, address: str) -> None:
    assert [request["request"]["url"] for request in page.seen("Network.requestWillBeSent")] == [address]
    assert page.seen("Log.entryAdded") == []
    assert page.run("document.querySelectorAll('svg').length") > 10


def test_a_page_that_asks_for_more_would_be_noticed(tab: Page, tmp_path: Path) -> None:
    (tmp_path / "asks.html").write_text('<img src="https://example.org/picture.png"><script>setTimeout(() => fetch("https://example.org/later"), 50)</script>')
    tab.open((tmp_path / "asks.html").as_uri())
    asked = {request["request"]["url"] for request in tab.seen("Network.requestWillBeSent")}
    assert {"https://example.org/picture.png", "https://example.org/later"} <= asked
    assert len(tab.seen("Network.loadingFailed")) == 2  # the network is off


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.size(width)
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") == width
    beyond = "[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll, .skip') && one.getBoundingClientRect().right > innerWidth + 1)"
    assert page.run(f"{beyond}.map(one => one.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page: Page, scheme: str) -> None:
    page.scheme(scheme)
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    found = page.run(COLOURS)
    assert len(found) > 100
    assert (luminance(found[0][2]) < 0.1) == (scheme == "dark")
    assert [text for text in found if contrast(text[1], text[2]) < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_drawings_stand_out(page: Page, scheme: str) -> None:
    page.scheme(scheme)
    panel = page.run("getComputedStyle(document.querySelector('figure')).backgroundColor")
    drawn = page.run("[...new Set([...document.querySelectorAll('svg .dot, svg .trail, svg .whisker')].map(one => getComputedStyle(one).color))]")
    assert len(drawn) >= 3
    assert [colour for colour in drawn if contrast(colour, panel) < 3] == []


def test_everything_is_reached_by_tab_in_order_and_shows_it(page: Page) -> None:
    expected, reached = page.run(f"{VISIBLE}.map({NAME})"), []
    for _ in expected:
        page.press("Tab")
        reached.append(page.run(f"{NAME}(document.activeElement)"))
        outline = page.run("(style => [style.outlineStyle, parseFloat(style.outlineWidth)])(getComputedStyle(document.activeElement))")
        assert outline[0] != "none", reached[-1]
        assert outline[1] >= 1, reached[-1]
    assert reached == expected


def test_the_content_can_be_skipped_to_and_a_table_unfolded_by_keys(page: Page) -> None:
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().left") >= 0  # seen once it has the focus
    page.press("Enter")
    assert page.run("location.hash") == "#content"
    page.press("Tab")
    assert page.run("document.querySelector('main').contains(document.activeElement)")
    folded = page.run("document.querySelectorAll('details[open]').length")
    page.run("document.querySelector('details:not([open]) summary').focus()")
    page.press("Space")
    assert page.run("document.querySelectorAll('details[open]').length") == folded + 1
    page.press("Enter")
    assert page.run("document.querySelectorAll('details[open]').length") == folded


def test_a_drawing_says_what_it_is(page: Page) -> None:
    assert page.run("[...document.querySelectorAll('svg:not([aria-hidden])')].every(one => one.getAttribute('role') === 'img' && one.getAttribute('aria-label'))")
    assert page.run("[...document.querySelectorAll('h1, h2, h3')].map(one => +one.tagName[1]).every((level, i, all) => i === 0 ? level === 1 : level <= all[i - 1] + 1)")
