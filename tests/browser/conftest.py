"""A real browser, for pages that people open."""

import shutil

import pytest

# A closed network is not asked for anything, and a test may run as root.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: `make browser`")
    with playwright.sync_playwright() as started:
        of_playwright = shutil.which(started.chromium.executable_path)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or of_playwright
        if chromium is None:
            pytest.skip("needs chromium: `make browser`, or `apt-get install chromium`")
        opened = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()
