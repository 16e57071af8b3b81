"""A Chromium without a window that stays open: pages are loaded into it and asked, over its DevTools pipe."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PATH = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PATIENCE = 240  # seconds for an answer, on a machine that does much else; who gets it waits no longer
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
)


class Browser:
    """Opens pages.

    Args:
        profile: folder to make for what it keeps.
        options: of the command line, more than those of all.
    """

    def __init__(self, profile: Path, *options: str) -> None:
        assert PATH is not None
        theirs_read, ours_write = os.pipe()
        ours_read, theirs_write = os.pipe()
        # its end of the pipe has the numbers 3 and 4
        line = f'exec "$0" "$@" 3</dev/fd/{theirs_read} 4>/dev/fd/{theirs_write}'
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", line, PATH, *OPTIONS, f"--user-data-dir={profile}", *options, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs_read, theirs_write],
        )
        os.close(theirs_read)
        os.close(theirs_write)
        self._read, self._write = ours_read, ours_write
        self._received = b""
        self._asked = 0

    def page(self, url: str, *, size: tuple[int, int], before: str = "") -> Page:
        """Load a page into a window of its own.

        Args:
            url: of the page.
            size: of the window: width, height [pixels].
            before: a script that runs before those of the page.
        """
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        width, height = size
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        page.call("Page.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        found = page.call("Page.navigate", url=url)
        assert "errorText" not in found, found
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command of the DevTools protocol."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content) :]
        until = time.monotonic() + PATIENCE
        while (answer := self._next(until)).get("id") != self._asked:
            pass
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._read)
            os.close(self._write)

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._read], [], [], max(until - time.monotonic(), 0))[0]:
                raise TimeoutError("the browser says nothing")
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Page:
    """A page in a browser, see `Browser.page`."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command of the DevTools protocol."""
        return self._browser.call(method, self._session, **parameters)

    def ask(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, of a promise once it is kept."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, *words: str) -> str:
        """Return the text of the page as soon as it holds all the words, or when patience ends."""
        until = time.monotonic() + PATIENCE
        while True:
            text = str(self.ask("document.documentElement?.textContent"))
            if all(word in text for word in words) or time.monotonic() > until:
                return text
            time.sleep(0.2)

    def close(self) -> None:
        """Close its window."""
        self._browser.call("Target.closeTarget", targetId=self._target)
