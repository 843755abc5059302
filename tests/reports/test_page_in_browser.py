"""The page in a real browser, opened from disk with the network cut off."""

import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.reports import page
from pipeline.reports.evaluation import evaluate
from pipeline.reports.sections import build_page
from pipeline.reports.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENS = {"desktop": (1280, 900), "phone": (390, 844), "small phone": (320, 640)}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
)


@pytest.fixture(scope="module")
def file(complete, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tuple(dataclasses.replace(run, seconds=np.full(6, 2.0)) for run in complete.runs)
    timed = dataclasses.replace(complete, runs=runs)
    path = tmp_path_factory.mktemp("reports") / "index.html"
    made = build_page(
        timed,
        evaluate(timed, Settings(resamples=50)),
        dataset="sample",
        rejects={"no_face": 2},
        provenance={"revision": "4f2c9d1", "embeddings/faces.parquet": "0123456789abcdef" * 4},
        params="seed: 1  # " + "a long comment " * 20,
    )
    page.write(made, path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


class Opened:
    """A page, with everything it complained of and everything it asked the network for."""

    def __init__(self, browser: Any, file: Path, screen: str = "desktop", **settings: Any) -> None:
        width, height = SCREENS[screen]
        phone = screen != "desktop"
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            offline=True,
            has_touch=phone,
            is_mobile=phone,
            **settings,
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        if settings.get("java_script_enabled", True):
            self.page.wait_for_selector("html[data-ready]", state="attached", timeout=90_000)

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture(scope="module")
def desktop(browser, file) -> Iterator[Opened]:
    """One opened page for the tests that leave it as it is."""
    with Opened(browser, file, color_scheme="light") as opened:
        yield opened


@pytest.mark.parametrize("screen", SCREENS)
def test_renders_every_figure_without_complaint_network_or_overflow(browser, file, screen):
    with Opened(browser, file, screen) as opened:
        assert opened.complaints == []
        outside = [url for url in opened.requests if not url.startswith(("data:", "blob:"))]
        assert outside == [file.as_uri()]
        drawn = opened.ask(
            """[...document.querySelectorAll(".chart")].map((chart) => ({
                name: chart.dataset.chart,
                marks: chart.querySelectorAll(".trace path").length,
                ink: [...chart.querySelectorAll(".trace path")].some((path) => path.getTotalLength() > 3),
                wide: chart.querySelector("svg.main-svg").getBoundingClientRect().width,
                words: chart.getAttribute("aria-label") ?? "",
            }))"""
        )
        assert len(drawn) == 11
        for figure in drawn:
            assert figure["marks"] >= 2, f"{figure['name']} is empty"
            assert figure["ink"], f"{figure['name']} has no line or point"
            assert 200 < figure["wide"] <= SCREENS[screen][0], figure["name"]
            assert len(figure["words"]) > 60, f"{figure['name']} has no description"
        assert opened.ask("document.documentElement.scrollWidth") <= SCREENS[screen][0]
        opened.ask("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        assert opened.ask("document.documentElement.scrollWidth") <= SCREENS[screen][0], (
            "with all tables open"
        )


def test_wide_tables_scroll_inside_their_own_box(browser, file):
    with Opened(browser, file, "phone") as opened:
        widths = opened.ask(
            "[...document.querySelectorAll('.scroll')]"
            ".map((box) => [box.scrollWidth, box.clientWidth, box.tabIndex])"
        )
        assert any(content > box for content, box, _ in widths), "no table is wide enough to test with"
        assert all(box <= 390 and tab == 0 for _, box, tab in widths)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_schemes(browser, file, scheme):
    with Opened(browser, file, color_scheme=scheme) as opened:
        faint = opened.ask(
            """(() => {
                const light = (colour) => {
                    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
                        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
                    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
                };
                const ground = (node) => {
                    for (let at = node; at; at = at.parentElement) {
                        const colour = getComputedStyle(at).backgroundColor;
                        if (!/rgba\\(.*, 0\\)/.test(colour)) return colour;
                    }
                    return "rgb(255, 255, 255)";
                };
                const found = [];
                const texts = "p, li, a, h1, h2, h3, th, td, dt, dd, span, summary";
                for (const node of document.querySelectorAll(texts)) {
                    if (!node.innerText?.trim()) continue;
                    const two = [light(getComputedStyle(node).color), light(ground(node))];
                    const contrast = (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
                    if (contrast < 4.5) found.push(node.outerHTML.slice(0, 90));
                }
                return found;
            })()"""
        )
        assert faint == [], "below 4.5:1 (WCAG 2.2, 1.4.3)"


def test_figures_follow_the_scheme_when_it_changes(browser, file):
    with Opened(browser, file, color_scheme="light") as opened:
        tick = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
        before = opened.ask(tick)
        opened.page.emulate_media(color_scheme="dark")
        deadline = time.monotonic() + 30
        while opened.ask(tick) == before:
            assert time.monotonic() < deadline, "the figures kept their colours"
            opened.page.wait_for_timeout(100)
        assert opened.complaints == []


def test_hovering_a_point_tells_its_model(desktop):
    chart = desktop.page.locator("[data-chart=contenders]")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".scatterlayer .point").first.bounding_box()
    desktop.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    told = chart.locator(".hoverlayer .hovertext")
    told.wait_for(timeout=10_000)
    assert "ridge regression" in told.text_content()


def test_no_button_sends_a_chart_away(desktop):
    buttons = desktop.ask(
        "[...document.querySelectorAll('.modebar-btn')].map((button) => button.dataset.title)"
    )
    assert set(buttons) == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


def test_a_long_table_sorts_by_number_with_dashes_last(desktop):
    table = "document.querySelector('#table-members').closest('.table').querySelector('table')"
    desktop.ask("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    heads = desktop.ask(f"[...{table}.tHead.rows[0].cells].map((head) => head.innerText.trim())")
    column = heads.index("test MAE")
    for order, turn in (("ascending", 1), ("descending", -1)):
        desktop.ask(f"{table}.tHead.rows[0].cells[{column}].querySelector('button').click()")
        assert desktop.ask(f"{table}.tHead.rows[0].cells[{column}].getAttribute('aria-sort')") == order
        texts = desktop.ask(
            f"[...{table}.tBodies[0].rows].map((row) => row.cells[{column}].innerText.trim())"
        )
        assert texts[-1] == "–", "the diverged member comes last"
        values = [float(text) * turn for text in texts[:-1]]
        assert len(values) == 23
        assert values == sorted(values)


def test_without_scripts_every_figure_is_still_a_picture(browser, file):
    with Opened(browser, file, java_script_enabled=False) as opened:
        sizes = [
            (picture.bounding_box()["width"], picture.get_attribute("alt"))
            for picture in opened.page.locator(".chart img").all()
        ]
        assert len(sizes) == 11
        assert all(width > 300 and alt for width, alt in sizes)
