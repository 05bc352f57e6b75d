"""Firefox without a window, driven by its own protocol, Marionette.

Messages are JSON texts with their length before them, over a socket on this machine.
Nothing else is needed: no geckodriver and no package.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE = 120  # seconds for an answer, on a machine that has other things to do
PREFERENCES = {
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "marionette.port": 0,  # any that is free
    "toolkit.telemetry.server": "",
}


def program():
    """The path of a Firefox, or None."""
    named = os.environ.get("FIREFOX")
    return named or shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """A Firefox with a profile of its own; use it in a `with` statement."""

    def __init__(self, width=1280, height=900):
        self.size = width, height
        self.number = 0

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        place = Path(self.profile.name)
        lines = [
            f"user_pref({json.dumps(name)}, {json.dumps(value)});"
            for name, value in PREFERENCES.items()
        ]
        (place / "user.js").write_text("\n".join(lines), "utf8")
        width, height = self.size
        command = [program(), "--headless", "--marionette", "--no-remote"]
        command += ["--remote-allow-system-access", "--profile", str(place)]
        command += ["--width", str(width), "--height", str(height)]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "HOME": str(place)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.socket = socket.create_connection(("127.0.0.1", self._port(place)))
        self.socket.settimeout(PATIENCE)
        self._receive()  # its greeting
        self.ask("WebDriver:NewSession", capabilities={"alwaysMatch": {}})
        milliseconds = 1000 * PATIENCE
        self.ask("WebDriver:SetTimeouts", script=milliseconds, pageLoad=milliseconds)
        return self

    def __exit__(self, *exception):
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)
        self.profile.cleanup()

    def _port(self, place):
        for _ in range(10 * PATIENCE):
            if (place / "MarionetteActivePort").exists():
                return int((place / "MarionetteActivePort").read_text())
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("Firefox does not start")

    def _receive(self):
        length = b""
        while (digit := self.socket.recv(1)) != b":":
            if not digit:
                raise RuntimeError("Firefox has closed the connection")
            length += digit
        text = b""
        while len(text) < int(length):
            text += self.socket.recv(int(length) - len(text))
        return json.loads(text)

    def ask(self, command, **parameters):
        """What Firefox answers to a command."""
        self.number += 1
        text = json.dumps([0, self.number, command, parameters]).encode()
        self.socket.sendall(f"{len(text)}:".encode() + text)
        _, number, error, answer = self._receive()
        assert number == self.number
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return answer

    def open(self, address):
        """Load a page."""
        self.ask("WebDriver:Navigate", url=address)

    def run(self, script, *given):
        """What a script of the page returns, or the promise that it returns; it has
        `given` as `arguments`."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async function () {{ {script} }}).apply(null, arguments)"
            ".then((value) => done({ value }), (error) => done({ error: `${error}` }));"
        )
        found = self.ask(
            "WebDriver:ExecuteAsyncScript", script=wrapped, args=list(given)
        )["value"]
        if "error" in found:
            raise RuntimeError(found["error"])
        return found.get("value")

    def errors(self):
        """What the console tells of errors in pages of the disk or of this machine."""
        self.ask("Marionette:SetContext", value="chrome")
        script = """return Services.console.getMessageArray()
            .filter((one) => one instanceof Ci.nsIScriptError)
            .filter((one) => !(one.flags & Ci.nsIScriptError.warningFlag))
            .map((one) => `${one.sourceName} ${one.errorMessage}`)
            .filter((one) => /^(file|blob|http:..127)/.test(one));"""
        found = self.ask("WebDriver:ExecuteScript", script=script, args=[])["value"]
        self.ask("Marionette:SetContext", value="content")
        return found
