"""A browser window in the listening room."""

from __future__ import annotations

from pathlib import Path

PICTURES = Path(__file__).parents[2] / "build" / "screenshots"
HOSTILE = "<img src=x onerror=alert(1)>"
WAIT_MS = 20_000
ELSEWHERE = "room.example"
"""A name that the browser does not take for this machine."""


class Listening:
    """One browser window in the room; everything that it complains of or asks elsewhere is collected."""

    def __init__(
        self, browser, address: str, width: int = 1200, height: int = 800, shows: str = ".clip", **context
    ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on(
            "request",
            lambda asked: asked.url.startswith((address, "blob:")) or self.complaints.append(asked.url),
        )
        self.page.goto(address)
        self.page.wait_for_selector(shows)

    def until(self, script: str) -> None:
        """Wait until an expression holds. Playwright's own wait evaluates text, which the page's policy forbids."""
        loop = f"""async () => {{
            const end = performance.now() + {WAIT_MS};
            while (!({script})) {{
                if (performance.now() > end) return false;
                await new Promise(requestAnimationFrame);
            }}
            return true;
        }}"""
        assert self.page.evaluate(loop), script

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def plays(self) -> None:
        self.until("document.querySelector('#stage').classList.contains('playing')")

    def now(self) -> str:
        return self.page.text_content("#now")

    def saved(self) -> None:
        """Wait until every mark so far is; while one is on its way the line still tells of the one before."""
        self.until("document.querySelector('#saved[aria-busy=false]')?.textContent === 'saved'")

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")
