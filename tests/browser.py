"""A headless Chromium, driven over its own protocol: a page as a person sees it.

Nothing is between the test and the browser but one websocket, so a test waits for what it
looks for and never sleeps for luck.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests import needs

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-extensions",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--force-color-profile=srgb",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
)


class Browser:
    """One Chromium with one window."""

    def __init__(self, folder: Path) -> None:
        """Start it, with a profile in `folder`; skips the test where there is none."""
        program = shutil.which("chromium-browser") or needs.program("chromium")
        client = needs.library("websockets.sync.client")
        profile = folder / "profile"
        (profile / "DevToolsActivePort").unlink(missing_ok=True)
        self._log = (folder / "chromium.log").open("wb")
        self._child = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "HOME": str(folder)},
        )
        self._open = ExitStack()
        self.complaints: list[str] = []
        """Errors of the page's scripts, and what its security policy refused."""
        self.requests: list[str] = []
        """Addresses of all that was loaded, or should have been."""
        self.failed: list[str] = []
        """Addresses of what did not load, with the reason."""
        self._asked: dict[str, str] = {}
        self._last = 0
        try:
            port = self._wait(lambda: _port(profile / "DevToolsActivePort"), "Chromium to start")
            # As its authors want it: a connection outside of `with` warns from version 17 on.
            self._socket = self._open.enter_context(
                client.connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=None, open_timeout=20)
            )
            target = self._call("Target.createTarget", {"url": "about:blank"}, "")["targetId"]
            self._session = self._call(
                "Target.attachToTarget", {"targetId": target, "flatten": True}, ""
            )["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, for the window."""
        return self._call(method, parameters, self._session)

    def _call(self, method: str, parameters: dict[str, Any], session: str) -> Any:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        self._socket.send(json.dumps({**message, "sessionId": session} if session else message))
        while True:
            got = json.loads(self._socket.recv(timeout=30))
            if got.get("id") == self._last:
                assert "error" not in got, f"{method}: {got['error']}"
                return got["result"]
            self._hear(got)

    def _hear(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:600])
        elif event.get("method") == "Log.entryAdded":
            entry = parameters["entry"]
            if entry["level"] == "error" and entry["source"] != "network":
                self.complaints.append(f"{entry['source']}: {entry['text']}")
        elif event.get("method") == "Network.requestWillBeSent":
            address = parameters["request"]["url"]
            self._asked[parameters["requestId"]] = address
            self.requests.append(address)
        elif event.get("method") == "Network.loadingFailed" and not parameters.get("canceled"):
            address = self._asked.get(parameters["requestId"], "?")
            self.failed.append(f"{address}: {parameters['errorText']}")

    def size(self, width: int, height: int, *, phone: bool = False, light: bool = False) -> None:
        """Make the window so large, as a panel or as a phone."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "light" if light else "dark"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go there; returns when it is asked for, not when it is there."""
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are waited for, elements are `{}`."""
        told = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, script: str, timeout_s: float = 15.0) -> Any:
        """Until an expression in the page is true; what it looks at may not be there yet."""
        safe = f"(() => {{ try {{ return ({script}) }} catch {{ return false }} }})()"
        return self._wait(lambda: self.run(safe), script, timeout_s)

    def shot(self, path: Path) -> None:
        """A picture of the window as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def click(self, selector: str) -> None:
        """Click what a selector finds."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def key(self, name: str, code: int) -> None:
        """Press one key, as `Tab` (9) or `Enter` (13)."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code=name,
                windowsVirtualKeyCode=code,
                **text,
            )

    def axe(self) -> list[str]:
        """What axe has to say of the page: one line for each violation of WCAG 2 A and AA."""
        spec = find_spec("axe_core_python")
        if spec is None or spec.origin is None:
            pytest.skip("axe-core-python is not installed: pip install -e '.[test]'")
        self.run(Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
        found = self.run(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'best-practice']}).then(r =>"
            " r.violations.map(v => v.id + ' (' + v.impact + '): ' + v.nodes.map(n =>"
            " n.target.join(' ') + ' ' + (n.any[0] ? n.any[0].message : '')).join('; ')))"
        )
        assert isinstance(found, list)
        return found

    def _wait(self, look: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
        until = time.monotonic() + timeout_s
        while not (got := look()):
            assert self._child.poll() is None, "Chromium has ended"
            assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
            time.sleep(0.02)
        return got

    def close(self) -> None:
        """End it."""
        self._open.close()
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(10)
        self._log.close()


def _port(path: Path) -> list[str]:
    """Port and path of the browser's socket, once it has written them whole."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return lines if len(lines) == 2 and lines[1] else []
