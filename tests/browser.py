"""Headless Chromium, which opens pages from a server of this process and says what it measured."""

import html
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PACKAGE = "chromium-headless-shell"
SCRIPT = Path(__file__).with_name("page_measures.js")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *(
        "--disable-component-update",
        "--disable-default-apps",
        "--hide-scrollbars",
        "--virtual-time-budget=60000",
    ),
)
SCHEMES = {"dark": 0, "light": 1}
"""As the setting `preferredColorScheme` counts them."""


def browser() -> str:
    """The browser. Where there is none a test fails if HONESTLOOP_BROWSER=required, else it is skipped."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is not None:
        return found
    line = f"no headless Chromium: apt-get install {PACKAGE}"
    if os.environ.get("HONESTLOOP_BROWSER") == "required":
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


def measured(
    pages: Mapping[str, str], scheme: str, widths: tuple[int, ...]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """("NAME WIDTH" -> what was measured, addresses that were asked for) of pages, name -> HTML, in a colour scheme."""
    names = [f"/{name}" for name in pages]
    call = f"all({json.dumps(names)}, {json.dumps(widths)})"
    served = {f"/{name}": page for name, page in pages.items()}
    served["/"] = f"<!DOCTYPE html><body style='margin:0'><script>{SCRIPT.read_text()};{call}</script>"
    with serving(served) as (address, asked):
        command = [
            browser(),
            *FLAGS,
            f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
            "--dump-dom",
        ]
        done = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True)
    _, _, rest = done.stdout.partition('<pre id="measured">')
    assert rest, f"{done.stdout[:500]} {done.stderr[-500:]}"
    found = json.loads(html.unescape(rest.partition("</pre>")[0]))
    return {name.removeprefix("/"): page for name, page in found.items()}, asked


@contextmanager
def serving(pages: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for so far) of a server of these pages."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()
