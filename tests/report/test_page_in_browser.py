"""The page in a real browser, opened from disk with the network cut off."""

import dataclasses
import importlib.util
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.networks import results as networks_results
from pipeline.evaluation.numbers import evaluate
from pipeline.evaluation.results import Run
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.stated_uncertainty import measure
from pipeline.report import (
    augmentation_tables,
    classification_section,
    explained,
    gallery,
    page,
    study_section,
)
from pipeline.report.charts import Chart
from pipeline.report.classification_tables import read_classifiers
from pipeline.report.networks import figures as networks_figures
from pipeline.report.networks.section import section as networks_section
from pipeline.report.page import Page, Section
from pipeline.report.sections import build_page
from pipeline.report.study_section import StudyResults
from pipeline.report.uncertainty_page import uncertainty_sections

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


def beside(name: str) -> ModuleType:
    """Another file of tests in this folder, for what it makes its inputs with."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_study() -> StudyResults:
    trials = pd.DataFrame(
        {
            "trial": range(6),
            "end": ["complete"] * 5 + ["pruned"],
            "value": [3.0, 2.5, 2.2, 2.8, 2.4, np.nan],
            "epochs": 9,
            "lr": np.logspace(-4, -2, 6),
            "batch_size": [32, 64, 32, 64, 32, 64],
        }
    )
    members = pd.DataFrame({"policy": "study", "member": range(6), "seed": [11, 22, 33, 44, 55, 66]})
    errors = {name: np.linspace(1.5, 2.5, 6) for name in ("mae", "val_mae", "test_mae")}
    return StudyResults(
        trials,
        pd.DataFrame({"trial": [5, 5], "epoch": [1, 2], "value": [9.0, 8.0]}),
        pd.DataFrame({"setting": ["lr", "batch_size"], "importance": [0.8, 0.2]}),
        members.assign(lr=0.003, diverged=False, **errors),
        {"lr": "log", "batch_size": "category"},
        "adam",
    )


def more_sections(runs: Sequence[Run], settings: Settings, folder: Path) -> list[Section]:
    """One of each kind that other parts of the project add to a page."""
    networks, classifiers, uncertain = map(
        beside, ("test_networks", "test_classification", "test_uncertainty")
    )
    examples, looks = map(beside, ("test_gallery", "test_explained"))
    for seed, loss in enumerate(("mse", "dldl_v2")):
        networks.write_run(folder / "cnn", loss, "resnet18", seed=seed)
    trained = networks_results.read(folder / "cnn", ["mse", "dldl_v2"], ["resnet18"], networks.FACES)
    drawn = networks_figures.all_charts(trained, settings, ["face0"])
    classifiers.put(folder / "classifiers", "cross_entropy", [0.9, 0.8])
    faces = {name: [looks.png(9), looks.png(200)] for name in ("picture", "overlay", "guided")}
    heat = {"text": ["30 → 31.5"] * 2, **faces}
    looks.put(folder / "explained", "faces", "heat", heat, title="Grad-CAM", caption="Layer level4.")
    stated = measure(uncertain.JUDGED, uncertain.GROUPS, settings, rate=0.05, min_faces=30)
    augmented = augmentation_tables.tables(examples.MEASURED, examples.AGES, "age")
    return [
        study_section.section(study_section.with_rivals(a_study(), runs), settings),
        gallery.section(augmented, examples.pictures()),
        *networks_section(trained, settings, drawn),
        *classification_section.sections(read_classifiers(folder / "classifiers", ["cross_entropy"])),
        *explained.sections(folder / "explained"),
        *uncertainty_sections(stated),
    ]


@pytest.fixture(scope="module")
def made(complete, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page with every section there is."""
    runs = tuple(dataclasses.replace(run, seconds=np.full(6, 2.0)) for run in complete.runs)
    timed = dataclasses.replace(complete, runs=runs)
    settings = Settings(resamples=50)
    return build_page(
        timed,
        evaluate(timed, settings),
        dataset="sample",
        rejects={"no_face": 2},
        provenance={"revision": "4f2c9d1", "embeddings/faces.parquet": "0123456789abcdef" * 4},
        params="seed: 1  # " + "a long comment " * 20,
        more=more_sections(runs, settings, tmp_path_factory.mktemp("inputs")),
    )


@pytest.fixture(scope="module")
def charts(made) -> list[str]:
    """The names of the page's figures that scripts draw."""
    return [block.name for section in made.sections for block in section.blocks if isinstance(block, Chart)]


@pytest.fixture(scope="module")
def file(made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports") / "index.html"
    page.write(made, path)
    return path


def test_the_manual_lists_every_section_from_top_to_bottom(made):
    text = (Path(__file__).resolve().parents[2] / "docs/report.md").read_text(encoding="utf-8")
    titles = [section.title for section in made.sections]
    assert len(titles) >= 14
    places = [text.find(f"**{title}") for title in titles]
    assert -1 not in places, titles[places.index(-1)]
    assert places == sorted(places)


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
def test_renders_every_figure_without_complaint_network_or_overflow(browser, file, charts, screen):
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
        assert [figure["name"] for figure in drawn] == charts
        assert len(charts) > 20, "those of the study, of networks and of uncertainty are among them"
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


def test_without_scripts_every_figure_is_still_a_picture(browser, file, charts):
    with Opened(browser, file, java_script_enabled=False) as opened:
        sizes = [
            (picture.bounding_box()["width"], picture.get_attribute("alt"))
            for picture in opened.page.locator(".chart img").all()
        ]
        assert len(sizes) == len(charts)
        assert all(width > 300 and alt for width, alt in sizes)
