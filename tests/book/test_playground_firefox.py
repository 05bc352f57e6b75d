"""The playground in Firefox: `make pages`.

From a disk and over http it draws what the library draws from the same noise, no
request leaves the book, and the console is silent. What every control does is tried in
Chromium, by `test_playground_page.py`.
"""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import BOOK
from drawings import CASES, assert_same
from firefox import Firefox, program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not program(), reason="Firefox is not installed"),
    pytest.mark.skipif(
        not (BOOK / "playground.html").exists(), reason="no book is built"
    ),
]

DRAWN = """
    const busy = () => !document.querySelector(".playground-panel[aria-busy=false]");
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const drawn = async () => {
        for (let i = 0; i < 1000 && busy(); i++) await wait(100);
        if (busy()) throw new Error(document.querySelector(".playground").innerText);
    };
"""
CLICK = "document.querySelector('.playground-bar button').click(); await drawn();"
PICTURE = """
    location.hash = `#sample?${arguments[0]}`;
    await wait(100);
    await drawn();
    const one = document.querySelector(".playground-panel canvas");
    const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
    return [...data].filter((_, i) => i % 4 < 3);
"""
ASKED = "return performance.getEntriesByType('resource').map((one) => one.name);"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def places():
    """The book's address on the disk and on a server of this machine."""
    handler = partial(Quiet, directory=BOOK)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        yield {"file": f"{BOOK.as_uri()}/", "http": f"http://127.0.0.1:{port}/"}
        server.shutdown()


@pytest.mark.parametrize("over", ["file", "http"])
def test_firefox_draws_what_the_library_draws(places, over):
    with Firefox() as firefox:
        firefox.open(places[over] + "playground.html")
        firefox.run(DRAWN + CLICK)
        for settings in CASES:
            assert_same(firefox.run(DRAWN + PICTURE, settings), settings)
        asked = [one for one in firefox.run(ASKED) if not one.startswith("blob:")]
        assert all(one.startswith(places[over]) for one in asked)
        assert asked or over == "file"  # from a disk Firefox lists none
        # The theme declares one name twice on every page; nothing depends on it.
        assert [one for one in firefox.errors() if "THEBE_JS_URL" not in one] == []
