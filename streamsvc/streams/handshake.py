"""What an exchange says when it refuses an upgrade to WebSocket. Pure."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from streamsvc.errors import ConnectionFaultError

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?")
_RETRY_AFTER = re.compile(rb"\nretry-after:[ \t]*([^\r\n]*)", re.IGNORECASE)
_REASON_CHARACTERS_MAX = 60
RETRY_AFTER_SEC_MAX = 3 * 86400
"""The longest ban that Binance documents."""


def read_refusal(head: bytes, now_sec: int) -> ConnectionFaultError | None:
    """The fault that an answer to the upgrade tells of; None: the exchange switches protocols.

    Redirects are refusals like any other: they are not followed.

    Args:
        head: Status line and headers.
        now_sec: Wall clock, seconds since 1970, for a `Retry-After` that is a date.
    """
    status_line = _STATUS.match(head)
    if status_line is None:
        return ConnectionFaultError("handshake", "the answer to the upgrade is not HTTP/1.1")
    status = int(status_line[1])
    if status == 101:
        return None
    reason = (status_line[2] or b"").decode("ascii", "replace")[:_REASON_CHARACTERS_MAX].strip()
    return ConnectionFaultError(
        "status",
        f"the exchange refused the upgrade: {status} {reason}".rstrip(),
        status=status,
        retry_after_sec=_retry_after_sec(head, now_sec),
    )


def _retry_after_sec(head: bytes, now_sec: int) -> float | None:
    """`Retry-After` in seconds from now, whether it is a number or a date (RFC 9110, 10.2.3)."""
    header = _RETRY_AFTER.search(head)
    if header is None:
        return None
    text = header[1].decode("ascii", "replace").strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), RETRY_AFTER_SEC_MAX))
    try:
        until_sec = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(until_sec - now_sec, 0.0), float(RETRY_AFTER_SEC_MAX))
