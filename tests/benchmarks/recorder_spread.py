"""`streamsvc` with seven streams a connection, so that a hundred symbols take fifteen connections."""

from functools import partial

from streamsvc import parts
from streamsvc.__main__ import main
from streamsvc.venues.venue import Limits

parts.BinanceSpot = partial(  # type: ignore[misc, assignment]
    parts.BinanceSpot, limits=Limits(streams_per_connection=7, url_bytes=8000, messages_per_sec=5)
)

if __name__ == "__main__":
    main()
