"""`streamsvc top`: what it shows, and what it says where there is nothing to show."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import orjson
import pytest

from streamsvc import top
from streamsvc.cli import main
from streamsvc.errors import UsageError

STATUS = {
    "verdict": {
        "level": "bad",
        "text": "Silent and being repaired: B trade of spot (200 s).",
        "reasons": ["a", "1 gap"],
    },
    "writer": {"state": "recording", "mode": "normal"},
    "connections": [{"is_up": True}, {"is_up": False}],
    "rates": {"messages_per_sec": 1234.5},
    "latency": {"spot": {"p50_ms": 12.0}},
    "gaps": {"open": 1, "repaired": 20, "unrepairable": 3},
    "journal": {"unsealed_bytes": 2_500_000, "unsealed_segments": 0},
    "files": {"parquet_bytes": 3_000_000_000},
    "disk": {"free_bytes": 80_000_000_000},
    "process": {"rss_bytes": 60_000_000},
    "uptime_sec": 7200,
    "matrix": [
        {
            "market": "spot",
            "kinds": ["trade", "depth"],
            "symbols": ["A", "B"],
            "states": [["ok", None], ["stalled", "ok"]],
            "age_sec": [[0.5, None], [200.0, 0.1]],
            "per_sec": [[3.0, 0.0], [0.0, 10.0]],
        }
    ],
}


@pytest.fixture
def answering():
    """Answers every request with the same bytes."""
    servers = []

    def begin(body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"127.0.0.1:{server.server_port}"

    yield begin
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_worst_stands_first(answering, capsys):
    """Verdict, figures, and a line a stream; plain text once where there is no terminal."""
    assert 0 == main(["top", answering(orjson.dumps(STATUS))])
    lines = capsys.readouterr().out.splitlines()
    assert "[bad] Silent and being repaired: B trade of spot (200 s)." == lines[0].strip()
    assert "1 gap" == lines[1].strip()
    assert "1/2 connections; 1,234 messages/s; latency spot 12 ms" in lines[2]
    assert [["spot", "B", "trade", "stalled", "200.0", "0.0"], ["spot", "A", "trade", "ok", "0.5", "3.0"]] == [
        line.split() for line in lines[-3:-1]
    ]


def test_many_streams_are_cut():
    rows = top._streams(STATUS, 2)
    assert 3 == rows.row_count
    assert "and 1 more" in list(rows.columns[1].cells)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"verdict": 1}'])
def test_what_answers_is_no_recorder(answering, body, capsys):
    assert 1 == main(["top", answering(body)])
    said = capsys.readouterr().err
    assert "no recorder" in said or "no answer" in said


def test_nobody_answers(capsys):
    assert 1 == main(["top", "127.0.0.1:1", "--once"])
    assert "is a recorder running, and what is its HTTP_LISTEN?" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["ftp://a", "http://", "http://a:99999", "file:///etc/passwd", "http://u:p@a"])
def test_an_address_that_is_none(text):
    with pytest.raises(UsageError, match="no address of a recorder"):
        top.address_of(text)
