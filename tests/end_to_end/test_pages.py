"""The documentation in a real browser: rendered under its policy, and no other host is asked for anything."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.end_to_end.server import Server

CHROMIUM = shutil.which("chromium")
PATIENCE_MILLISECONDS = 60_000
NO_OTHER_HOST = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
"""Whatever a page may try, nothing leaves the machine."""
PAGES = {"/docs": "acknowledgements", "/redoc": "The stream", "/asyncapi": "A worker's connection"}
"""Each with a heading that stands in no HTML of the service's: it comes from the document, by the page's scripts."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH (Debian: apt-get install chromium)"),
]


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[tuple[Page, list[str]]]:
    """A page of a browser on a service, and what went wrong in it or went elsewhere."""
    faults: list[str] = []
    with Server(folder).running() as server:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[NO_OTHER_HOST])
            page = await browser.new_page(base_url=server.url)
            page.set_default_timeout(PATIENCE_MILLISECONDS)
            page.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(f"script: {error}"))
            page.on("request", lambda request: None if is_of(server, request.url) else faults.append(request.url))
            page.on("websocket", lambda socket: faults.append(socket.url))
            yield page, faults
            await browser.close()


def is_of(server: Server, url: str) -> bool:
    """Whether a URL is the server's, or data in itself."""
    return url.startswith(f"{server.url}/") or urlsplit(url).scheme == "data"


async def test_pages_are_rendered_by_this_service_alone(tmp_path):
    async with browsing(tmp_path) as (page, faults):
        for path, heading in PAGES.items():
            await page.goto(path)
            shown = page.get_by_role("heading", name=heading).first
            await expect(shown).to_be_visible(timeout=PATIENCE_MILLISECONDS)
            await page.wait_for_load_state("networkidle")
            assert faults == [], path


async def test_browser_tells_what_a_page_must_not_do(tmp_path):
    """The control of the test above."""
    async with browsing(tmp_path) as (page, faults):
        await page.goto("/docs")
        assert faults == []
        async with page.expect_console_message(lambda said: "Content Security Policy" in said.text):
            await page.evaluate("fetch('http://elsewhere.example/').catch(() => null)")
        assert "connect-src 'self'" in faults[0]
        faults.clear()
        async with page.expect_request("http://elsewhere.example/"):
            await page.evaluate("location.assign('http://elsewhere.example/')")
        assert faults[0] == "http://elsewhere.example/"
