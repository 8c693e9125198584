"""One simulation: the whole service, an exchange and a plan of faults, all drawn from one seed.

Several runs of the service in one folder, each with its faults and its end; then everything is calm for as long as
repairs take, and the books must balance. The same seed gives the same trace.
"""

import hashlib
import math
import random
import re
import signal
import tempfile
import traceback
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import simulation_books
import trio
import trio.testing
from clocked_books import quarantined
from clocked_doubles import captured_log
from clocked_wire import messages_in
from clocked_world import World
from simulation_disk import KilledError, Life, MortalDisk, MortalFiles, MortalSealers
from simulation_faults import Faults

from streamsvc.errors import DamagedError, DiskFullError
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.catalogue import ADOPT, Catalogue
from streamsvc.schema import Kind, Market
from streamsvc.service import run
from streamsvc.settings.files import read_symbols_file
from streamsvc.shutdown import Reload, Shutdown
from streamsvc.simulator.market import Activity

SYMBOLS = ("BTCUSDT", "ETHUSDT")
STREAMS = {
    market: [
        f"{symbol.lower()}@{name}" for symbol in SYMBOLS for name in ("trade", "aggTrade", "bookTicker", "depth@100ms")
    ]
    for market in Market
}
KINDS = (Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.BOOK_TICKER)
SETTINGS = {
    "spot_symbols": SYMBOLS,
    "spot_kinds": KINDS,
    "futures_symbols": SYMBOLS,
    "futures_kinds": KINDS,
    "trade_timeout": 100.0,
    "orderbook_timeout": 60.0,
    "first_message_sec": 60.0,
    "stream_idle_sec": 40.0,
    "health_check_interval": 10.0,
    "message_max_mb": 1,
    "queue_max_mb": 1,
    "reconnect_max_sec": 10.0,
    "backpressure_sec": 10.0,
    "drain_sec": 120.0,
}
QUEUE_BYTES_MAX = (1 << 20) + 8 * (256 << 10)
RUNS_MAX, RUN_SEC_MAX, PAUSE_SEC_MAX = 5, 600, 120
ENDINGS = {"stop": 30, "kill": 20, "kill_in_call": 25, "power_cut": 25}
CLASSES = {
    "stop": ("E63",),
    "kill": ("E61",),
    "kill_in_call": ("E61", "D52"),
    "power_cut": ("D53", "D54"),
    "kill_at_start": ("E62",),
}
REPAIR_SEC_MAX = 7200
LIFETIME_SEC = 200.0
CHECKED_SHARE = 0.4
"""How many runs are verified before the next one: reading everything again is the dearest part."""
CHANGING_SHARE = 0.3
"""How many simulations change what is recorded while the service runs."""
LOST_SHARE = 0.2
"""How many runs end with the loss of the catalogue."""
REAL_SEC_MAX = 150
SECOND_NS = 1_000_000_000
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def symbols_text(symbols, kinds):
    """A symbols file that records these of both markets."""
    table = f"symbols = {list(symbols)}\nkinds = {[kind.label for kind in kinds]}\n"
    return "".join(f"[{market.label}]\n{table}" for market in Market)


@attrs.define
class Run:
    """One life of the service.

    Attributes:
        wires_begin: How many connections there had been before.
        began: When that was, by Trio's clock.
        wires_end: How many after.
        ended: When that was.
        live: The view that it gave of itself; None if it did not get so far.
        is_whole: Whether it came to its end in good order, and has written what it had taken.
        is_heard: Whether it took everything that it read.
        survivors: What lay in the journal when it had ended.
    """

    wires_begin: int
    began: float
    wires_end: int = 0
    ended: float = math.inf
    live: object = None
    is_whole: bool = False
    is_heard: bool = False
    survivors: set = attrs.Factory(set)


@attrs.frozen
class Outcome:
    """What came of a seed.

    Attributes:
        seed: The seed.
        digest: Of the log, the files and the ledger.
        hours: How long it was for the service.
        hits: How often each class of faults was committed.
        gaps: How many rows the ledger has, by status.
        failure: What did not hold, with its traceback; empty if everything did.
    """

    seed: int
    digest: str
    hours: float
    hits: Counter
    gaps: Counter
    failure: str


class SimulatedWorld(World):
    """A world whose process may die.

    Attributes:
        starts: How often the service was started.
        bans: In which start which market's REST banned us, from when to when.
    """

    def __init__(self, nursery, folder, log, seed):
        super().__init__(nursery, folder, log)
        self._seed = seed
        self.starts = 0
        self.bans = []
        self.has_rest = True
        self.life = Life()
        self.disk, self.files, self.sealers = MortalDisk(self.life), MortalFiles(self.life), MortalSealers(self.life)

    def surroundings(self):
        """The machine for the next start."""
        self.starts += 1
        return attrs.evolve(super().surroundings(), rng=random.Random(f"{self._seed}/{self.starts}"))

    async def ask(self, market, path, parameters):
        """An answer of REST; until when it asks us to stay away is written down."""
        asked_in = self.starts
        status, headers, body = await super().ask(market, path, parameters)
        if status == 418 and "retry-after" in headers:
            now = trio.current_time()
            self.bans.append((asked_in, market, now, now + int(headers["retry-after"])))
        return status, headers, body

    def resurrect(self):
        """The process may be started again."""
        self.life.is_dead, self.life.calls_left = False, None

    def messages_of(self, end):
        """The messages that were read from a connection."""
        return messages_in(end, self.message_bytes_max)


class Simulation:
    """The course of one seed.

    Args:
        world: The world, with its exchange.
        nursery: Of the world.
        rng: Chance.
        is_short_lived: Whether the exchange ends connections after `LIFETIME_SEC`.
    """

    def __init__(self, world, nursery, rng, *, is_short_lived):
        self._world = world
        self._rng = rng
        self._faults = Faults(world, nursery, rng, STREAMS)
        self._settings = SETTINGS | {
            "parquet_rotate_sec": rng.choice([15.0, 120.0, 240.0]),
            "save_concurrency": rng.choice([1, 2]),
            "journal_sync_sec": rng.choice([1.0, 10.0]),
            "segment_max_mb": 1,
            "redundancy": rng.choice([1, 1, 1, 2]),
            "seal_attempts": rng.choice([3, 1000]),
            "max_connection_age_sec": LIFETIME_SEC * 0.75 if is_short_lived else 82800.0,
        }
        self._symbols = random.Random(f"{rng.random()}/symbols")
        self._is_changing = self._symbols.random() < CHANGING_SHARE
        if self._is_changing:
            file = world.folder.parent / "symbols.toml"
            self._settings |= {"symbols_file": file, "spot_symbols": (), "futures_symbols": ()}
            file.write_text(symbols_text(SYMBOLS, KINDS))
        self._reload = None
        self.runs = []
        self.hits = Counter(["C28"] if is_short_lived else [])

    async def play(self):
        """Run after run with faults, then one in which everything is repaired; then the books are checked."""
        for _ in range(self._rng.randint(2, RUNS_MAX)):
            names = self._rng.choices(Faults.names(while_running=True), k=self._rng.randint(0, 12))
            await self._live_once(partial(self._disturb, names), self._draw_ending())
            self._check_between()
            if self._rng.random() < LOST_SHARE:
                self._commit("lose_catalogue")
            await trio.sleep(self._rng.uniform(0, PAUSE_SEC_MAX))
        await self._calm_down()
        if self._is_changing:
            self._settings["symbols_file"].write_text(symbols_text(SYMBOLS, KINDS))
        self._settings["parquet_rotate_sec"] = 240.0
        await self._live_once(self._until_repaired, "stop")
        texts = quarantined(self._world.folder)
        books = simulation_books.Books(self._world, is_damaged=self._faults.damages)
        books.check(self.runs, len(texts))
        books.check_repaired(self._world.wall_ns() - 60 * SECOND_NS)

    def _draw_ending(self):
        if self._rng.random() < 0.1:
            return "kill_at_start"
        return self._rng.choices(list(ENDINGS), ENDINGS.values())[0]

    async def _live_once(self, course, ending):
        """Start the service, follow a course, and end it."""
        world, life = self._world, self._world.life
        world.resurrect()
        self.hits.update(CLASSES[ending])
        one = Run(len(world.wires), trio.current_time())
        self.runs.append(one)
        if ending == "kill_at_start":
            life.calls_left = self._rng.randint(1, 8)
        shutdown = Shutdown()
        settings = world.settings(**self._settings)
        self._reload = Reload(settings)
        if self._is_changing:
            settings = attrs.evolve(settings, **read_symbols_file(settings.symbols_file))
        try:
            with trio.fail_after(24 * 3600):
                async with trio.open_nursery() as nursery:
                    start = partial(run, settings, world.surroundings(), shutdown=shutdown, reload=self._reload)
                    one.live = await nursery.start(start)
                    world.lives.append(one.live)
                    nursery.start_soon(self._watch_limits, one.live)
                    await course()
                    await self._end(ending, shutdown, one.live)
                    nursery.cancel_scope.cancel()
            one.is_whole = not life.is_dead
        except* KilledError:
            pass
        except* (DiskFullError, OSError, ZeroDivisionError) as failures:
            self._require_expected(failures)
            one.is_heard = True
        one.is_whole &= not life.is_dead
        one.is_heard = (one.is_heard or one.is_whole) and not life.is_dead
        if ending == "power_cut":
            world.files.cut_power(self._rng)
        world.files.settle()
        one.wires_end, one.ended = len(world.wires), trio.current_time()
        one.survivors = simulation_books.survivors(world.folder)

    async def _end(self, ending, shutdown, live):
        life = self._world.life
        if ending != "stop" and self._rng.random() < 0.5:
            # What is seen and not yet told is where a kill hurts.
            self._commit("skip_ids")
            await trio.sleep(self._rng.uniform(0, 30))
        if ending == "stop":
            if self._world.disk.hangs_until > trio.current_time():
                self.hits["E64"] += 1
            shutdown.request("test")
            await live.ended.wait()
            return
        if ending == "kill_in_call":
            life.calls_left = self._rng.randint(1, 60)
            with trio.move_on_after(200):
                await trio.sleep_forever()
        life.is_dead = True

    async def _disturb(self, names):
        for name in names:
            await trio.sleep(self._rng.uniform(0, 2 * RUN_SEC_MAX / 12))
            self._commit(name)
            if self._is_changing and self._symbols.random() < 0.5:
                self._change_symbols()
        await trio.sleep(self._rng.uniform(0, 60))

    def _change_symbols(self):
        """Record some symbols and kinds from now on, and no others."""
        symbols = self._symbols.sample(SYMBOLS, self._symbols.randint(1, len(SYMBOLS)))
        kinds = self._symbols.sample(KINDS, self._symbols.randint(1, len(KINDS)))
        self._settings["symbols_file"].write_text(symbols_text(symbols, kinds))
        self._reload.request("test")
        self.hits["G72"] += 1

    def _commit(self, name):
        self._world.log.note({"event": "fault", "name": name})
        self.hits.update(self._faults.act(name))

    async def _watch_limits(self, live):
        while True:
            assert QUEUE_BYTES_MAX >= live.channel().used_bytes
            await trio.sleep(1)

    def _require_expected(self, failures):
        kinds = DiskFullError if not self._faults.crashes else (DiskFullError, OSError, ZeroDivisionError)
        _, others = failures.split(kinds)
        if others is not None:
            raise others

    def _check_between(self):
        """What holds after every end, however abrupt: nothing twice, nothing damaged; what is unknown waits."""
        if (self._world.folder / "catalogue.sqlite").is_file() and self._rng.random() < CHECKED_SHARE:
            report = verify_folder(self._world.folder)
            errors = simulation_books.unexpected(report.errors, self._faults.damages)
            is_adopting = Catalogue(self._world.folder / "catalogue.sqlite", is_read_only=True).is_pending(ADOPT)
            if is_adopting:
                errors = [error for error in errors if "the catalogue does not know it" not in error]
            simulation_books.require_none(errors, "damage between runs")
            is_known = report.unsealed_segments or not report.unknown or not self.runs[-1].is_whole
            assert is_known or self._faults.damages or is_adopting, [
                gap for gap in report.gaps if gap.status == "unknown"
            ]

    async def _calm_down(self):
        self._faults.calm()
        await trio.sleep(700)  # Until every fault that lasts has ended.
        self._faults.calm()

    async def _until_repaired(self):
        with trio.move_on_after(REPAIR_SEC_MAX):
            await trio.sleep(300)
            catalogue = Catalogue(self._world.folder / "catalogue.sqlite", is_read_only=True)
            while catalogue.gaps("open"):  # noqa: ASYNC110 - the ledger is a file; nobody tells when it changes
                await trio.sleep(60)


def simulate(seed, trace=None):
    """Run one seed and give its outcome; `trace` is a file for the events. Only for a process's main thread."""
    hits, gaps, state = Counter(), Counter(), {"digest": "", "hours": 0.0}

    async def play(folder):
        rng = random.Random(seed)
        async with captured_log() as log, trio.open_nursery() as nursery:
            world = SimulatedWorld(nursery, folder, log, seed)
            is_short_lived = rng.random() < 0.3
            await world.open_exchange(
                activity=Activity(rng.choice([0.05, 0.2]), rng.choice([0.05, 0.2])),
                symbols=SYMBOLS,
                markets=tuple(Market),
                source={"seed": seed, "history_trades_max": 1_000_000},
                lifetime_sec=LIFETIME_SEC if is_short_lived else 86400.0,
            )
            simulation = Simulation(world, nursery, rng, is_short_lived=is_short_lived)
            try:
                await simulation.play()
            finally:
                hits.update(simulation.hits)
                state["hours"] = trio.current_time() / 3600
                gaps.update(_gaps(folder))
                lines = _lines(log, folder)
                state["digest"] = _digest(lines, folder)
                if trace is not None:
                    trace.write_text("\n".join(lines) + "\n")
            nursery.cancel_scope.cancel()

    failure = ""
    with tempfile.TemporaryDirectory(dir=_memory()) as folder, _time_limit():
        try:
            _run_deterministic(partial(play, Path(folder) / "data"), seed)
        except (Exception, BaseExceptionGroup) as fault:  # noqa: BLE001 - whatever it is, the seed has failed
            failure = "".join(traceback.format_exception(fault))
    return Outcome(seed, state["digest"], state["hours"], hits, gaps, failure)


def _run_deterministic(main, seed):
    """Trio decides by chance in which order tasks run, and by address where they stand: both follow the seed."""
    core = trio._core._run
    before = core._ALLOW_DETERMINISTIC_SCHEDULING
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    clock = trio.testing.MockClock(autojump_threshold=0)
    clock.jump(1000)
    try:
        trio.run(main, clock=clock, strict_exception_groups=True)
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING = before


@contextmanager
def _time_limit():
    """A simulation that hangs must not take the others with it."""

    def end(_number, _frame):
        raise TimeoutError(f"the simulation took more than {REAL_SEC_MAX} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(REAL_SEC_MAX)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _memory():
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None


def _gaps(folder):
    return Counter(f"{row.kind} {row.status}" for row in _catalogued(folder)[1])


def _catalogued(folder):
    """The files and the gaps of a catalogue; none where it is lost or damaged."""
    path = folder / "catalogue.sqlite"
    with suppress(DamagedError):
        return Catalogue(path, is_read_only=True).files_and_gaps() if path.is_file() else ((), ())
    return (), ()


def _lines(log, folder):
    """The log without what differs from one machine to the next."""
    return [
        _ADDRESS.sub("0x", f"{at:.6f} {entry['event']} {sorted(entry.items())}".replace(str(folder), "DATA_DIR"))
        for at, entry in log.entries
    ]


def _digest(lines, folder):
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace"))
    for rows in _catalogued(folder):
        for row in rows:
            digest.update(repr(row).encode())
    return digest.hexdigest()[:16]
