"""The faults of a simulation, each by its class in the catalogue of faults: `A1` is the first of the transport's.

Every fault is a method that acts at once; what lasts is ended by a task of the world, whatever happens to the service
meanwhile. `calm` ends everything.
"""

import errno
import socket
from pathlib import Path

import trio
from clocked_world import HOSTS

from streamsvc.errors import DiskFullError
from streamsvc.rest import RestUnavailableError
from streamsvc.schema import Market
from streamsvc.simulator.faults import CORRUPTIONS, GARBAGE

PROTOCOL_BREAKS = ("bad_opcode", "reserved_bits", "masked", "oversize_control", "fragmented_control", "binary")
BAD_TEXTS = tuple(one for one in GARBAGE if one not in (*PROTOCOL_BREAKS, "oversize", "endless_fragments"))
HOUR_NS = 3_600_000_000_000
BAN_SEC_MAX = 300

LEFT_OUT = {
    "A4, A9, A10, A14": "the tests of connections and TLS have them; on memory streams they are other faults' cases",
    "B20, B27": "the plan and the handshake refuse them before any byte of data",
    "C33": "the simulated market's ids never start over",
    "C34, C35, C39": "the clocked tests of snapshots and instruments have them",
    "C37, C38": "the simulated market lists and delists nobody",
    "C43": "event times are the simulated market's",
    "C44-C46": "there are no orders",
    "D56": "damage to sealed files is no matter of time: the tests of verify enumerate it",
    "E65, E66, E68, E69, G": "they need a real process, or are enumerated by tests of their own",
}
"""What the simulation does not draw, and why."""


def of(*classes):
    """Name the classes of which a method is an example."""

    def mark(method):
        method.classes = classes
        return method

    return mark


class Faults:
    """Everything that may happen while the service runs.

    Args:
        world: The world, with the exchange opened.
        nursery: Of the world; it ends what lasts.
        rng: Chance.
        streams: Names of streams by market.
    """

    def __init__(self, world, nursery, rng, streams):
        self._world = world
        self._exchange = world.exchange
        self._nursery = nursery
        self._rng = rng
        self._streams = streams
        self.damages = False  # Something was taken from the journal: `verify` says so.
        self.crashes = False  # A disk that cannot be trusted ends the process: no stop in good order is due.

    @classmethod
    def names(cls, *, while_running=False):
        """The names of all faults, or of those that may happen while the service runs."""
        names = sorted(name for name, method in vars(cls).items() if hasattr(method, "classes"))
        return [name for name in names if not while_running or name != "lose_catalogue"]

    def act(self, name):
        """Commit a fault; the classes that were hit."""
        method = getattr(self, name)
        method()
        return method.classes

    def calm(self):
        """End everything that lasts."""
        world = self._world
        for market in Market:
            self._exchange.lift(market)
        world.rest_fault = world.dial_fault = None
        world.is_blackholed = False
        world.files.mend()
        world.sealers.takes_sec = 0.0
        world.sealers.faults.clear()
        world.wall_step_ns = 0

    def _after(self, seconds, undo):
        async def wait():
            await trio.sleep(seconds)
            undo()

        self._nursery.start_soon(wait)

    def _for(self, most_sec, undo):
        self._after(self._rng.uniform(1, most_sec), undo)

    def _market(self):
        return self._rng.choice(list(Market))

    def _stream(self, *, chained=False):
        market = self._market()
        names = [name for name in self._streams[market] if not chained or "bookTicker" not in name]
        return market, self._rng.choice(names)

    # Transport

    @of("A1", "A11")
    def reset_connections(self):
        self._world.reset_all(self._rng.choice([None, 0, 3, 100]))

    @of("A2")
    def end_without_goodbye(self):
        self._exchange.cut(self._market(), "fin")

    @of("A3")
    def say_nothing_more(self):
        market = self._market()
        self._exchange.freeze(market)
        self._for(120, lambda: self._exchange.thaw(market))

    @of("A3", "A15")
    def lose_one_connection(self):
        """It dies, falls silent or lags; where streams come over another one as well, that one must suffice."""
        market = self._market()
        numbers = [one.connection for one in self._exchange.connections(market)]
        if not numbers:
            return
        number = self._rng.choice(numbers)
        match self._rng.choice(["cut", "freeze", "mute", "lag"]):
            case "cut":
                self._exchange.cut(market, self._rng.choice(["fin", "rst"]), connection=number)
            case "freeze":
                self._exchange.freeze(market, connection=number)
                self._for(120, lambda: self._exchange.thaw(market))
            case "mute":
                stream = self._rng.choice(self._streams[market])
                self._exchange.mute(market, stream, connection=number)
                self._for(200, lambda: self._exchange.unmute(market, stream))
            case "lag":
                self._exchange.lag(market, self._rng.choice([0.5, 2.0, 7.0]), connection=number)
                self._for(200, lambda: self._exchange.lag(market, 0.0))

    @of("A5", "C42")
    def mute_stream(self):
        market, stream = self._stream()
        self._exchange.mute(market, stream)
        self._for(200, lambda: self._exchange.unmute(market, stream))

    @of("A6")
    def blackhole_dials(self):
        self._world.is_blackholed = True
        self._world.reset_all()

        def undo():
            self._world.is_blackholed = False

        self._for(60, undo)

    @of("A7")
    def stall_handshakes(self):
        market = self._market()
        self._exchange.stall_handshakes(market, self._rng.choice([None, 0.2]))
        self._exchange.cut(market)
        self._for(90, lambda: self._exchange.stall_handshakes(market, 0.0))

    @of("A8", "A11")
    def lose_names(self):
        self._world.dial_fault = self._rng.choice(
            [socket.gaierror(-2, "unknown"), ConnectionRefusedError(111, "refused"), OSError(113, "no route")]
        )
        self._world.reset_all()

        def undo():
            self._world.dial_fault = None

        self._for(120, undo)

    @of("A12")
    def flap(self):
        market = self._market()

        async def cut_again_and_again():
            for _ in range(20):
                self._exchange.cut(market)
                await trio.sleep(1.5)

        self._nursery.start_soon(cut_again_and_again)

    @of("A13", "D51")
    def hang_disk(self):
        self._world.disk.hang(self._rng.choice([5, 15, 40, 300]))

    # Protocol

    @of("B16")
    def break_protocol(self):
        self._exchange.garbage(self._market(), self._rng.choice(PROTOCOL_BREAKS))

    @of("B17", "B24")
    def send_bad_text(self):
        self._exchange.garbage(self._market(), self._rng.choice(BAD_TEXTS))

    @of("B18", "B19")
    def send_too_much(self):
        self._exchange.garbage(
            self._market(), self._rng.choice(["oversize", "endless_fragments"]), size_bytes=(1 << 20) + 4096
        )

    @of("B21")
    def flood_with_pings(self):
        self._exchange.ping_flood(self._market(), 200)

    @of("B22")
    def say_goodbye(self):
        self._exchange.close(self._market(), self._rng.choice([1000, 1001, 1008, 1012, 1013]))

    @of("B23")
    def refuse_upgrades(self):
        market = self._market()
        status = self._rng.choice([301, 403, 418, 429, 451, 502])
        self._exchange.refuse_upgrades(market, status, (("Retry-After", "20"),), count=self._rng.choice([1, 3]))
        self._exchange.cut(market)

    @of("B24", "B25", "C36")
    def corrupt_messages(self):
        market, stream = self._stream()
        self._exchange.corrupt(market, stream, self._rng.choice([1, 3]), self._rng.choice(CORRUPTIONS))

    @of("B19")
    def fragment_messages(self):
        self._exchange.fragment(*self._stream(), 3)

    @of("B26")
    def mishear_subscriptions(self):
        market, stream = self._stream()
        self._exchange.fail_replies(market, self._rng.choice(["error", "silent", "wrong_id"]), 2)
        self._exchange.mute(market, stream)
        self._for(100, lambda: self._exchange.unmute(market, stream))

    # Exchange

    @of("C29")
    def announce_shutdown(self):
        self._exchange.shut_down(self._market(), self._rng.uniform(0, 10))

    @of("C30")
    def repeat_messages(self):
        self._exchange.duplicate(*self._stream(chained=True), self._rng.choice([1, 5]))

    @of("C31")
    def reorder_messages(self):
        self._exchange.reorder(*self._stream(chained=True), self._rng.choice([2, 5]))

    @of("C32")
    def skip_ids(self):
        self._exchange.drop(*self._stream(), self._rng.choice([1, 3, 30]))

    @of("C40")
    def hide_symbols(self):
        self._exchange.fail_rest(self._market(), 503, b"down", path="exchangeInfo", count=3)

    @of("C41")
    def ban_from_rest(self):
        self._exchange.ban(self._market(), self._rng.uniform(5, BAN_SEC_MAX))

    @of("C41")
    def limit_rest(self):
        self._exchange.fail_rest(
            self._market(),
            429,
            b'{"code":-1003,"msg":"Too many requests."}',
            self._rng.choice([(), (("Retry-After", "30"),)]),
            count=self._rng.choice([1, 5]),
        )

    @of("C35", "C41")
    def fail_rest(self):
        body = self._rng.choice([b"", b"<html>", b'{"code":-1007,"msg":"Timeout waiting for response."}', b"[[[["])
        self._exchange.fail_rest(self._market(), self._rng.choice([200, 403, 500, 503]), body, count=3)

    @of("C41")
    def slow_rest(self):
        self._exchange.delay_rest(self._market(), self._rng.choice([2.0, 19.0, 30.0]), count=3)

    @of("C41", "C42")
    def lose_rest(self):
        self._world.rest_fault = RestUnavailableError("nobody answers")

        def undo():
            self._world.rest_fault = None

        self._for(300, undo)

    @of("C42")
    def go_silent(self):
        market = self._market()
        for stream in self._streams[market]:
            self._exchange.mute(market, stream)

        def undo():
            for stream in self._streams[market]:
                self._exchange.unmute(market, stream)

        self._for(600, undo)

    # Storage

    @of("D47")
    def fill_disk(self):
        if self._rng.random() < 0.5:
            self._world.files.free = 0
        else:
            self._world.files.fail("write", errno.ENOSPC, times=10**9)

        def undo():
            self._world.files.free = 1 << 40
            self._world.files.fail("write", 0, times=0)

        self._for(90, undo)

    @of("D48")
    def fill_disk_while_sealing(self):
        self._world.sealers.faults.extend([DiskFullError("no room")] * 3)
        self._world.files.fail("replace", errno.ENOSPC, times=2)

    @of("D49")
    def break_disk(self):
        self._world.files.fail(self._rng.choice(["write", "sync"]), errno.EIO)
        self.crashes = True

    @of("D50")
    def shorten_writes(self):
        self._world.files.write_bytes_max = self._rng.choice([100, 5000])

        def undo():
            self._world.files.write_bytes_max = None

        self._for(100, undo)

    @of("D59")
    def take_descriptors(self):
        self._world.files.fail("create", errno.EMFILE, times=3)

    @of("D52")
    def slow_sealers(self):
        self._world.sealers.takes_sec = self._rng.choice([5.0, 45.0])

        def undo():
            self._world.sealers.takes_sec = 0.0

        self._for(200, undo)

    @of("E65")
    def kill_sealer(self):
        self._world.sealers.faults.append(MemoryError())

    def _waiting_segment(self):
        """A segment that nobody writes any more, and that is not sealed yet; None if there is none."""
        paths = sorted((self._world.folder / "journal").glob("*.journal"))[:-1]
        return self._rng.choice(paths) if paths else None

    def _to_a_segment(self, act):
        """Have segments wait for their sealing, and do something to one of them."""
        self.slow_sealers()

        def act_on_one():
            path = self._waiting_segment()
            if path is not None:
                self.damages = True
                act(path)

        self._for(150, act_on_one)

    @of("D55")
    def flip_bit(self):
        def flip(path):
            data = bytearray(path.read_bytes())
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
            path.write_bytes(data)

        self._to_a_segment(flip)

    @of("D58")
    def remove_segment(self):
        self._to_a_segment(Path.unlink)

    @of("E65")
    def kill_every_sealer(self):
        self.damages = True
        self._world.sealers.faults.extend(MemoryError() for _ in range(3))

    @of("D57")
    def lose_catalogue(self):
        paths = sorted(self._world.folder.glob("catalogue.sqlite*"))
        if self._rng.random() < 0.5:
            for path in paths:
                path.unlink()
        elif paths:
            paths[0].write_bytes(self._rng.randbytes(self._rng.choice([10, 5000])))

    # Process, clock

    @of("E67")
    def crash_connection(self):
        ends = [end for host, end in self._world.wires if host in HOSTS and not end.is_closed]
        if ends:
            self._rng.choice(ends).crash(ZeroDivisionError("a bug"))
            self.crashes = True

    @of("F70", "D60")
    def step_clock(self):
        self._world.wall_step_ns = self._rng.choice([0, HOUR_NS // 4, -2 * HOUR_NS])
