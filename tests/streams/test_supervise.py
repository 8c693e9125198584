"""The stream nursery under Trio's clock: retries, budget, routes, and that one fault stops nobody else."""

from __future__ import annotations

import functools
import itertools
from types import SimpleNamespace

import pytest
import trio

from streamsvc.schema import Kind, Market
from streamsvc.streams.attempts import memory_budget
from streamsvc.streams.plan import plan_connections
from streamsvc.streams.supervise import Supervisor


class Run:
    """A supervisor with its exchange and all ports that it opened."""

    def __init__(self, doubles, exchange, venue, *, symbols=("BTCUSDT",), kinds=(Kind.TRADE,), **changes):
        self.ports = []
        self.doubles = doubles
        self.exchange = exchange
        self.plans = plan_connections(venue, symbols, kinds)
        self.supervisor = Supervisor(
            self.plans,
            venues={venue.market: venue},
            open_port=self.open_port,
            open_budget=memory_budget,
            wiring=doubles.wiring(exchange, **changes),
        )

    def open_port(self, plan, number):
        self.ports.append(self.doubles.Port(plan, number))
        return self.ports[-1]

    def causes(self):
        return [cause for port in self.ports for cause in port.causes]


@pytest.fixture
def run(doubles, exchange, spot):
    return functools.partial(Run, doubles, exchange, spot)


def one_connection_each(venue, count):
    """A venue whose connections carry one stream, and as many symbols."""
    limits = type(venue.limits)(streams_per_connection=1, url_bytes=8000, messages_per_sec=5)
    return type(venue)(venue.base_url, limits=limits), [f"S{n}USDT" for n in range(count)]


def most_within(times, seconds):
    """The highest count of times within any window that long, its ends included."""
    first = 0
    most = 0
    for last, time in enumerate(times):
        while time - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


async def cut_after(peer, *, seconds):
    """Accept, deliver one message, and hang up without a word after a while."""
    await peer.accept()
    await peer.say('{"n":0}')
    await trio.sleep(seconds)
    await peer.stream.aclose()


async def test_up_and_running(autojump_clock, run, nursery):
    """Ready when the first attempt has succeeded; what comes goes into the port of that attempt."""
    it = run()
    began_at = trio.current_time()
    await nursery.start(it.supervisor.run)
    assert began_at == trio.current_time()
    await trio.sleep(2.5)
    statistics = it.supervisor.statistics()
    assert (1, 1, 0) == (statistics.up, statistics.attempts, statistics.reconnects)
    assert ("up", began_at, 1) == (
        statistics.connections["spot-1"].state,
        statistics.connections["spot-1"].up_since,
        statistics.connections["spot-1"].streams,
    )
    assert [b'{"n":0}', b'{"n":1}', b'{"n":2}'] == it.ports[0].messages


async def test_exchange_that_is_down(autojump_clock, run, exchange, nursery):
    """Ready after the first failure; attempts go on for ever, spread ever wider up to RECONNECT_MAX_SEC."""
    exchange.refuse = ConnectionRefusedError("refused")
    it = run(reconnect_min_sec=1, reconnect_max_sec=60)
    began_at = trio.current_time()
    await nursery.start(it.supervisor.run)
    assert began_at == trio.current_time()
    await trio.sleep(6 * 3600)
    dials = exchange.dials
    gaps = [late - early for early, late in itertools.pairwise(dials)]
    assert 6 * 3600 / 60 < len(dials) < 6 * 3600 / 20
    assert max(gaps) <= 60.1
    assert max(gaps[:3]) <= 4.1
    exchange.refuse = None
    await trio.sleep(61)
    assert 1 == it.supervisor.statistics().up
    assert ["refused"] * (len(it.ports) - 1) == it.causes()


async def test_first_attempt_that_hangs(autojump_clock, run, exchange, nursery):
    """Ready is not said before the first attempt has come to something, and that takes CONNECT_TIMEOUT_SEC at most."""

    async def serve(peer):
        await trio.sleep_forever()

    exchange.serve = serve
    it = run(connect_timeout_sec=20)
    began_at = trio.current_time()
    await nursery.start(it.supervisor.run)
    assert 20 == trio.current_time() - began_at


async def test_flapping(autojump_clock, run, exchange, nursery):
    """A life of one second does not start the waits over; the budget is kept, a thousand times."""
    exchange.serve = functools.partial(cut_after, seconds=1)
    it = run(reconnect_min_sec=1, reconnect_max_sec=60, stable_sec=60)
    await nursery.start(it.supervisor.run)
    await trio.sleep(10 * 3600)
    assert len(exchange.dials) > 1000
    gaps = [late - early for early, late in itertools.pairwise(exchange.dials)]
    assert 25 < sum(gaps[10:]) / len(gaps[10:]) < 37
    assert most_within(exchange.dials, 300) <= 300
    assert {"eof"} == set(it.causes())
    assert all(port.causes for port in it.ports[:-1])


async def test_stable_connection_starts_the_waits_over(autojump_clock, run, doubles, exchange, nursery):
    """After a life of STABLE_SEC with data the next wait is a short one."""
    exchange.refuse = OSError("down")
    it = run(reconnect_min_sec=1, reconnect_max_sec=60, stable_sec=60)
    await nursery.start(it.supervisor.run)
    await trio.sleep(3600)

    async def serve(peer):
        with trio.move_on_after(70):
            await doubles.flow(peer)
        await peer.stream.aclose()

    exchange.refuse, exchange.serve = None, serve
    await trio.sleep(600)
    up_for_sec = 70
    gaps = [late - early for early, late in itertools.pairwise(exchange.dials[-4:])]
    assert max(gaps) < up_for_sec + 3


async def test_silent_life_is_not_stable(autojump_clock, run, exchange, nursery):
    """A connection that lives long and delivers nothing does not start the waits over."""

    async def serve(peer):
        await peer.accept()
        await peer.answer()

    exchange.serve = serve
    it = run(reconnect_min_sec=1, reconnect_max_sec=600, stable_sec=60, stream_idle_sec=120)
    await nursery.start(it.supervisor.run)
    await trio.sleep(12 * 3600)
    gaps = [late - early - 120 for early, late in itertools.pairwise(exchange.dials)]
    assert max(gaps) > 300


async def test_a_hundred_connections_dropped_at_once(autojump_clock, doubles, exchange, spot, nursery):
    """At most 60 attempts a minute and 300 in any five minutes, again and again, for hours; all come back."""
    venue, symbols = one_connection_each(spot, 100)
    serve_until = trio.Event()

    async def serve(peer):
        dropped = serve_until
        await peer.accept()
        nursery.start_soon(peer.answer)
        await peer.say('{"n":0}')
        await dropped.wait()
        await peer.stream.aclose()

    exchange.serve = serve
    it = Run(doubles, exchange, venue, symbols=symbols, stream_idle_sec=86400, ping_interval_sec=0)
    await nursery.start(it.supervisor.run)
    for _ in range(4):
        await trio.sleep(900)
        assert 100 == it.supervisor.statistics().up
        dropped, serve_until = serve_until, trio.Event()
        dropped.set()
    await trio.sleep(900)
    assert 100 == it.supervisor.statistics().up
    assert 500 == len(exchange.dials)
    assert most_within(exchange.dials, 60) <= 60
    assert most_within(exchange.dials, 300) <= 300
    assert min(late - early for early, late in itertools.pairwise(exchange.dials)) >= 0.049


async def test_ready_while_the_budget_is_used_up(autojump_clock, doubles, exchange, spot, nursery):
    """Connections that the budget holds back are not waited for."""
    venue, symbols = one_connection_each(spot, 100)
    it = Run(doubles, exchange, venue, symbols=symbols)
    began_at = trio.current_time()
    await nursery.start(it.supervisor.run)
    assert 5 > trio.current_time() - began_at
    assert 60 == it.supervisor.statistics().up


async def test_ban(autojump_clock, doubles, exchange, spot, nursery):
    """After a 418 no connection dials before Retry-After is over."""
    venue, symbols = one_connection_each(spot, 10)

    async def serve(peer):
        await peer.hear()
        await peer.send_raw(b"HTTP/1.1 418 I'm a teapot\r\nRetry-After: 600\r\n\r\n")

    exchange.serve = serve
    it = Run(doubles, exchange, venue, symbols=symbols)
    await nursery.start(it.supervisor.run)
    await trio.sleep(590)
    assert 1 == len(exchange.dials)
    exchange.serve = doubles.flow
    await trio.sleep(60)
    assert 10 == it.supervisor.statistics().up


@pytest.mark.parametrize("status", [403, 451])
async def test_not_welcome(autojump_clock, run, exchange, nursery, status):
    """A firewall is asked rarely."""

    async def serve(peer):
        await peer.hear()
        await peer.send_raw(b"HTTP/1.1 %d No\r\n\r\n" % status)

    exchange.serve = serve
    it = run(reconnect_max_sec=60)
    await nursery.start(it.supervisor.run)
    await trio.sleep(3600)
    assert 12 <= len(exchange.dials) <= 25


async def test_shed_connection_comes_back_when_there_is_room(autojump_clock, run, nursery):
    """While the disk stands still nobody dials; then recording goes on."""
    it = run(backpressure_sec=20)
    stalled = trio.Event()
    open_port = it.open_port

    def open_stalled_port(plan, number):
        port = open_port(plan, number)
        port.room = stalled
        return port

    it.supervisor._open_port = open_stalled_port
    await nursery.start(it.supervisor.run)
    await trio.sleep(300)
    assert 1 == len(it.exchange.dials)
    assert ["shed"] == it.causes()
    stalled.set()
    await trio.sleep(10)
    assert [2, 1] == [len(it.exchange.dials), it.supervisor.statistics().up]
    assert len(it.ports[1].messages) > 5


async def test_wrong_route(autojump_clock, doubles, exchange, futures, nursery):
    """The trade stream changes its route until it flows, and stays there over reconnects."""

    async def serve(peer):
        with trio.move_on_after(500):
            await peer.accept()
            async with trio.open_nursery() as inner:
                inner.start_soon(peer.answer)
                while True:
                    if peer.target.startswith("/market/"):
                        await peer.say('{"n":0}')
                    await trio.sleep(1)
        await peer.stream.aclose()

    exchange.serve = serve
    it = Run(doubles, exchange, futures, kinds=[Kind.TRADE], first_message_sec=60)
    assert ["futures-trade-1"] == [plan.name for plan in it.plans]
    await nursery.start(it.supervisor.run)
    await trio.sleep(2000)
    routes = [peer.target.split("/")[1] for peer in exchange.peers]
    assert ["public"] + ["market"] * (len(routes) - 1) == routes
    assert len(routes) >= 4
    assert "market" == it.supervisor.statistics().connections["futures-trade-1"].route


async def test_route_that_has_proved_itself(autojump_clock, doubles, exchange, futures, nursery):
    """Silence for once does not make us leave it; three silent connections in a row do."""
    is_silent = False

    async def serve(peer):
        await peer.accept()
        if not is_silent:
            await peer.say('{"n":0}')
        await peer.answer()

    exchange.serve = serve
    it = Run(doubles, exchange, futures, kinds=[Kind.TRADE], first_message_sec=60, stream_idle_sec=120)
    await nursery.start(it.supervisor.run)
    await trio.sleep(1000)
    assert {"public"} == {peer.target.split("/")[1] for peer in exchange.peers}
    is_silent, before = True, len(exchange.peers)
    await trio.sleep(1500)
    routes = [peer.target.split("/")[1] for peer in exchange.peers[before:]]
    assert ["public", "public", "public", "market"] == routes[:4]


async def test_replace_and_resubscribe_reach_the_right_connection(autojump_clock, doubles, exchange, spot, nursery):
    """A repair touches the stream's connection and no other; where it is not up, nothing is promised."""
    venue, symbols = one_connection_each(spot, 3)
    it = Run(doubles, exchange, venue, symbols=symbols)
    stream = it.plans[1].streams[0]
    assert [False, False] == [it.supervisor.resubscribe(stream), it.supervisor.replace(stream)]
    await nursery.start(it.supervisor.run)
    await trio.sleep(1)
    assert [True, False] == [it.supervisor.resubscribe(stream), it.supervisor.resubscribe(stream)]
    assert [True, False] == [it.supervisor.replace(stream), it.supervisor.replace(stream)]
    await trio.sleep(30)
    assert ["repair"] == it.causes()
    assert [1, 2, 1] == [it.supervisor.statistics().connections[plan.name].attempts for plan in it.plans]
    assert not it.supervisor.replace(venue.stream("NOBODY", Kind.TRADE))


async def test_a_fault_of_one_stops_no_other(autojump_clock, doubles, exchange, spot, nursery):
    """While one connection breaks the protocol over and over its neighbour flows."""
    venue, symbols = one_connection_each(spot, 2)

    async def serve(peer):
        if "s1usdt" not in peer_target(await accepted(peer)):
            await doubles.flow(peer)
        await peer.send_raw(b"\xff" * 100)
        await peer.answer()

    async def accepted(peer):
        await peer.accept()
        peer.accept = trio.lowlevel.checkpoint
        return peer

    def peer_target(peer):
        return peer.target

    exchange.serve = serve
    it = Run(doubles, exchange, venue, symbols=symbols)
    await nursery.start(it.supervisor.run)
    await trio.sleep(600)
    good = [port for port in it.ports if port.plan.name == "spot-1"]
    assert [1] == [len(good)]
    assert len(good[0].messages) >= 599
    assert {"protocol"} == set(it.causes())


async def test_unexpected_error_ends_the_nursery(autojump_clock, run):
    """It is not retried: it comes out, and the port is closed with cause `crash`."""
    it = run()

    def broken(plan, number):
        port = Run.open_port(it, plan, number)
        port.take = lambda _: 1 / 0
        return port

    it.supervisor._open_port = broken
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await it.supervisor.run()
    assert ["crash"] == it.causes()


async def test_shutdown(autojump_clock, doubles, exchange, spot):
    """Cancelled, every connection says goodbye and every port is closed."""
    venue, symbols = one_connection_each(spot, 5)
    it = Run(doubles, exchange, venue, symbols=symbols)
    with trio.move_on_after(10):
        await it.supervisor.run()
    assert ["shutdown"] * 5 == it.causes()
    assert [True] * 5 == [stream.is_closed for stream in exchange.streams]
    assert 0 == it.supervisor.statistics().up


async def test_numbers_of_attempts_are_unique(autojump_clock, doubles, exchange, spot, nursery):
    """The journal tells attempts apart by them."""
    venue, symbols = one_connection_each(spot, 5)
    exchange.serve = functools.partial(cut_after, seconds=1)
    it = Run(doubles, exchange, venue, symbols=symbols)
    await nursery.start(it.supervisor.run)
    await trio.sleep(300)
    numbers = [port.number for port in it.ports]
    assert list(range(1, len(numbers) + 1)) == sorted(numbers)


def test_markets_with_one_exchange_share_its_budget(doubles, spot, futures):
    """The budget is the address's, so one base URL has one."""
    made = []

    def open_budget(venue):
        made.append(venue)
        return memory_budget(venue)

    plans = plan_connections(spot, ["A"], [Kind.TRADE]) + plan_connections(futures, ["A"], [Kind.TRADE])
    supervisor = Supervisor(
        plans,
        venues={Market.SPOT: spot, Market.FUTURES: futures},
        open_port=lambda *_: None,
        open_budget=open_budget,
        wiring=doubles.wiring(SimpleNamespace(dial=None, wall_ns=None, client_context=None)),
    )
    assert supervisor._lines[0].budget is supervisor._lines[1].budget
