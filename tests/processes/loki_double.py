"""An HTTP endpoint that takes and refuses pushes as Loki does with its default limits."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LABELS_MAX = 15
LINE_BYTES_MAX = 256 * 1024
BODY_BYTES_MAX = 4 * 1024 * 1024
BEHIND_NS_MAX = 7200 * 10**9


class Loki:
    """What it has taken, and what it has answered.

    Attributes:
        entries: Labels, time in ns, line, structured metadata; in the order of arrival.
        answers: The status of every push.
        is_down: Whether it answers 503 to everything.
    """

    def __init__(self):
        self.entries = []
        self.answers = []
        self.is_down = False
        self._newest = {}

    def push(self, body):  # noqa: PLR0911 - a refusal each
        """Take a body or refuse it; returns status and reason."""
        if self.is_down:
            return 503, "down"
        if len(body) > BODY_BYTES_MAX:
            return 500, "the message is too large"
        taken = []
        for stream in json.loads(body)["streams"]:
            labels = stream["stream"]
            if not labels or len(labels) > LABELS_MAX:
                return 400, "none or too many labels"
            for time, line, *metadata in stream["values"]:
                if not isinstance(time, str):
                    return 400, "a time stamp is no text"
                if len(line.encode()) > LINE_BYTES_MAX:
                    return 400, "a line is too long"
                key = json.dumps(labels, sort_keys=True)
                if int(time) < self._newest.get(key, 0) - BEHIND_NS_MAX:
                    return 400, "an entry is too far behind"
                self._newest[key] = max(self._newest.get(key, 0), int(time))
                taken.append((labels, int(time), line, metadata[0] if metadata else {}))
        self.entries += taken
        return 204, ""


@contextmanager
def serving(loki):
    """Its address while the body runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            status, reason = loki.push(self.rfile.read(int(self.headers["content-length"])))
            loki.answers.append(status)
            self.send_response(status)
            self.send_header("content-length", str(len(reason)))
            self.end_headers()
            self.wfile.write(reason.encode())

        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
