"""The exchange: its markets, the connections it serves, and the faults it commits on command."""

from __future__ import annotations

import itertools
import math
import time
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from streamsvc.simulator.faults import OVERSIZE_BYTES, garbage_frames
from streamsvc.simulator.frames import PING, frame
from streamsvc.simulator.http import Answer, serve_http
from streamsvc.simulator.hub import StreamFault
from streamsvc.simulator.ledger import Ledger
from streamsvc.simulator.market import Activity
from streamsvc.simulator.options import default_options
from streamsvc.simulator.transport import (
    GOODBYE_TIMEOUT_SEC,
    PeerGoneError,
    PlainTransport,
    TlsTransport,
)
from streamsvc.simulator.venue import DoorFault, RestFault, Venue

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    from streamsvc.schema import Market
    from streamsvc.simulator.faults import Corruption, Garbage
    from streamsvc.simulator.hub import Channel, ReplyFault
    from streamsvc.simulator.options import MarketOptions
    from streamsvc.simulator.session import CutMode, Session, SessionInfo
    from streamsvc.simulator.sources import Source

HANDSHAKE_TIMEOUT_SEC = 30.0


class Exchange:
    """A simulated exchange with one venue a market.

    Every fault is a method that acts at once, without an await. Where a method takes `stream` or `connection`, it acts
    on the connections that hear that stream (any way of writing its name), or on that one; without both on all of the
    market's. Faults that last end with their counterpart or with `lift`.

    Args:
        sources: One a market.
        options: Rules; the exchange's own where a market is not named.
        wall_ns: The clock, in ns since 1970; it must keep the pace of Trio's.
        is_logging: Keep every payload sent in `ledger.log`, for tests.

    Attributes:
        ledger: What was produced, sent, withheld.
        venues: By market.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        options: Mapping[Market, MarketOptions] | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
        is_logging: bool = False,
    ) -> None:
        self.ledger = Ledger(is_logging)
        rules = options or {}
        numbers = itertools.count(1)
        self.venues = {
            source.market: Venue(
                source,
                rules.get(source.market, default_options(source.market)),
                self.ledger,
                now_us=lambda: wall_ns() // 1000,
                numbers=numbers,
            )
            for source in sources
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Move the markets on, until their sources have nothing more. `serve` does it by itself."""
        async with trio.open_nursery() as nursery:
            for venue in self.venues.values():
                nursery.start_soon(venue.run)
            task_status.started()

    async def serve_stream(
        self,
        market: Market,
        stream: trio.abc.HalfCloseableStream,
        *,
        peer: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Serve one client over any trio stream, and close it.

        Args:
            market: Which venue answers.
            stream: A socket's, or one end of a pair in memory.
            peer: The address to which budgets belong.
            tls: The server's context; None: plain.
        """
        venue = self.venues[market]
        transport: PlainTransport | TlsTransport
        transport = PlainTransport(stream) if tls is None else TlsTransport(stream, tls)
        try:
            while venue.door.is_stalled:
                await venue.door_changed.wait()
            if isinstance(transport, TlsTransport):
                with trio.move_on_after(HANDSHAKE_TIMEOUT_SEC) as scope:
                    await transport.handshake()
                if scope.cancelled_caught:
                    return
            await serve_http(transport, peer, partial(venue.handle, transport))
        except PeerGoneError:
            pass  # Clients come and go.
        finally:
            with trio.move_on_after(GOODBYE_TIMEOUT_SEC, shield=True):
                await transport.aclose()

    def connections(
        self, market: Market | None = None, *, stream: str | None = None, connection: int | None = None
    ) -> list[SessionInfo]:
        """The open connections."""
        markets = self.venues if market is None else [market]
        return [session.info() for one in markets for session in self._chosen(one, stream, connection)]

    async def wait_subscribed(self, market: Market, streams: Iterable[str]) -> None:
        """Wait until each of these streams is heard by somebody."""
        hub = self.venues[market].hub
        for name in streams:
            await hub.wait_heard(name)

    async def wait_done(self, market: Market) -> None:
        """Wait until a recording has come to its end and every queue is empty."""
        venue = self.venues[market]
        await venue.done.wait()
        await venue.hub.wait_empty()

    def begin(self, market: Market) -> None:
        """Let a market move that waits to be told."""
        self.venues[market].told.set()

    # Connections

    def cut(
        self,
        market: Market,
        mode: CutMode = "rst",
        *,
        stream: str | None = None,
        connection: int | None = None,
    ) -> int:
        """End connections without a close frame: with a RST, or with a FIN behind what the transport already has.

        Returns:
            How many, as all faults of connections do.
        """
        return self._each(market, stream, connection, lambda session: session.cut(mode))

    def close(
        self,
        market: Market,
        code: int = 1001,
        reason: str = "",
        *,
        stream: str | None = None,
        connection: int | None = None,
    ) -> int:
        """End connections with a close frame."""
        return self._each(market, stream, connection, lambda session: session.close(code, reason))

    def freeze(self, market: Market, *, stream: str | None = None, connection: int | None = None) -> int:
        """Keep connections open without a byte, not even pongs; messages meant for them are withheld."""
        return self._each(market, stream, connection, lambda session: session.freeze())

    def thaw(self, market: Market, *, stream: str | None = None, connection: int | None = None) -> int:
        """End a freeze."""
        return self._each(market, stream, connection, lambda session: session.thaw())

    def lag(self, market: Market, seconds: float, *, stream: str | None = None, connection: int | None = None) -> int:
        """Send everything later by so much, or by up to twice as much; 0 ends that."""
        return self._each(market, stream, connection, lambda session: setattr(session, "lag_sec", seconds))

    def shut_down(
        self,
        market: Market,
        after_sec: float = 10.0,
        *,
        stream: str | None = None,
        connection: int | None = None,
    ) -> int:
        """Send `serverShutdown` now, and close with 1001 after a while."""
        return self._each(market, stream, connection, lambda session: session.shut_down(after_sec))

    def ping_flood(
        self, market: Market, count: int, *, stream: str | None = None, connection: int | None = None
    ) -> int:
        """Send pings, all at once."""
        pings = b"".join(frame(b"%d" % number, PING) for number in range(count))
        return self._each(market, stream, connection, lambda session: session.put_frame(pings))

    def garbage(
        self,
        market: Market,
        kind: Garbage,
        *,
        size_bytes: int = OVERSIZE_BYTES,
        stream: str | None = None,
        connection: int | None = None,
    ) -> int:
        """Send frames that break a rule (`faults.Garbage`)."""
        frames = garbage_frames(kind, size_bytes)
        return self._each(market, stream, connection, lambda session: session.put_frame(frames))

    def send_text(
        self, market: Market, text: bytes, *, stream: str | None = None, connection: int | None = None
    ) -> int:
        """Send any text as a message."""
        return self._each(market, stream, connection, lambda session: session.put_frame(frame(text)))

    # Streams

    def mute(self, market: Market, stream: str, *, connection: int | None = None) -> None:
        """Withhold all messages of a stream, ids are consumed; with `connection`, of that one alone."""
        if connection is None:
            self._fault(market, stream).is_muted = True
            return
        record = self._channel(market, stream).record
        self._each(market, None, connection, lambda session: session.muted.add(record))

    def unmute(self, market: Market, stream: str) -> None:
        """End that, on all connections."""
        channel = self._channel(market, stream)
        self._each(market, None, None, lambda session: session.muted.discard(channel.record))
        if channel.fault is not None:
            channel.fault.is_muted = False
            if channel.fault.is_over:
                channel.fault = None

    def drop(self, market: Market, stream: str, count: int = 1) -> None:
        """Withhold the next messages of a stream."""
        self._fault(market, stream).drop += count

    def duplicate(self, market: Market, stream: str, count: int = 1) -> None:
        """Send the next messages of a stream twice."""
        self._fault(market, stream).duplicate += count

    def reorder(self, market: Market, stream: str, count: int = 2) -> None:
        """Collect the next messages of a stream, and send them backwards."""
        self._fault(market, stream).reorder += count

    def corrupt(self, market: Market, stream: str, count: int = 1, how: Corruption = "truncated") -> None:
        """Damage the next messages of a stream; their ids count as withheld."""
        fault = self._fault(market, stream)
        fault.corrupt += count
        fault.corruption = how

    def fragment(self, market: Market, stream: str, count: int = 1) -> None:
        """Send the next messages of a stream in two fragments each, which is allowed."""
        self._fault(market, stream).fragment += count

    def fail_replies(self, market: Market, how: ReplyFault, count: int = 1) -> None:
        """Answer the next SUBSCRIBEs and the like with an error, with silence, or with a wrong id."""
        self.venues[market].hub.reply_faults.extend([how] * count)

    # REST

    def delay_rest(self, market: Market, seconds: float, *, path: str = "", count: float = math.inf) -> None:
        """Answer REST requests late, those whose path holds `path`."""
        self.venues[market].rest_faults.append(RestFault(path, None, seconds, count))

    def fail_rest(  # noqa: PLR0913 - an answer and whose
        self,
        market: Market,
        status: int,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        *,
        path: str = "",
        count: float = math.inf,
    ) -> None:
        """Answer REST requests with this, those whose path holds `path`."""
        self.venues[market].rest_faults.append(RestFault(path, Answer(status, body, headers), 0.0, count))

    def ban(self, market: Market, seconds: float, address: str = "127.0.0.1") -> None:
        """Ban an address from REST (418)."""
        self.venues[market].rest.ban(address, seconds)

    def change_symbol(
        self, market: Market, symbol: str, *, status: str | None = None, tick_size: str | None = None
    ) -> None:
        """Say in `exchangeInfo` from now on that a symbol has another status or tick size."""
        changes = {"status": status, "tick_size": tick_size}
        self.venues[market].rest.change_symbol(
            symbol, **{name: value for name, value in changes.items() if value is not None}
        )

    def list_symbol(
        self, market: Market, symbol: str, *, trades_per_sec: float = 5.0, quotes_per_sec: float = 20.0
    ) -> None:
        """Open the market of a symbol that there is not, or not any more, in a synthetic market.

        Who has subscribed to its streams already hears them from now on. One that was delisted keeps its activity.
        """
        self.venues[market].list_symbol(symbol, Activity(trades_per_sec, quotes_per_sec))

    def delist_symbol(self, market: Market, symbol: str, *, is_absent: bool = False) -> None:
        """Close the market of a symbol: its streams fall silent, `exchangeInfo` has another status, or has it not."""
        self.venues[market].delist_symbol(symbol, is_absent=is_absent)

    # The door

    def refuse_connections(self, market: Market) -> None:
        """Accept no TCP connection (`serve` only)."""
        self.venues[market].set_door(attrs.evolve(self.venues[market].door, is_closed=True))

    def refuse_upgrades(
        self,
        market: Market,
        status: int,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        *,
        count: float = math.inf,
    ) -> None:
        """Answer WebSocket upgrades with an HTTP status."""
        venue = self.venues[market]
        venue.set_door(attrs.evolve(venue.door, refusal=Answer(status, body, headers), count=count))

    def stall_handshakes(self, market: Market, drip_sec: float | None = None) -> None:
        """Accept TCP connections and say nothing; with `drip_sec`, answer upgrades byte by byte with that pause."""
        venue = self.venues[market]
        venue.set_door(attrs.evolve(venue.door, is_stalled=drip_sec is None, drip_sec=drip_sec or 0.0))

    def lift(self, market: Market) -> None:
        """End every fault of a market that is still going on."""
        venue = self.venues[market]
        venue.set_door(DoorFault())
        venue.rest_faults.clear()
        venue.hub.reply_faults.clear()
        venue.hub.lift()
        self.thaw(market)
        self.lag(market, 0.0)
        for session in venue.hub.sessions.values():
            session.muted.clear()

    def _channel(self, market: Market, stream: str) -> Channel:
        return self.venues[market].hub.channel_named(stream)

    def _fault(self, market: Market, stream: str) -> StreamFault:
        channel = self._channel(market, stream)
        if channel.fault is None:
            channel.fault = StreamFault()
        return channel.fault

    def _chosen(self, market: Market, stream: str | None, connection: int | None) -> list[Session]:
        hub = self.venues[market].hub
        sessions = list(hub.sessions.values())
        if connection is not None:
            sessions = [session for session in sessions if session.connection == connection]
        if stream is not None:
            channel = hub.channel_named(stream)
            sessions = [session for session in sessions if session.hears(channel)]
        return sessions

    def _each(self, market: Market, stream: str | None, connection: int | None, act: Callable[[Session], None]) -> int:
        sessions = self._chosen(market, stream, connection)
        for session in sessions:
            act(session)
        return len(sessions)
