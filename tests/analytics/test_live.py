"""Blocks wait until there is enough of them or somebody asks; nobody can tell but by the time it takes."""

from __future__ import annotations

from decimal import Decimal

import attrs
from hypothesis import given
from hypothesis import strategies as st
from persistence_samples import TIME_MS, block, spot_trade

from streamsvc.analytics.live import WAITING_MAX, Analytics
from streamsvc.analytics.symbol import SymbolAnalytics
from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_heads import TradeHead, head_decoder

HEAD = head_decoder(Market.SPOT, Kind.TRADE)


class Kept:
    """The end of a channel that keeps nothing."""

    def put_nowait(self, block):
        assert block.messages


def analytics_of_everything():
    made = Analytics(Kept(), wall_ns=lambda: 0, reset="never", grace_sec=2, is_recorded=lambda *_: True)
    made.begin({}, {})
    return made


def trades_block(*numbers):
    """A block as the intake makes it: what was read of each message is with it."""
    texts = [spot_trade(number, price=str(number)) for number in numbers]
    return attrs.evolve(block(texts), heads=[HEAD(text).data for text in texts])


def test_who_asks_is_told_of_the_last_message():
    analytics = analytics_of_everything()
    for last in (3, 4):
        analytics.take(trades_block(last))
        of_symbol = analytics.symbol(Market.SPOT, "BTCUSDT")
        assert of_symbol is not None
        assert Decimal(last) == of_symbol.trades.last_price


def test_nothing_of_a_block_is_kept_once_it_was_taken_in():
    analytics = analytics_of_everything()
    waiting = trades_block(1, 2)
    analytics.take(waiting)
    assert 2 == len(waiting.heads)
    many = trades_block(*range(3, WAITING_MAX + 1))
    analytics.take(many)
    assert [[], []] == [waiting.heads, many.heads]


trades = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 1, 5, 70]),  # Seconds since the last.
        st.decimals("0.1", "9", places=1),
        st.decimals("0.1", "9", places=1),
        st.booleans(),
        st.sampled_from([1, 1, 1, 1, 2]),  # The step of the id.
    ),
    max_size=60,
)


@given(trades, st.data())
def test_trades_in_any_chunks_give_the_rows_of_one_by_one(drawn, data):
    heads, time_ms, number = [], TIME_MS, 0
    for pause_sec, price, quantity, sells, step in drawn:
        time_ms, number = time_ms + pause_sec * 1000, number + step
        heads.append(TradeHead(time_ms, "BTCUSDT", number, str(price), str(quantity), time_ms, sells))
    chunks = []
    while heads:
        size = data.draw(st.integers(1, 30))
        chunks.append(heads[:size])
        heads = heads[size:]
    assert rows_of(chunks, lambda chunk: [chunk]) == rows_of(chunks, lambda chunk: [[head] for head in chunk])


def rows_of(chunks, split):
    """The last rows by kind and time; bins close after each chunk."""
    of_symbol = SymbolAnalytics(Market.SPOT, "BTCUSDT", Kind.TRADE, "never", 2000)
    of_symbol.begin(None)
    rows = []
    for chunk in chunks:
        for part in split(chunk):
            of_symbol.take_trades(part, 0, part[-1].T)
        rows += of_symbol.close()
    return {(kind, row.open_ms): row for kind, row in [*rows, *of_symbol.finish()]}
