"""What a client of Binance's streams says to the exchange; the same for spot and futures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamsvc.venues.venue import Stream


def request(
    method: Literal["SUBSCRIBE", "UNSUBSCRIBE"],
    request_id: int,
    streams: Sequence[Stream],
) -> str:
    """The text of a request; the exchange answers `{"result":null,"id":<request_id>}` or an error."""
    return orjson.dumps({"method": method, "params": [stream.name for stream in streams], "id": request_id}).decode()


def combined_path(streams: Sequence[Stream]) -> str:
    """Path and query of a connection in the combined form. Symbols may be non-ASCII, a request line may not."""
    return "stream?streams=" + "/".join(quote(stream.name, safe="@") for stream in streams)
