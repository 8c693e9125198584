"""The recordings' own figures: every minute and every imbalance, to the last digit."""

from __future__ import annotations

import csv
from decimal import Decimal

import attrs
import pytest
from persistence_samples import RECORDINGS, block, kind_of, recorded_lines

from streamsvc.analytics.live import Analytics
from streamsvc.schema import Kind, Market

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings (../shared/recordings) are not here")

SYMBOLS = {
    "spot-btcusdt-20240808-09": (Market.SPOT, "spot-btcusdt-2024080{}.gz", (8, 9)),
    "usdm-btcusdt-20240718-19": (Market.FUTURES, "usdm-btcusdt-202407{}.gz", (18, 19)),
    "usdm-ethusdt-20240718-19": (Market.FUTURES, "usdm-ethusdt-202407{}.gz", (18, 19)),
}


class Kept:
    """The end of a channel that keeps nothing; what is written is seen before it is a text."""

    def put_nowait(self, block):
        assert block.messages


def derive(name, *, messages_a_block=1):
    """All rows of a recording, latest revisions, by kind and open time."""
    market, pattern, days = SYMBOLS[name]
    lines = [line for day in days for line in recorded_lines(pattern.format(day))]
    analytics = Analytics(Kept(), wall_ns=lambda: 0, reset="never", grace_sec=2, is_recorded=lambda *_: True)
    rows = {}
    add = analytics.add_rows

    def see(of_market, added):
        rows.update({(kind, row.open_ms): row for kind, row in added})
        add(of_market, added)

    analytics.add_rows = see
    analytics.begin({}, {})
    for first in range(0, len(lines), messages_a_block):
        texts = [text for _, text in lines[first : first + messages_a_block]]
        whole = block(texts, Kind.TRADE, market, lines[first][0])
        analytics.take(attrs.evolve(whole, kinds=bytes(kind_of(text) for text in texts)))
    analytics.finish()
    assert {Market.SPOT: 0, Market.FUTURES: 0} == analytics.mismatches
    return rows


def figures(name, what):
    with (RECORDINGS / f"{name}.{what}.csv").open() as file:
        return list(csv.DictReader(file))


def decimals(line, *names):
    return [Decimal(line[name]) for name in names]


@pytest.mark.parametrize("messages_a_block", [1, 50])
@pytest.mark.parametrize("name", SYMBOLS)
def test_every_minute_of_trades(name, messages_a_block):
    """Prices, volumes, deltas, the running sum, counts, and which minutes are whole; in any batches."""
    rows = derive(name, messages_a_block=messages_a_block)
    lines = figures(name, "minutes")
    assert len(lines) == sum(kind is Kind.CVD_1M for kind, _ in rows)
    for line in lines:
        cvd, bar = (rows[kind, int(line["minute_open_ms"])] for kind in (Kind.CVD_1M, Kind.BARS_1M))
        assert decimals(line, "open", "high", "low", "close") == [bar.open, bar.high, bar.low, bar.close]
        volumes = [bar.volume, bar.quote_volume, bar.taker_buy_volume]
        assert decimals(line, "volume", "quote_volume", "taker_buy_volume") == volumes
        assert decimals(line, "delta", "cvd_from_recording_start") == [cvd.delta, cvd.cvd]
        assert (int(line["n_market"]), line["complete"] == "1") == (cvd.trade_count, cvd.is_complete)


@pytest.mark.parametrize("name", [name for name in SYMBOLS if "btc" in name])
def test_every_minute_of_order_flow_imbalance(name):
    """And the quotes at its end."""
    rows = derive(name)
    lines = figures(name, "ofi")
    assert len(lines) == sum(kind is Kind.OFI_1M for kind, _ in rows)
    for line in lines:
        row = rows[Kind.OFI_1M, int(line["bin_open_ms"])]
        last = [row.bid_price, row.bid_quantity, row.ask_price, row.ask_quantity]
        assert decimals(line, "ofi", "last_bid", "last_bid_qty", "last_ask", "last_ask_qty") == [row.ofi, *last]
        assert int(line["n_bookticker"]) == row.update_count


def test_a_symbol_that_was_removed_before_its_past_was_known_goes_on_when_it_comes_back():
    """It is told as well where an earlier run ended."""
    market, pattern, days = SYMBOLS["usdm-btcusdt-20240718-19"]
    lines = recorded_lines(pattern.format(days[0]))
    analytics = Analytics(Kept(), wall_ns=lambda: 0, reset="never", grace_sec=2, is_recorded=lambda *_: True)
    first, second = lines[:2000], lines[2000:]
    for received_ns, text in first:
        analytics.take(block([text], kind_of(text), market, received_ns))
    analytics.remove(market, "BTCUSDT")
    analytics.begin({}, {})
    for received_ns, text in second:
        analytics.take(block([text], kind_of(text), market, received_ns))
    windows = analytics.windows(market, "BTCUSDT")
    assert len(windows[Kind.CVD_1M])
    assert len(windows[Kind.OFI_1S])
