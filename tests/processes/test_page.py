"""The page itself in a headless Chromium, with a status made up for what a real recorder rarely shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

from browser import CHROMIUM, needs_chromium
from playwright.sync_api import sync_playwright

from streamsvc.web import app

PAGE = Path(app.__file__).parent / "page"
KINDS = ["trade", "depth", "bookTicker", "kline_1m", "markPrice"]
HOSTILE = "<img src=x onerror=alert(1)>"
SYMBOLS = [*(f"SYM{number}USDT" for number in range(298)), HOSTILE, "币安人生USDT"]


def state_of(number, kind):
    if (number, kind) == (37, 0):
        return "stalled"
    return "disconnected" if number == 12 else "ok"


STATUS = {
    "version": "1", "now_ms": 1_795_592_381_172, "started_ms": 0, "uptime_sec": 7300.0, "is_ready": False,
    "verdict": {"level": "bad", "text": "Silent and being repaired: SYM37USDT trade.", "reasons": ["a", "1 gap open"]},
    "writer": {"state": "recording", "mode": "normal"},
    "streams": {"ok": 1494, "suspect": 0, "stalled": 1, "disconnected": 5, "degraded": 0},
    "matrix": [{
        "market": "futures", "kinds": KINDS, "symbols": SYMBOLS,
        "states": [[state_of(number, kind) for kind in range(5)] for number in range(300)],
        "age_sec": [[number / 10 for _ in KINDS] for number in range(300)],
        "per_sec": [[1.0 for _ in KINDS] for _ in range(300)],
    }],
    "connections": [
        {
            "name": "spot-1", "market": "spot", "is_up": False, "streams": 3, "age_sec": None, "attempts": 2,
            "reconnects": 1,
        }
    ],
    "rates": {"messages_per_sec": 20_000.0}, "counts": {"accepted": 10**9, "reconnects": 3},
    "latency": {"futures": {"p50_ms": 5.0, "p99_ms": None, "clock_offset_ms": None}},
    "gaps": {"open": 1, "repaired": 2, "unrepairable": 3, "latest": [{
        "market": "futures", "symbol": HOSTILE, "kind": "trade", "first_id": 5, "last_id": 9, "cause": "stall",
        "status": "open", "opened_ms": 1_795_592_000_000,
    }]},
    "journal": {
        "unsealed_bytes": 1, "unsealed_segments": 0, "unsynced_age_sec": 0.0, "written_bytes": 1, "segments_closed": 0
    },
    "queue": {"used_bytes": 1, "limit_bytes": 2}, "disk": {"free_bytes": 8 * 10**10, "reserve_bytes": 5 * 10**8},
    "files": {"parquet_files": 1, "parquet_bytes": 1}, "rest": {}, "cvd_mismatches": 0,
    "process": {"rss_bytes": 6 * 10**7, "tasks": 70},
}  # fmt: skip


class Recorder:
    """Answers the page's requests, or nothing any more."""

    def __init__(self):
        self.is_gone = False

    def answer(self, route):
        path = route.request.url.split("/", 3)[3].split("?")[0] or "index.html"
        if path == "status":
            if self.is_gone:
                route.abort()
            else:
                route.fulfill(status=200, content_type="application/json", body=json.dumps(STATUS))
        elif path == "events":
            route.fulfill(status=200, content_type="text/event-stream", body="event: window\ndata: {}\n\n")
        else:
            headers = {name.decode(): value.decode() for name, value in app._HEADERS.items()}
            media_type = app._MEDIA_TYPES[Path(path).suffix]
            route.fulfill(status=200, content_type=media_type, body=(PAGE / path).read_bytes(), headers=headers)


@needs_chromium
def test_three_hundred_symbols_and_all_that_may_be_wrong():
    """Worst first, by keyboard, on a phone, with hostile names; and when the recorder is gone nothing looks fresh."""
    recorder, faults = Recorder(), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.route("**/*", recorder.answer)
        page.goto("http://recorder.test/")
        page.wait_for_selector("#matrix button")

        assert "Silent and being repaired: SYM37USDT trade." == page.inner_text("#verdict-text")
        assert {"verdict", "bad"} == set(page.get_attribute("#verdict", "class").split())
        buttons = page.locator("#matrix button")
        assert (300, ["SYM37USDT", "SYM12USDT", "SYM0USDT"]) == (buttons.count(), buttons.all_inner_texts()[:3])
        assert "! 3.7" == page.locator(".cell.stalled").nth(1).inner_text()  # The first one explains the sign.
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280

        buttons.first.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
            page.keyboard.press(key)
        assert "SYM0USDT, futures" == page.inner_text("#symbol-title")
        page.fill("#find", "<IMG")
        assert [HOSTILE] == buttons.all_inner_texts()
        assert HOSTILE in page.inner_text("#gaps")

        page.fill("#find", "")
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert [] == faults

        recorder.is_gone = True
        page.wait_for_selector("body.stale")
        assert page.inner_text("#verdict-text").startswith("No answer from the recorder")
        assert "What is shown below is old." == page.inner_text("#verdict-more")
        recorder.is_gone = False
        page.wait_for_selector("body:not(.stale)")
        browser.close()


def luminance(colour):
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_pair_of_colours_can_be_read_by_day_and_by_night():
    """A contrast of 4.5, which WCAG's level AA asks for."""
    schemes = re.findall(r":root \{(.*?)\}", (PAGE / "page.css").read_text(), re.DOTALL)
    assert 2 == len(schemes)
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        pairs = [(name, f"{name}-text") for name in colours if f"{name}-text" in colours]
        assert 5 == len(pairs)
        pairs += [("ground", "text"), ("ground", "quiet"), ("panel", "quiet"), ("panel", "text")]
        low = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in pairs}
        assert {} == {pair: ratio for pair, ratio in low.items() if ratio < 4.5}
