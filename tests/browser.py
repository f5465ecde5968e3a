"""Headless Chromium, driven over a pipe by the DevTools protocol: no driver and no package are needed, and the network is off."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND"),
)
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}


def program() -> str | None:
    """The browser of this machine, if it has one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One tab; what it asks of the network and complains about is kept."""

    def __init__(self, asked: int, answers: int) -> None:
        self._asked, self._answers, self._buffer, self._last = asked, answers, b"", 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._last += 1
        os.write(self._asked, json.dumps({"id": self._last, "method": method, "params": parameters, **self._session}).encode() + b"\0")
        while (message := self._next()).get("id") != self._last:
            self.events.append(message)
        assert "error" not in message, f"{method}: {message['error']}"
        return dict(message["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 65536)
            assert part, "the browser ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, address: str) -> None:
        """Load a page and wait until it and all that it asks for is there, or refused."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not self.seen("Page.loadEventFired"):
            self.events.append(self._next())
        time.sleep(0.2)  # what a page asks for after it has loaded
        self.run("0")

    def seen(self, method: str) -> list[dict[str, Any]]:
        """The events of a kind since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def size(self, width: int, height: int = 800) -> None:
        """Make the window this large; below 500 units a phone's."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def scheme(self, name: str) -> None:
        """``light`` or ``dark``, as the system would prefer."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = KEYS[key]
        common = {"key": text if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)


@contextmanager
def opened(folder: Path) -> Iterator[Page]:
    """A tab of a browser that keeps its files in ``folder`` and ends with the block."""
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    found = program()
    assert found
    redirected = 'in=$1 out=$2; shift 2; exec "$@" 3<&$in 4>&$out'  # the protocol's pipes are 3 and 4
    command = ["bash", "-c", redirected, "bash", str(theirs_in), str(theirs_out), found, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stdout=log, stderr=log) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Page(ours_out, ours_in)
        finally:
            process.terminate()
            os.close(ours_in)
            os.close(ours_out)
