"""One attempt: what it reads, when it gives up, what it asks for, and that a cancellation leaves nothing open."""

from __future__ import annotations

import functools
import json

import attrs
import pytest
import trio
from trio.testing import MockClock
from wsproto.events import Ping, TextMessage

from streamsvc.batch import Batch
from streamsvc.errors import ConnectionFaultError
from streamsvc.schema import Kind
from streamsvc.streams.connection import Connection
from streamsvc.streams.plan import plan_connections
from streamsvc.venues.binance_spot import BinanceSpot


class Attempt:
    """A connection whose end is kept, in a task of its own."""

    def __init__(self, doubles, exchange, venue, kinds=(Kind.TRADE, Kind.DEPTH), **changes):
        (self.plan,) = plan_connections(venue, ["BTCUSDT"], kinds)
        self.port = doubles.Port()
        self.connection = Connection(
            self.plan, 1, venue=venue, port=self.port, wiring=doubles.wiring(exchange, **changes)
        )
        self.fault = None
        self.ended_after_sec = None

    async def run(self):
        began_at = trio.current_time()
        try:
            await self.connection.run()
        except ConnectionFaultError as fault:
            self.fault = fault
            self.ended_after_sec = trio.current_time() - began_at


@pytest.fixture
def attempt(doubles, exchange, spot):
    return functools.partial(Attempt, doubles, exchange, spot)


async def silent(peer):
    """A peer that accepts and never says anything of its own, nor answers pings."""
    await peer.accept()
    while await peer.hear() is not None:
        pass


async def quiet(peer):
    """A peer that answers pings and is silent otherwise."""
    await peer.accept()
    await peer.answer()


async def test_messages_reach_the_port(autojump_clock, attempt, nursery):
    """In order, after `opened`."""
    it = attempt()
    nursery.start_soon(it.run)
    await trio.sleep(3.5)
    assert (1, [b'{"n":%d}' % n for n in range(4)]) == (it.port.opens, it.port.messages)
    assert it.connection.is_up


async def test_idle(autojump_clock, attempt, exchange):
    """A connection that answers pings and delivers nothing is given up after STREAM_IDLE_SEC."""
    exchange.serve = quiet
    it = attempt(stream_idle_sec=120)
    await it.run()
    assert ("idle", 120) == (it.fault.cause, it.ended_after_sec)


async def test_idle_after_data(autojump_clock, attempt, exchange, nursery):
    """The time counts from the last message."""

    async def serve(peer):
        await peer.accept()
        nursery.start_soon(peer.answer)
        await trio.sleep(50)
        await peer.say('{"n":1}')

    exchange.serve = serve
    it = attempt(stream_idle_sec=120, read_tick_ms=0)
    await it.run()
    assert ("idle", 170) == (it.fault.cause, it.ended_after_sec)


async def test_liquidations_alone_may_be_silent(autojump_clock, doubles, exchange, futures, nursery):
    """`forceOrder` is never idle; pings tell whether the connection lives."""
    exchange.serve = quiet
    it = Attempt(doubles, exchange, futures, [Kind.FORCE_ORDER])
    nursery.start_soon(it.run)
    await trio.sleep(24 * 3600)
    assert it.connection.is_up


async def test_half_open(autojump_clock, attempt, exchange):
    """No byte comes any more and nothing says so: found by a ping."""
    exchange.serve = silent
    it = attempt(ping_interval_sec=20, ping_timeout_sec=10, close_timeout_sec=2)
    await it.run()
    assert ("ping", 20 + 10 + 2) == (it.fault.cause, it.ended_after_sec)


async def test_pings_that_are_not_answered_while_data_flows(autojump_clock, attempt, exchange, nursery):
    """Data is a sign of life as good as a pong."""

    async def serve(peer):
        await peer.accept()
        nursery.start_soon(functools.partial(peer.answer))
        peer.send = ignore
        while True:
            await peer.send_raw(b"\x81\x07" + b'{"n":1}')
            await trio.sleep(1)

    async def ignore(event):
        await trio.lowlevel.checkpoint()

    async def accept_and_serve(peer):
        await peer.accept()
        peer.accept = trio.lowlevel.checkpoint
        await serve(peer)

    exchange.serve = accept_and_serve
    it = attempt()
    nursery.start_soon(it.run)
    await trio.sleep(600)
    assert it.connection.is_up


async def test_no_pings(autojump_clock, attempt, exchange):
    """PING_INTERVAL_SEC=0: none."""
    exchange.serve = quiet
    it = attempt(ping_interval_sec=0)
    await it.run()
    assert "idle" == it.fault.cause
    assert [] == exchange.peers[0].said(Ping)


async def test_disk_stalled_for_15_seconds(autojump_clock, attempt, exchange, nursery):
    """Neither idle nor half-open nor shed: reading waits, and nothing is lost."""
    exchange.has_backpressure = True
    it = attempt(backpressure_sec=20, ping_interval_sec=4, ping_timeout_sec=3, stream_idle_sec=10)
    nursery.start_soon(it.run)
    await trio.sleep(10)
    it.port.room = trio.Event()
    await trio.sleep(15)
    it.port.room.set()
    await trio.sleep(30)
    assert it.fault is None
    assert [b'{"n":%d}' % n for n in range(len(it.port.messages))] == it.port.messages
    assert len(it.port.messages) > 30


async def test_disk_stalled_for_five_minutes(autojump_clock, attempt, exchange, nursery):
    """After BACKPRESSURE_SEC the connection is closed on purpose, and what was read is counted as shed."""
    exchange.has_backpressure = True
    it = attempt(backpressure_sec=20)
    it.port.room = trio.Event()
    await it.run()
    assert ("shed", 20) == (it.fault.cause, round(it.ended_after_sec))
    assert [] == it.port.messages
    assert [b'{"n":0}', b'{"n":1}'] == it.port.shed_messages[:2]


async def test_what_is_read_at_a_tick_does_not_overtake_what_waits_for_room(autojump_clock, attempt, nursery):
    """There is room again, and the task that waited for it has not run yet."""
    it = attempt()
    it.port.room = trio.Event()
    nursery.start_soon(it.run)
    await trio.sleep(5)
    it.port.room.set()
    assert it.port.has_room
    assert not it.connection._take_at_once(Batch([b'{"n":99}'], 0, 8))
    await trio.sleep(0.1)
    assert b'{"n":0}' == it.port.messages[0]


async def test_cancelled_while_there_is_no_room(autojump_clock, attempt):
    """Received = taken + shed, also at a shutdown."""
    it = attempt()
    it.port.room = trio.Event()
    with trio.move_on_after(5):
        await it.run()
    assert [b'{"n":0}', b'{"n":1}'] == it.port.shed_messages[:2]


async def test_replace(autojump_clock, attempt, nursery):
    """The connection ends with cause `repair`; asking again while it ends does nothing."""
    it = attempt()
    assert not it.connection.replace()
    nursery.start_soon(it.run)
    await trio.sleep(1)
    assert [True, False] == [it.connection.replace(), it.connection.replace()]
    await trio.sleep(1)
    assert "repair" == it.fault.cause


def requests_of(peer):
    return [json.loads(event.data) for event in peer.said(TextMessage)]


async def test_resubscribe(autojump_clock, attempt, doubles, exchange, nursery):
    """UNSUBSCRIBE, its answer, SUBSCRIBE, its answer; then another repair may be asked for."""

    async def answer(peer, text):
        await peer.say(json.dumps({"result": None, "id": json.loads(text)["id"]}))

    exchange.serve = functools.partial(doubles.flow, on_text=answer)
    it = attempt()
    name = it.plan.streams[0].name
    assert not it.connection.resubscribe(name)
    nursery.start_soon(it.run)
    await trio.sleep(1)
    assert [True, False] == [it.connection.resubscribe(name), it.connection.resubscribe(name)]
    assert not it.connection.resubscribe("nobody@trade")
    await trio.sleep(3)
    expected = [
        {"method": method, "params": [name], "id": n} for n, method in enumerate(("UNSUBSCRIBE", "SUBSCRIBE"), 1)
    ]
    assert expected == requests_of(exchange.peers[0])
    assert it.connection.resubscribe(name)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        '{"code":2,"msg":"Invalid request: unknown property"}',
        '{"error":{"code":2,"msg":"no"},"id":%d}',
        '{"result":null,"id":99}',
        '{"result":null,"id":"1"}',
        "not json",
    ],
)
async def test_answers_that_are_none(autojump_clock, attempt, doubles, exchange, *, nursery, answer):
    """No answer, an error, another id, rubbish: asked again a few times, within the budget; the connection stays."""

    async def reply(peer, text):
        if answer is not None:
            await peer.say(answer.replace("%d", str(json.loads(text)["id"])))

    exchange.serve = functools.partial(doubles.flow, on_text=reply)
    it = attempt()
    nursery.start_soon(it.run)
    await trio.sleep(1)
    it.connection.resubscribe(it.plan.streams[0].name)
    await trio.sleep(120)
    requests = requests_of(exchange.peers[0])
    assert ["UNSUBSCRIBE"] * 3 + ["SUBSCRIBE"] * 3 == [request["method"] for request in requests]
    assert it.connection.is_up


async def test_our_messages_stay_within_the_budget(autojump_clock, doubles, exchange, spot, nursery):
    """Pings, pongs and requests together, over any second, though the exchange floods us and 300 repairs are asked."""

    async def answer(peer, text):
        await peer.say(json.dumps({"result": None, "id": json.loads(text)["id"]}))

    async def serve(peer):
        await peer.accept()
        nursery.start_soon(peer.answer, answer)
        while True:
            await peer.send(Ping(payload=b"x"))
            await trio.sleep(0.01)

    exchange.serve = serve
    it = Attempt(doubles, exchange, spot, ping_interval_sec=1, ping_timeout_sec=1)
    it.plan = plan_connections(spot, [f"S{n}USDT" for n in range(300)], [Kind.TRADE])[0]
    it.connection = Connection(
        it.plan, 1, venue=spot, port=it.port, wiring=doubles.wiring(exchange, ping_interval_sec=1, ping_timeout_sec=1)
    )
    nursery.start_soon(it.run)
    await trio.sleep(1)
    for stream in it.plan.streams:
        it.connection.resubscribe(stream.name)
    await trio.sleep(30)
    heard = [time for time, event in exchange.peers[0].heard[1:]]
    per_sec = spot.limits.messages_per_sec
    assert len(heard) > 60
    assert all(late - early > 1 for early, late in zip(heard, heard[per_sec:], strict=False))


async def test_hundreds_of_streams_that_come_and_go(autojump_clock, attempt, doubles, exchange, *, spot, nursery):
    """Few requests, within the budget; what ends makes room first, so that the exchange never has too many at once."""
    kept = plan_connections(spot, [f"S{n}USDT" for n in range(1000)], [Kind.TRADE])[0].streams
    carried, most = set(), []

    async def answer(peer, text):
        request = json.loads(text)
        change = carried.update if request["method"] == "SUBSCRIBE" else carried.difference_update
        change(request["params"])
        most.append(len(carried))
        await peer.say(json.dumps({"result": None, "id": request["id"]}))

    async def serve(peer):
        await peer.accept()
        carried.update(peer.target.rpartition("=")[2].split("/"))
        await peer.answer(answer)

    exchange.serve = serve
    it = attempt()
    it.plan = attrs.evolve(it.plan, streams=kept[:300])
    it.connection = Connection(it.plan, 1, venue=spot, port=it.port, wiring=doubles.wiring(exchange))
    nursery.start_soon(it.run)
    await trio.sleep(1)
    new = [spot.stream(f"N{n}USDT", Kind.TRADE) for n in range(900)]
    it.connection.aim([*kept[:100], *new])
    await trio.sleep(20)
    expected = {stream.name for stream in (*kept[:100], *new)}
    assert expected == carried == set(it.port.carried)
    heard = [at for at, event in exchange.peers[0].heard if isinstance(event, TextMessage)]
    assert 2 + 9 == len(heard)
    per_sec = spot.limits.messages_per_sec
    assert all(late - early > 1 for early, late in zip(heard, heard[per_sec:], strict=False))
    assert spot.limits.streams_per_connection >= max(most)
    assert it.connection.is_up


async def test_a_change_before_the_connection_stands(autojump_clock, attempt, exchange, spot, nursery):
    """The URL has been sent: what is another is asked for as soon as that can be."""
    texts = []

    async def answer(peer, text):
        request = json.loads(text)
        texts.append((request["method"], request["params"]))
        await peer.say(json.dumps({"result": None, "id": request["id"]}))

    async def serve(peer):
        await trio.sleep(5)
        await peer.accept()
        await peer.answer(answer)

    exchange.serve = serve
    it = attempt()
    nursery.start_soon(it.run)
    await trio.sleep(2)
    it.connection.aim([it.plan.streams[0], spot.stream("ETHUSDT", Kind.TRADE)])
    await trio.sleep(10)
    assert [("UNSUBSCRIBE", ["btcusdt@depth@100ms"]), ("SUBSCRIBE", ["ethusdt@trade"])] == texts
    assert ["btcusdt@trade", "ethusdt@trade"] == it.port.carried


async def test_server_shutdown(autojump_clock, attempt, exchange, nursery):
    """The notice is heard, and the connection left to its end."""

    async def serve(peer):
        await peer.accept()
        await peer.say('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}')
        await peer.say('{"n":1}')
        await trio.sleep(10)
        await peer.stream.aclose()

    exchange.serve = serve
    it = attempt(read_tick_ms=0)
    await it.run()
    assert (10, "eof") == (it.ended_after_sec, it.fault.cause)
    assert b'{"n":1}' in it.port.messages


async def test_first_message_that_is_awaited_less_long(autojump_clock, attempt, exchange, nursery):
    """While the route is a guess the first message has less time; answers to requests do not count as one."""

    async def serve(peer):
        await peer.accept()
        nursery.start_soon(peer.answer)
        await trio.sleep(30)
        await peer.say('{"result":null,"id":7}')

    exchange.serve = serve
    it = attempt(stream_idle_sec=120)
    it.connection.first_message_sec = 60
    await it.run()
    assert ("idle", 60, None) == (it.fault.cause, it.ended_after_sec, it.connection.delivered_at)


async def test_unexpected_error_in_the_port(autojump_clock, attempt):
    """It is no fault of the connection: it comes out."""
    it = attempt()

    def take(batch):
        raise ZeroDivisionError

    it.port.take = take
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await it.run()


class CancelAt(trio.abc.Instrument):
    """Cancels a scope before the k-th step of any task but the exchange's."""

    def __init__(self, step, scope):
        self.left = step
        self.scope = scope

    def before_task_step(self, task):
        if "_serve" not in task.name and not self.scope.cancel_called:
            self.left -= 1
            if not self.left:
                self.scope.cancel()


def run_and_cancel_at(step, doubles, venue, contexts):
    """Run a connection with everything that it does, cancelled at a step; returns whether that step was reached."""

    async def main():
        async with trio.open_nursery() as nursery:
            exchange = doubles.Exchange(nursery)
            exchange.server_context, exchange.client_context = contexts

            async def answer(peer, text):
                await peer.say(json.dumps({"result": None, "id": json.loads(text)["id"]}))

            async def serve(peer):
                flowing = functools.partial(doubles.until_hung_up, doubles.flow, peer, on_text=answer)
                nursery.start_soon(flowing, name="_serve")
                await trio.sleep(4.5)
                await peer.send_raw(b"\x88\x00")

            exchange.serve = serve
            it = Attempt(doubles, exchange, venue, ping_interval_sec=2, ping_timeout_sec=1, close_timeout_sec=1)
            with trio.CancelScope() as scope:
                trio.lowlevel.add_instrument(instrument := CancelAt(step, scope))
                async with trio.open_nursery() as inner:
                    inner.start_soon(it.run)
                    await trio.sleep(1.5)
                    it.connection.resubscribe(it.plan.streams[0].name)
                trio.lowlevel.remove_instrument(instrument)
            assert [True] * len(exchange.streams) == [stream.is_closed for stream in exchange.streams]
            took = it.port.messages + it.port.shed_messages
            notices = [text for text in took if b'"n"' not in text]
            assert [b'{"n":%d}' % n for n in range(len(took) - len(notices))] == [t for t in took if t not in notices]
            nursery.cancel_scope.cancel()
        return scope.cancelled_caught

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_cancelled_at_every_step(doubles, contexts, scheme):
    """Whatever is under way, the stream is closed and every message read is taken or counted, in order."""
    step = 1
    chosen = contexts if scheme == "wss" else (None, None)
    while run_and_cancel_at(step, doubles, BinanceSpot(f"{scheme}://exchange.test:9443"), chosen):
        step += 1
    assert step > 100
