"""What is kept of a run for the next one."""

import pytest

from streamsvc.roster.store import NAME, Store, left_alone, recorded_of
from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_spot import BinanceSpot

VENUE = BinanceSpot("wss://spot.test")
TRADES, BOOK = (VENUE.stream("币安人生USDT", kind) for kind in (Kind.TRADE, Kind.DEPTH))
OTHER = VENUE.stream("BTCUSDT", Kind.TRADE)


def test_what_was_kept_is_read(tmp_path):
    """By another process too; nothing else is left beside it."""
    recorded = recorded_of([TRADES, BOOK, OTHER])
    Store(tmp_path / NAME).write(recorded)
    assert recorded == Store(tmp_path / NAME).read()
    assert [NAME] == [path.name for path in tmp_path.iterdir()]
    assert [] == left_alone(recorded, [TRADES, BOOK, OTHER])
    assert [BOOK] == left_alone(recorded_of([TRADES, OTHER]), [TRADES, BOOK, OTHER])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"version":2,"spot":{},"futures":{}}',
        b'{"version":1,"spot":{"A":["nonsense"]},"futures":{}}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_ours_says_nothing(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert Store(tmp_path / NAME).read() is None


def test_nothing_was_kept(tmp_path):
    assert Store(tmp_path / NAME).read() is None


def test_a_write_that_fails_leaves_what_was_kept(tmp_path):
    store = Store(tmp_path / NAME)
    store.write(recorded_of([TRADES]))
    (tmp_path / "symbols.json.part").mkdir()
    with pytest.raises(OSError, match=r"symbols\.json\.part"):
        store.write(recorded_of([OTHER]))
    assert recorded_of([TRADES]) == Store(tmp_path / NAME).read()


def test_what_is_kept_already_is_not_written_again(tmp_path):
    store = Store(tmp_path / NAME)
    store.write(recorded_of([TRADES]))
    (tmp_path / NAME).unlink()
    store.write(recorded_of([TRADES]))
    assert store.read() is None
    store.write({market: {} for market in Market})
    assert {market: {} for market in Market} == store.read()
