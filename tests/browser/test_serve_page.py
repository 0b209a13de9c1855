"""The page of `supsup serve`: an image is dropped, its task and class are shown, whatever the window and the colours."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import supsup, sweep_text
from tests.integration.test_serve import TOKEN, Served

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(180)]
WINDOWS = {"light": ("light", 1100), "dark": ("dark", 1100), "phone": ("light", 390)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "sweep.yaml"
    path.write_text(sweep_text(folder / "runs", tracking="{uri: null}", executor="{kind: inline}"))
    assert supsup("run", path, "--quiet") == 0
    (found,) = (folder / "runs").glob("tiny-*")
    return found


@pytest.fixture(scope="module")
def served(root):
    started = Served(root)
    yield started
    started.stop()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)).save(path)
    return path


def opened(browser, address, scheme="light", width=1100):
    """Return a page of a fresh profile, and what it complained about."""
    page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}).new_page()
    page.set_default_timeout(20_000)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.goto(address)
    return page, problems


def shot(page, name):
    folder = os.environ.get("SUPSUP_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"serve-{name}.png")


@pytest.mark.parametrize("window", WINDOWS)
def test_an_image_gets_its_task_and_class(browser, served, root, image, window):
    page, problems = opened(browser, served.address, *WINDOWS[window])
    page.wait_for_selector("text=tasks on one fixed")
    assert page.inner_text("h1") == root.name
    page.set_input_files("input[type=file]", image)
    page.wait_for_selector("#best tbody tr")
    assert page.locator("#best tbody tr").count() > 1
    assert page.inner_text("#answer").startswith("Class ")
    shot(page, window)
    page.fill("#task", "1")
    page.wait_for_selector("text=of task 1, as given")
    assert page.evaluate("document.documentElement.scrollWidth") <= WINDOWS[window][1]
    assert problems == []


def test_a_task_that_is_not_there_is_said_in_words(browser, served, image):
    page, _ = opened(browser, served.address)
    page.wait_for_selector("text=tasks on one fixed")
    page.set_input_files("input[type=file]", image)
    page.fill("#task", "999")
    page.wait_for_selector("text=found 999, expected a number from 0 to")


def test_the_page_asks_for_the_token(browser, root, image):
    served = Served(root, **{TOKEN: "secret"})
    try:
        page, _ = opened(browser, served.address)
        page.wait_for_selector("#token", state="visible")
        page.fill("#token", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=tasks on one fixed")
        page.set_input_files("input[type=file]", image)
        page.wait_for_selector("#best tbody tr")
        shot(page, "token")
    finally:
        served.stop()
