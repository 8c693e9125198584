"""The whole service in a world whose clock jumps: memory for a network, a disk that hangs on command, an exchange."""

import random
import ssl
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import clocked_books as books
import trio
from clocked_doubles import Disk, FaultyFiles, InlineSealers, Told
from clocked_rest import WireClient, asked
from clocked_script import most_within
from clocked_wire import CAPACITY_BYTES, carry, messages_in, open_wire

from streamsvc.integrity.verify import verify_folder
from streamsvc.live import Live
from streamsvc.persistence.compaction_day import BUILD_PREFIX
from streamsvc.rest import RestUnavailableError
from streamsvc.schema import Kind, Market
from streamsvc.service import run
from streamsvc.settings import Settings
from streamsvc.settings.files import read_symbols_file
from streamsvc.shutdown import Reload, Shutdown
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.options import default_options
from streamsvc.simulator.sources import SyntheticSource
from streamsvc.streams.attempts import memory_budget
from streamsvc.surroundings import Surroundings
from streamsvc.watchdog.notify import Notifier

START_NS = 1_786_171_884_000_000_000
WATCHDOG_SEC = 30
HOSTS = {"spot.test": Market.SPOT, "futures.test": Market.FUTURES}
CALM = Activity(trades_per_sec=0.5, quotes_per_sec=0.5)


@attrs.define
class Recording:
    """The service while it runs.

    Attributes:
        live: The view that it gives of itself.
        shutdown: How to end it.
        reload: How to have the symbols file read again.
    """

    live: Live
    shutdown: Shutdown
    reload: Reload


class World:
    """What surrounds the service.

    Attributes:
        folder: Where the service records.
        log: The events logged.
        notified: The datagrams to systemd.
        disk: Runs blocking work.
        files: The disk's calls.
        sealers: Who seals.
        servers: Who answers at a host: an async function of the exchange's end.
        wall_step_ns: How far the recorder's clock is ahead of the exchange's.
        rest_fault: Raised by REST, if set.
        has_rest: Whether REST answers, so that gaps are repaired and instruments recorded.
        has_wrong_key: Whether the service may ask for what needs a key, which the exchange then refuses.
        requests: What was asked of REST: when, of which market, and the path with its parameters.
        dials: When which host was dialled.
        dial_fault: Raised by dials, if set.
        is_blackholed: Whether dials wait for ever.
        ssl_context: For `wss` URLs; it trusts nobody unless told.
        capacity_bytes: What lies between the ends of a connection.
        draw_lag_sec: How much later than said a new connection brings everything it hears, if set.
        message_bytes_max: What the last run takes for one message.
        folder_watchers: Told when a file in a folder changes, by folder.
        wires: The recorder's ends of all connections, oldest first, with their hosts.
        lives: The views of all runs.
    """

    def __init__(self, nursery, folder, log):
        self._nursery = nursery
        self._started = trio.current_time()
        self.folder = folder
        self.log = log
        self.notified = Told()
        self.disk = Disk()
        self.files = FaultyFiles()
        self.sealers = InlineSealers()
        self.servers = {}
        self.dials = []
        self.wall_step_ns = 0
        self.rest_fault = None
        self.requests = []
        self.has_rest = False
        self.has_wrong_key = False
        self.exchange = None
        self.dial_fault = None
        self.is_blackholed = False
        self.ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.capacity_bytes = CAPACITY_BYTES
        self.draw_lag_sec = None
        self.message_bytes_max = 0
        self.folder_watchers = {}
        self.wires = []
        self.lives = []
        self.descriptors = _open_descriptors()

    # The world

    def wall_ns(self):
        """The exchange's clock."""
        return START_NS + round((trio.current_time() - self._started) * 1e9)

    def begin_later(self, seconds):
        """Set the exchange's clock on, before anything else is done."""
        self._started -= seconds

    async def open_exchange(
        self, *, activity=CALM, symbols=("BTCUSDT",), markets=(Market.SPOT,), tls=None, source=None, **changes
    ):
        """Open a simulated exchange at the hosts of these markets; `changes` are of its options, `source` its seed."""
        more = {"seed": 7} | (source or {})
        sources = [self.synthetic(market, dict.fromkeys(symbols, activity), **more) for market in markets]
        return await self.open_exchange_of(sources, is_logging=source is not None, tls=tls, **changes)

    def synthetic(self, market, symbols, **more):
        """A market that opens now."""
        return SyntheticSource(market, symbols, start_us=self.wall_ns() // 1000, **more)

    async def open_exchange_of(self, sources, *, is_logging, tls=None, **changes):
        """Open a simulated exchange of these sources, one a market, at the hosts of all markets."""
        exchange = Exchange(
            sources,
            options={source.market: attrs.evolve(default_options(source.market), **changes) for source in sources},
            wall_ns=self.wall_ns,
            is_logging=is_logging,
        )
        for host, market in HOSTS.items():
            self.servers[host] = partial(exchange.serve_stream, market, tls=tls)
        await self._nursery.start(exchange.run)
        self.exchange = exchange
        return exchange

    async def ask(self, market, path, parameters):
        """An answer of the exchange's REST, over a connection of its own: status, headers and body."""
        self.requests.append((trio.current_time(), market, path, dict(parameters)))
        await trio.lowlevel.checkpoint()
        if self.rest_fault is not None:
            raise self.rest_fault
        if not self.has_rest:
            raise RestUnavailableError("there is none")
        ours, theirs = open_wire(self.capacity_bytes)
        self._nursery.start_soon(self.exchange.serve_stream, market, theirs)
        async with ours:
            return await asked(ours, path, parameters)

    async def dial(self, host, port):
        assert port in (80, 443)
        self.dials.append((trio.current_time(), host))
        await trio.lowlevel.checkpoint()
        if self.is_blackholed:
            await trio.sleep_forever()
        if self.dial_fault is not None:
            raise self.dial_fault
        ours, theirs = open_wire(self.capacity_bytes)
        self.wires.append((host, ours))
        if self.draw_lag_sec is not None:
            theirs = self._lagging(theirs, self.draw_lag_sec())
        self._nursery.start_soon(self.servers[host], theirs)
        return ours

    def _lagging(self, near, lag_sec):
        """The exchange's end of a line to `near` on which everything takes so long."""
        far, theirs = open_wire(self.capacity_bytes)
        self._nursery.start_soon(carry, near, far, lag_sec)
        self._nursery.start_soon(carry, far, near, lag_sec)
        return theirs

    def reset_all(self, unread_bytes=None):
        """Break every connection that is open; returns how many that were."""
        ends = [end for _, end in self.wires if not end.is_closed]
        for end in ends:
            end.reset(unread_bytes)
            del end.incoming.unread[unread_bytes:]
        return len(ends)

    # The service

    def settings(self, **changes):
        defaults = {
            "spot_symbols": ("BTCUSDT",),
            "spot_kinds": (Kind.TRADE, Kind.DEPTH),
            "data_dir": self.folder,
            "binance_spot_ws_url": "ws://spot.test",
            "binance_futures_ws_url": "ws://futures.test",
        }
        settings = Settings(**(defaults | changes))
        self.message_bytes_max = settings.message_max_bytes
        return settings

    def surroundings(self):
        environ = {"NOTIFY_SOCKET": "@systemd", "WATCHDOG_USEC": str(WATCHDOG_SEC * 1_000_000)}
        return Surroundings(
            dial=self.dial,
            ssl_context=self.ssl_context,
            open_budget=memory_budget,
            run_blocking=self.disk.run_blocking,
            open_sealers=self.sealers.open,
            wall_ns=lambda: self.wall_ns() + self.wall_step_ns,
            rng=random.Random(len(self.lives)),
            notifier=Notifier(environ, 1, send=lambda data, _address: self.notified.note(data.decode())),
            open_client=partial(WireClient, self),
            files=self.files,
            watch_folder=self.watch_folder,
        )

    async def watch_folder(self, folder, on_change):
        """Tell of changes that `write_symbols` makes, until cancelled."""
        self.folder_watchers[folder] = on_change
        try:
            await trio.sleep_forever()
        finally:
            del self.folder_watchers[folder]

    def write_symbols(self, path, text):
        """Write a symbols file, and tell who watches its folder."""
        path.write_text(text)
        if path.parent in self.folder_watchers:
            self.folder_watchers[path.parent]()

    async def until(self, holds, *, every_sec):
        """Wait until something holds that nobody tells of."""
        while True:
            if holds():
                return
            await trio.sleep(every_sec)

    @asynccontextmanager
    async def recording(self, *, hours_max=8, **changes):
        """Run the service around the body, and stop it in good order."""
        shutdown = Shutdown()
        base = self.settings(**changes)
        reload, settings = Reload(base), base
        if base.symbols_file is not None:
            settings = attrs.evolve(base, **read_symbols_file(base.symbols_file))
        with trio.fail_after(hours_max * 3600):
            async with trio.open_nursery() as nursery:
                start = partial(run, settings, self.surroundings(), shutdown=shutdown, reload=reload)
                live = await nursery.start(start)
                self.lives.append(live)
                yield Recording(live, shutdown, reload)
                shutdown.request("test")

    async def recover(self, **changes):
        """Run the service once more without an exchange: what lies in the journal is sealed."""
        self.dial_fault = ConnectionRefusedError(111, "refused")
        async with self.recording(**changes):
            pass
        self.dial_fault = None

    # What must hold

    def verify(self, errors=()):
        """Check what holds after every end, whatever happened; returns the report on the data set.

        Nothing is open: no connection, no file. The data set is sound but for errors with these parts, no segment ended
        with half a frame, `tmp/` is empty.
        """
        assert [] == [host for host, end in self.wires if not end.is_closed]
        assert self.descriptors == _open_descriptors()
        report = verify_folder(self.folder)
        unexpected = [error for error in report.errors if not any(part in error for part in errors)]
        assert [] == unexpected, unexpected
        assert [] == [part for part in errors if not any(part in error for error in report.errors)]
        assert 0 == report.torn_bytes
        # What a compaction that was cut has begun lies there until the next start.
        left = [path.name for path in (self.folder / "tmp").iterdir() if not path.name.startswith(BUILD_PREFIX)]
        assert [] == left, f"{left} lies in tmp/"
        return report

    def verify_complete(self):
        """Check also that the data set holds exactly what the recorder was given, and its books balance.

        Every message that was read from a connection is in the data set once, but what was quarantined, which is
        counted; nothing waits in the journal; nothing was shed.
        """
        report = self.verify()
        assert 0 == report.unsealed_segments
        assert [] == self.leftovers()
        assert self.expected_rows() == self.stored_rows()
        counts = self.counts()
        assert 0 == counts["shed"]
        assert counts["received"] == counts["accepted"] + counts["notices"] + counts["quarantined"]
        assert len(self.heard()) == counts["received"]
        return report

    def counts(self):
        """What became of the messages of all runs."""
        total = Counter()
        for live in self.lives:
            total.update(attrs.asdict(live.intake.counts))
        return total

    def heard(self):
        """Every message that was read from any connection."""
        return [(host, text) for host, end in self.wires for text in messages_in(end, self.message_bytes_max)]

    def expected_rows(self):
        """Rows that the messages heard should have become."""
        return books.expected_rows((HOSTS[host], text) for host, text in self.heard())

    def stored_rows(self):
        """Rows of the data set."""
        return books.stored_rows(self.folder)

    def leftovers(self):
        """What lies in the journal."""
        return books.leftovers(self.folder)

    def quarantined(self):
        """What lies in the quarantine: reasons and texts."""
        return books.quarantined(self.folder)

    def attempts_within(self, seconds):
        """The most dials in any window of this length."""
        return most_within([at for at, _ in self.dials], seconds)


def _open_descriptors():
    return sorted(str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
