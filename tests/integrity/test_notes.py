"""Notes for the ledger are given once, and in the frame that brings what they are about."""

from types import SimpleNamespace

from streamsvc.gap import decode_note
from streamsvc.integrity.chains import Chains
from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream

STREAMS = [Stream(Market.SPOT, Kind.TRADE, symbol, f"{symbol.lower()}@trade") for symbol in ("BTCUSDT", "ETHUSDT")]


def noted(texts):
    return [(note.symbol, note.first_id, note.last_id) for note in map(decode_note, texts)]


def test_a_frame_of_one_stream_has_notes_of_that_alone():
    """A row that fills a hole and lies in a later frame must not be called there before it is."""
    chains = Chains(STREAMS)
    first, second = map(chains.track, STREAMS)
    for track in (first, second):
        for number in (1, 5):
            assert chains.takes(track, SimpleNamespace(id=number, E=number), 0.0)
    assert [("ETHUSDT", 2, 4)] == noted(chains.notes_of(second, 1))
    assert [] == chains.notes_of(second, 1)
    assert [("BTCUSDT", 2, 4)] == noted(chains.notes(1))
    assert [] == chains.notes(1)
