"""A headless Chromium driven by its own protocol over two pipes: enough to open a page, look, click and listen to its console."""

import json
import os
import shutil
import subprocess
import tempfile
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    def __init__(self):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self._folder = tempfile.TemporaryDirectory(prefix="runmgr-chromium-", ignore_cleanup_errors=True)

        def prepare():  # the protocol's descriptors are 3 and 4
            reading, writing = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        words = [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        words += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={self._folder.name}"]
        words += ["--disable-dev-shm-usage", "--window-size=1200,900", "about:blank"]
        self._process = subprocess.Popen(
            words,
            preexec_fn=prepare,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        self._buffer = b""
        self._number = 0
        self._session = None
        self.console = []
        """What the page complained of: errors, warnings, refused by its policy, uncaught exceptions."""

    def __enter__(self):
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()
        self._folder.cleanup()

    def _call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self):
        while b"\0" not in self._buffer:
            data = self._in.read(1 << 16)
            assert data, "Chromium has gone"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(message)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.console.append(str(parameters["exceptionDetails"].get("exception", {}).get("description")))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.console.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.console.append(parameters["entry"]["text"])
        return message

    def open(self, url):
        self._call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def js(self, expression):
        """The expression's value."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression, seconds=10):
        """Waits until the expression is true."""
        until = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < until, f"never: {expression}\n{self.js('document.body.innerText')}"
            time.sleep(0.05)

    def screenshot(self, path):
        import base64

        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))
