"""A headless Chromium, driven over its DevTools protocol: real clicks and keys on a page."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"))), None)
# Nothing that a browser does on its own when it starts; a test asks no network.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_PATIENCE = 30.0
# The protocol's code of "Inspected target navigated or closed" and "Execution context was destroyed".
_SERVER_ERROR = -32000
_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "Enter": 13, "Escape": 27}


class _Gone(RuntimeError):
    """The page that was asked is gone, or could not answer."""


class Browser:
    """One browser with one page.

    Args:
        folder: For its profile.
    """

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._loop = asyncio.new_event_loop()
        self._process = subprocess.Popen(
            [CHROMIUM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = self._port(folder / "DevToolsActivePort")
            self._loop.run_until_complete(self._connect(port))
        except BaseException:
            self.close()
            raise
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        # As in a window that people look at: what is focused is told so.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def _port(self, file: Path) -> int:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if file.is_file() and (lines := file.read_text().split()):
                return int(lines[0])
            assert self._process.poll() is None, "chromium ended at once"
            time.sleep(0.05)
        raise TimeoutError("chromium did not open its DevTools port")

    async def _connect(self, port: int) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as reply:
            pages = [target for target in await reply.json() if target["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    def close(self) -> None:
        """End it."""
        if hasattr(self, "_session"):
            self._loop.run_until_complete(self._session.close())
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._loop.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol; events that come in between are remembered."""
        return self._loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = json.loads((await asyncio.wait_for(self._socket.receive(), _PATIENCE)).data)
            if message.get("id") != self._number:
                self.events.append(message)
            elif "error" in message:
                error = message["error"]
                raise (_Gone if error["code"] == _SERVER_ERROR else RuntimeError)(f"{method}: {error}")
            else:
                return message["result"]

    def open(self, path: Path, width: int = 1200, height: int = 900, fragment: str = "") -> None:
        """Load a file and wait until its scripts are done."""
        self.resize(width, height)
        # From another page, so that the same file with another fragment is loaded again.
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.events.clear()
        address = path.resolve().as_uri() + (f"#{fragment}" if fragment else "")
        self.call("Page.navigate", url=address)
        self.until(f"location.href.startsWith({json.dumps(path.resolve().as_uri())})")
        self.ready()

    def ready(self) -> None:
        """Wait until the page's scripts are done."""
        self.until("document.documentElement?.dataset.ready === 'true'")

    def downloads(self, folder: Path) -> None:
        """Where files that the page saves go."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def tap(self, selector: str) -> None:
        """Touch an element with a finger."""
        x, y = self.point(selector)
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)

    def resize(self, width: int, height: int) -> None:
        """Another window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def evaluate(self, expression: str) -> Any:
        """A JavaScript expression's value."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _PATIENCE
        while not self._holds(expression):
            assert time.monotonic() < end, f"never true: {expression}; {self.errors()}"
            time.sleep(0.03)

    def _holds(self, expression: str) -> bool:
        # A page that is loading its successor (a new address reloads a report) ends what was asked of it: not yet true.
        try:
            return bool(self.evaluate(expression))
        except _Gone:
            return False

    def until_file(self, path: Path) -> None:
        """Wait until a file is there and whole."""
        end = time.monotonic() + _PATIENCE
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < end, f"never saved: {path}; {self.errors()}"
            time.sleep(0.03)

    def text(self, selector: str) -> str:
        """What an element says."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")

    def texts(self, selector: str) -> list[str]:
        """What all such elements say."""
        return self.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)")

    def point(self, selector: str) -> tuple[float, float]:
        """Bring an element into the window; gives its middle."""
        found = self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.scrollIntoView({{ block: 'center', "
            "inline: 'center', behavior: 'instant' }); const box = one.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return found[0], found[1]

    def move(self, selector: str) -> None:
        """Put the mouse on an element."""
        x, y = self.point(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click on an element with the mouse."""
        x, y = self.point(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def write(self, selector: str, text: str) -> None:
        """Write into a field, in place of what it holds."""
        self.evaluate(f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.focus(); one.select(); }})()")
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose in a list; its window of options is the system's, which no page can click."""
        self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.value = {json.dumps(value)}; "
            "one.dispatchEvent(new Event('input', { bubbles: true })); one.dispatchEvent(new Event('change', "
            "{ bubbles: true })); })()"
        )

    def dark(self, on: bool) -> None:
        """What the system prefers."""
        scheme = "dark" if on else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        """What is in the window, as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def errors(self) -> list[str]:
        """What went wrong on the page."""
        thrown = [one["params"]["exceptionDetails"] for one in self.events if one.get("method") == "Runtime.exceptionThrown"]
        logged = [one["params"]["entry"] for one in self.events if one.get("method") == "Log.entryAdded"]
        return [*map(str, thrown), *(str(entry) for entry in logged if entry["level"] == "error")]

    def asked(self) -> list[str]:
        """Addresses that the page asked for."""
        sent = [one["params"] for one in self.events if one.get("method") == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]
