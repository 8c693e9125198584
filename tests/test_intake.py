"""The intake: what it accepts, what it sets aside, what it counts."""

import json

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.batch import Batch, open_block_channel
from streamsvc.gap import NOTE_KIND, decode_note
from streamsvc.intake import Intake
from streamsvc.integrity.clock_offset import ClockOffset
from streamsvc.schema import Kind, Market
from streamsvc.streams.plan import ConnectionPlan
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.venues.binance_spot import BinanceSpot
from streamsvc.watchdog.health import Health

SPOT = BinanceSpot("wss://spot.test")
FUTURES = BinanceFutures("wss://futures.test")
STREAMS = [
    *(SPOT.stream("BTCUSDT", kind) for kind in (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER, Kind.KLINE_1M)),
    *(FUTURES.stream("BTCUSDT", kind) for kind in (Kind.TRADE, Kind.AGG_TRADE, Kind.MARK_PRICE, Kind.FORCE_ORDER)),
    SPOT.stream("币安USDT", Kind.TRADE),
]

TRADE = '{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":12345,"p":"0.001","q":"100","T":1672515782136,"m":true}'
GOOD = f'{{"stream":"btcusdt@trade","data":{TRADE}}}'
NEXT = GOOD.replace("12345", "12346")
DEPTH = (
    '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1672515782136,"s":"BTCUSDT","U":157,"u":160,'
    '"b":[["0.0024","10"],["0.0023","0"]],"a":[["0.0026","100"]]}}'
)


class KeptQuarantine:
    """Keeps what it is given."""

    def __init__(self):
        self.kept = []

    def put(self, *, reason, text, **_where):
        self.kept.append((reason, text))


class Bench:
    """An intake with everything around it in hand."""

    def __init__(self, late_ms=200):
        self.health = Health(STREAMS)
        self.sender, self.receiver = open_block_channel(1 << 20)
        self.quarantine = KeptQuarantine()
        self.intake = Intake(self.health, self.sender, self.quarantine, late_ms=late_ms)

    def read(self, *texts, market=Market.SPOT, received_ns=1_672_515_782_136_000_000, now=5.0):
        messages = [text if isinstance(text, bytes) else text.encode() for text in texts]
        return self.intake.read(market, 7, Batch(messages, received_ns, sum(map(len, messages))), now)


def message(stream, **data):
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":"), ensure_ascii=False)


def test_messages_keep_their_text_order_and_kind():
    """What goes to the journal is what was received, byte for byte."""
    bench = Bench()
    block, notices = bench.read(GOOD, DEPTH, NEXT)
    assert [GOOD.encode(), DEPTH.encode(), NEXT.encode()] == block.messages
    assert bytes([Kind.TRADE, Kind.DEPTH, Kind.TRADE]) == block.kinds
    assert sum(map(len, block.messages)) == block.size_bytes
    assert 7 == block.connection
    assert [] == notices


def test_health_counts_messages_and_levels():
    """A level of an order book is a row, since it becomes one."""
    bench = Bench()
    bench.read(GOOD, DEPTH, now=9.0)
    slot = bench.health.slot(Market.SPOT, "btcusdt@depth@100ms")
    assert (1, 3, 9.0) == (slot.messages, slot.rows, slot.last_message)
    assert {(Market.SPOT, "BTCUSDT"): 4} == {key: n for key, n in bench.intake.rows_by_symbol().items() if n}


def test_an_update_without_levels_is_one_row():
    bench = Bench()
    bench.read(message("btcusdt@depth@100ms", e="depthUpdate", E=1, s="BTCUSDT", U=1, u=2, b=[], a=[]))
    assert 1 == bench.health.slot(Market.SPOT, "btcusdt@depth@100ms").rows


@pytest.mark.parametrize(
    ("market", "text"),
    [
        (Market.SPOT, message("btcusdt@bookTicker", u=400900217, s="BTCUSDT", b="25.35", B="31.21", a="1", A="2")),
        (Market.SPOT, message("btcusdt@kline_1m", e="kline", E=1, s="BTCUSDT", k={"t": 0, "x": False})),
        (Market.FUTURES, message("btcusdt@aggTrade", e="aggTrade", E=1, s="BTCUSDT", a=1, p="1", st=1)),
        (Market.FUTURES, message("btcusdt@markPrice@1s", e="markPriceUpdate", E=1, s="BTCUSDT", p="1")),
        (Market.FUTURES, message("btcusdt@forceOrder", e="forceOrder", E=1, o={"s": "BTCUSDT", "S": "SELL"})),
        (Market.SPOT, message("币安usdt@trade", e="trade", E=1, s="币安USDT", t=1)),
        (Market.SPOT, json.dumps(json.loads(GOOD))),
        (Market.SPOT, json.dumps({"data": json.loads(TRADE), "stream": "btcusdt@trade"})),
        (Market.SPOT, '{"stream":"\\u5e01\\u5b89usdt@trade","data":{"e":"trade","E":1,"s":"币安USDT","t":1}}'),
    ],
)
def test_every_documented_form_is_accepted(market, text):
    """Spaces, another order of the keys and escapes are the same message."""
    bench = Bench()
    block, _ = bench.read(text, market=market)
    assert [text.encode()] == block.messages
    assert [] == bench.quarantine.kept


def test_of_two_fields_of_one_name_the_last_is_taken():
    """As the sealer does, so that ids that were counted are those in the files."""
    bench = Bench()
    twice = GOOD.replace('"t":12345', '"t":1,"t":12345').replace('"s":"BTCUSDT"', '"s":"X","s":"BTCUSDT"')
    block, _ = bench.read(twice, NEXT)
    assert [twice.encode(), NEXT.encode()] == block.messages
    assert [] == bench.intake.chains.overdue(1e9)
    assert [] == bench.quarantine.kept


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("malformed", "{"),
        ("malformed", "\ufeff" + GOOD),
        ("malformed", GOOD[:-1]),
        ("malformed", GOOD + "x"),
        ("malformed", "NaN"),
        ("wrong_shape", "[]"),
        ("wrong_shape", GOOD.replace("12345", '"12345"')),
        ("wrong_shape", GOOD.replace("12345", "12345.5")),
        ("wrong_shape", GOOD.replace("12345", str(2**63))),
        ("wrong_shape", GOOD.replace("12345", str(2**80))),
        ("wrong_shape", GOOD.replace("12345", "-1")),
        ("wrong_shape", GOOD.replace('"e":"trade"', '"e":"kline"')),
        ("wrong_shape", GOOD.replace('"t":12345,', "")),
        ("wrong_shape", GOOD.replace("1672515782136", str(2**62))),
        ("symbol_mismatch", GOOD.replace('"BTCUSDT"', '"ETHUSDT"')),
        ("unknown_stream", GOOD.replace("btcusdt@trade", "ethusdt@trade")),
        ("unknown_stream", GOOD.replace("btcusdt@trade", "../../etc")),
        ("too_deep", '{"stream":"btcusdt@trade","data":' + '{"a":' * 5000 + "1" + "}" * 5001),
        ("bad_utf8", GOOD.encode().replace(b"BTCUSDT", b"BTC\xff\xfeSDT")),
    ],
)
def test_what_cannot_be_read_is_kept_with_a_reason_and_costs_its_neighbours_nothing(reason, text):
    """received = accepted + quarantined, and every text is in one of both."""
    bench = Bench()
    block, notices = bench.read(GOOD, text, NEXT)
    assert [GOOD.encode(), NEXT.encode()] == block.messages
    assert [(reason, text if isinstance(text, bytes) else text.encode())] == bench.quarantine.kept
    assert [] == notices
    counts = bench.intake.counts
    assert (3, 2, 1) == (counts.received, counts.accepted, counts.quarantined)


@pytest.mark.parametrize(
    "text",
    [
        '{"result":null,"id":1}',
        '{"result":["btcusdt@trade"],"id":"x"}',
        '{"code":2,"msg":"Invalid request"}',
        '{"error":{"code":2,"msg":"Invalid request"},"id":3}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
        '{"e":"serverShutdown","E":1}',
    ],
)
def test_what_the_server_says_about_itself_goes_back_to_the_connection(text):
    bench = Bench()
    block, notices = bench.read(text)
    assert block is None
    assert [text.encode()] == notices
    assert 1 == bench.intake.counts.notices


def test_what_was_seen_already_is_dropped_and_counted():
    """Once is enough, whichever batch or connection brings it again."""
    bench = Bench()
    block, _ = bench.read(GOOD, GOOD, DEPTH, DEPTH, NEXT)
    assert [GOOD.encode(), DEPTH.encode(), NEXT.encode()] == block.messages
    assert (None, []) == bench.read(GOOD, DEPTH)
    counts = bench.intake.counts
    assert (7, 3, 4) == (counts.received, counts.accepted, counts.duplicates)


def test_what_is_missing_is_noted_beside_the_row_behind_it_and_its_end_beside_the_row_that_brought_it():
    """The note and the row lie in one frame, so that no cut comes between them."""
    bench = Bench()
    block, _ = bench.read(GOOD, GOOD.replace("12345", "12348"), now=5.0)
    assert bytes([Kind.TRADE, Kind.TRADE, NOTE_KIND]) == block.kinds
    note = decode_note(block.messages[2])
    assert ("BTCUSDT", "trade", 12346, 12347) == (note.symbol, note.kind, note.first_id, note.last_id)
    (overdue,) = bench.intake.chains.overdue(5.0)
    assert (12346, 12347) == (overdue.missing.first, overdue.missing.last)
    block, _ = bench.read(GOOD.replace("12345", "12347"), now=6.0)
    assert bytes([Kind.TRADE, NOTE_KIND]) == block.kinds
    note = decode_note(block.messages[1])
    assert ("trade", 12347, 12347, True) == (note.kind, note.first_id, note.last_id, note.was_announced)
    assert sum(map(len, block.messages)) == block.size_bytes


def test_ids_that_start_over_have_an_epoch_of_their_own():
    """Messages before it in the same batch keep theirs."""
    bench = Bench()
    restarted = GOOD.replace("12345", "1").replace("1672515782136", "1672515782137")
    block, _ = bench.read(GOOD, NEXT, restarted)
    assert [0, 0, 1] == block.epochs
    block, _ = bench.read(restarted.replace('"t":1,', '"t":2,'))
    assert [1] == block.epochs


async def test_a_hole_behind_a_broken_connection_has_its_cause():
    bench = Bench()
    bench.read(GOOD)
    plan = ConnectionPlan("spot-1", Market.SPOT, "", "wss://spot.test", tuple(STREAMS[:4]))
    broken, new = bench.intake.open_port(plan, 3), bench.intake.open_port(plan, 4)
    broken.joining(plan.streams)
    broken.close("idle")
    new.joining(plan.streams)
    new.opened()
    bench.read(GOOD.replace("12345", "12350"), now=5.0)
    (overdue,) = bench.intake.chains.overdue(5.0)
    assert ("stall", 4) == (overdue.missing.cause, overdue.connection)


def test_a_late_message_is_counted_with_its_latency():
    """Latency is receive minus event time; spot's bookTicker has no time and is never late."""
    bench = Bench(late_ms=200)
    event_ms = 1_672_515_782_136
    bench.read(GOOD, received_ns=(event_ms + 200) * 1_000_000)
    slot = bench.health.slot(Market.SPOT, "btcusdt@trade")
    assert 0 == slot.late_messages
    bench.read(NEXT, received_ns=(event_ms + 201) * 1_000_000)
    assert (1, 201) == (slot.late_messages, slot.latency_ms)
    bench.read(message("btcusdt@bookTicker", u=1, s="BTCUSDT", b="1", B="1", a="1", A="1"), received_ns=2**62)
    assert 0 == bench.health.slot(Market.SPOT, "btcusdt@bookTicker").late_messages


@pytest.mark.parametrize("offset_ms", [-1400, 1400])
def test_latency_is_by_the_exchanges_clock_once_that_is_measured(offset_ms):
    """Only what is late whatever the uncertainty counts; `receive_time` stays what our clock said."""
    bench = Bench(late_ms=200)
    bench.intake.latency.use(Market.SPOT, ClockOffset(offset_ms, 4.5, 7.0))
    event_ms = 1_672_515_782_136
    bench.read(GOOD, received_ns=(event_ms - offset_ms + 205) * 1_000_000)
    slot = bench.health.slot(Market.SPOT, "btcusdt@trade")
    assert 0 == slot.late_messages
    received_ns = (event_ms - offset_ms + 206) * 1_000_000
    block, _ = bench.read(NEXT, received_ns=received_ns)
    assert (1, 206) == (slot.late_messages, slot.latency_ms)
    assert received_ns == block.received_ns


async def test_a_port_puts_what_it_takes_without_an_await():
    """A cancellation can only fall before a batch is taken in or after it is in the channel."""
    bench = Bench()
    plan = ConnectionPlan("spot-1", Market.SPOT, "", "wss://spot.test", tuple(STREAMS[:4]))
    port = bench.intake.open_port(plan, 3)
    port.joining(plan.streams)
    port.opened()
    assert bench.health.slot(Market.SPOT, "btcusdt@trade").subscribed_at is not None
    await port.wait_room()
    assert [] == port.take(Batch([GOOD.encode()], 1, len(GOOD)))
    assert [GOOD.encode()] == (await bench.receiver.receive()).messages
    port.close("eof")
    assert bench.health.slot(Market.SPOT, "btcusdt@trade").subscribed_at is None
    bench.sender.close()
    with pytest.raises(trio.EndOfChannel):
        bench.receiver.receive_nowait()


@given(st.binary(max_size=60), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_no_text_whatsoever_breaks_the_intake(junk, begin, end):
    """Every text is accepted, a notice, or quarantined."""
    bench = Bench()
    text = GOOD.encode()[:begin] + junk + GOOD.encode()[end:]
    block, notices = bench.read(text)
    assert 1 == len(notices) + len(bench.quarantine.kept) + (len(block.messages) if block else 0)


TEXTS = [
    GOOD.encode(),
    DEPTH.encode(),
    message("btcusdt@bookTicker", u=1, s="BTCUSDT", b="1", B="1", a="1", A="1").encode(),
    GOOD.replace("12345", "-1").encode(),
    GOOD.replace('"BTCUSDT"', '"ETHUSDT"').encode(),
    GOOD.replace("btcusdt@trade", "btcusdt@depth@100ms").encode(),
    GOOD.replace("btcusdt@trade", "ethusdt@trade").encode(),
    GOOD.replace(",", ",\n").encode(),
    GOOD.encode() + b"\n" + GOOD.encode(),
    GOOD.encode()[:70],
    GOOD.encode()[70:],
    b"",
    b"\n",
    b'{"result":null,"id":1}',
]


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6))
def test_messages_are_judged_alike_together_and_one_by_one(texts):
    """Neighbours neither help nor harm a message, though all of them are read in one go where that is possible."""
    together, alone = Bench(), Bench()
    block, notices = together.read(*texts)
    blocks = [(text, *alone.read(text)) for text in texts]
    accepted = [text for text, own, _ in blocks if own is not None]
    assert accepted == (block.messages if block else [])
    assert b"".join(own.kinds for _, own, _ in blocks if own is not None) == (block.kinds if block else b"")
    assert [notice for _, _, own in blocks for notice in own] == notices
    assert sorted(alone.quarantine.kept) == sorted(together.quarantine.kept)
