"""The gap ledger is complete whatever is lost: the catalogue, segments of the journal, bytes in them, the sealers."""

import errno

import pytest
import trio

from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import Kind, Market
from streamsvc.simulator.market import Activity

SPOT, FUTURES = Market.SPOT, Market.FUTURES
BUSY = Activity(trades_per_sec=2.0, quotes_per_sec=2.0)
KINDS = (Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.KLINE_1M)
BOTH = {
    "spot_kinds": KINDS,
    "futures_symbols": ("BTCUSDT",),
    "futures_kinds": KINDS,
    "futures_trade_route": "public",
}


def ledger(world, status=None):
    """The gap ledger's rows."""
    return Catalogue(DataFolder(world.folder).catalogue).gaps(status)


def remove_catalogue(world):
    for path in world.folder.glob("catalogue.sqlite*"):
        path.unlink()


def flip_bit(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def assert_known(world, *, errors=(), causes):
    """Nothing is missing that the ledger does not know, and no trade is missing at all; nothing is there twice."""
    report = verify_folder(world.folder)
    assert len(errors) == len(report.errors), report.errors
    assert all(part in error for part, error in zip(errors, report.errors, strict=True)), report.errors
    assert [] == [gap for gap in report.gaps if gap.status == "unknown"]
    assert set() == {gap.kind for gap in report.gaps} & {"trade", "aggTrade"}
    assert causes == {gap.cause for gap in report.gaps}
    assert {"unrepairable"} >= {gap.status for gap in report.gaps}
    assert 0 == report.unsealed_segments
    return report


async def test_a_catalogue_that_is_lost_between_two_runs(world):
    """What the first run's ledger knew is known again, and the hole between the runs is found and mended."""
    world.has_rest = True
    exchange = await world.open_exchange(markets=(SPOT, FUTURES), activity=BUSY)
    async with world.recording(**BOTH):
        await trio.sleep(90)
        exchange.drop(SPOT, "btcusdt@depth@100ms", 3)
        exchange.drop(FUTURES, "btcusdt@aggTrade", 3)
        await trio.sleep(90)
    before = ledger(world)
    assert before
    remove_catalogue(world)
    await trio.sleep(150)
    async with world.recording(**BOTH):
        await trio.sleep(300)
    assert set(before) <= set(ledger(world))
    report = assert_known(world, causes={"exchange", "restart"})
    assert 1 == report.exit_code
    assert {"depth", "kline_1m"} == {gap.kind for gap in report.gaps}
    assert {"repaired"} == {row.status for row in ledger(world) if row.kind in ("trade", "aggTrade")}


async def test_a_catalogue_that_is_lost_while_gaps_are_open(world):
    """They are mended by the next run, once; nothing is fetched that lies there."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(spot_kinds=KINDS):
        await trio.sleep(60)
        exchange.drop(SPOT, "btcusdt@trade", 5)
        await trio.sleep(60)
    assert ["open"] == [row.status for row in ledger(world)]
    remove_catalogue(world)
    world.has_rest = True
    await trio.sleep(30)
    async with world.recording(spot_kinds=KINDS):
        await trio.sleep(300)
    assert_known(world, causes={"restart"})
    assert {"exchange", "restart"} == {row.cause for row in ledger(world, "repaired")}


async def test_a_catalogue_that_is_lost_while_segments_wait(world):
    """The second run seals them, and the ledger hears of what their notes say once."""
    world.has_rest = True
    exchange = await world.open_exchange(activity=BUSY)
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        async with world.recording(spot_kinds=KINDS):
            await trio.sleep(80)
            world.sealers.takes_sec = 1000
            exchange.drop(SPOT, "btcusdt@trade", 5)
            await trio.sleep(80)
            world.files.fail("sync", errno.EIO)
            await trio.sleep(60)
    world.sealers.takes_sec = 0
    remove_catalogue(world)
    await trio.sleep(30)
    async with world.recording(spot_kinds=KINDS):
        await trio.sleep(300)
    assert_known(world, causes={"restart"})
    places = [(row.kind, row.first_id) for row in ledger(world)]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("garbage", [b"no catalogue at all, " * 1000, b"\xff" * 4096, b""])
async def test_a_catalogue_that_was_overwritten(world, garbage):
    """A recorder must not stay down for it: it is moved aside, told as an error, and made again."""
    world.has_rest = True
    await world.open_exchange(activity=BUSY)
    async with world.recording():
        await trio.sleep(90)
    path = world.folder / "catalogue.sqlite"
    path.write_bytes(garbage)
    await trio.sleep(30)
    async with world.recording():
        await trio.sleep(300)
    assert_known(world, causes={"restart"})
    if garbage:
        (event,) = world.log.events("catalogue_rebuilt")
        assert ("error", "catalogue.sqlite.damaged-1") == (event["level"], event["moved_to"])
        assert garbage == (world.folder / event["moved_to"]).read_bytes()


async def test_a_catalogue_that_is_damaged_while_it_is_used(world):
    """The run ends, as for any disk that cannot be trusted; the next one makes it again, whatever it can see of it."""
    world.has_rest = True
    await world.open_exchange(activity=BUSY)
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="is damaged"), flatten_subgroups=True):
        async with world.recording():
            await trio.sleep(90)
            remove_catalogue(world)
            await trio.sleep(300)
    await trio.sleep(30)
    async with world.recording():
        await trio.sleep(300)
    assert_known(world, causes={"restart"})
    assert world.log.events("catalogue_rebuilt")


async def test_a_new_catalogue_and_another_restart_before_its_files_are_taken_in(world):
    """How far the streams had come is not known by then: nothing of it may be fetched that lies there."""
    world.has_rest = True
    await world.open_exchange(activity=BUSY)
    trades = {"spot_kinds": (Kind.TRADE,), "parquet_rotate_sec": 30}
    async with world.recording(**trades):
        await trio.sleep(120)
    remove_catalogue(world)
    taken = []

    async def seal(path, tmp, *, keeps_raw=False):
        await trio.lowlevel.checkpoint()
        if path.suffix == ".parquet":
            taken.append(path)
            if len(taken) == 2:
                await trio.sleep_forever()
        return seal_segment(str(path), str(tmp), keeps_raw=keeps_raw)

    sound, world.sealers.seal = world.sealers.seal, seal
    await world.recover(**trades)
    assert 2 == len(taken)
    world.sealers.seal = sound
    await trio.sleep(30)
    async with world.recording(**trades):
        await trio.sleep(300)
    assert_known(world, causes=set())
    assert {"restart"} == {row.cause for row in ledger(world, "repaired")}


async def test_files_that_are_taken_in_after_new_ones_were_published(world):
    """The hole lies between files then, where only the audit finds it."""
    world.has_rest = True
    await world.open_exchange(activity=BUSY)
    async with world.recording(parquet_rotate_sec=30):
        await trio.sleep(120)
    remove_catalogue(world)
    await trio.sleep(30)

    async def seal(path, tmp, *, keeps_raw=False):
        await trio.sleep(20 if path.suffix == ".parquet" else 0)
        return seal_segment(str(path), str(tmp), keeps_raw=keeps_raw)

    world.sealers.seal = seal
    async with world.recording(parquet_rotate_sec=30):
        await trio.sleep(900)
    assert [2] == [event["gaps"] for event in world.log.events("files_audited")]
    assert_known(world, causes={"restart"})


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
async def test_a_bit_that_flips_in_a_segment_before_it_is_sealed(world, place):
    """What lay there is missing at once, in the same run, and trades are fetched again."""
    world.has_rest = True
    await world.open_exchange(markets=(SPOT, FUTURES), activity=BUSY)
    async with world.recording(**BOTH):
        await trio.sleep(150)
        world.sealers.takes_sec = 30
        await trio.sleep(60)
        path = min((world.folder / "journal").glob("*.journal"))
        flip_bit(path, place)
        world.sealers.takes_sec = 0
        await trio.sleep(400)
        told = world.log.events("gap_opened", cause="damage")
        if place:
            assert told
        assert [] == ledger(world, "open")
    assert world.log.events("journal_damaged")
    assert_known(
        world,
        errors=() if place > 0.9 else ("held no whole frame",),
        causes={row.cause for row in ledger(world, "unrepairable")},
    )
    assert {"damage"} >= {row.cause for row in ledger(world)}


@pytest.mark.parametrize("is_removed", [False, True])
async def test_a_segment_that_cannot_be_sealed(world, is_removed):
    """All of its ids are in the ledger in the same run, of quiet streams too, and trades are fetched again."""
    world.has_rest = True
    await world.open_exchange(
        markets=(SPOT, FUTURES), activity=Activity(trades_per_sec=0.02, quotes_per_sec=0.5), symbols=("BTCUSDT",)
    )
    failed = []

    async def seal(path, tmp, *, keeps_raw=False):
        await trio.lowlevel.checkpoint()
        failed.extend([path] if len(world.sealers.sealed) == 4 and not failed else [])
        world.sealers.sealed.append(path.name)
        if failed and path == failed[0]:
            if is_removed:
                path.unlink(missing_ok=True)
            else:
                raise MemoryError
        return seal_segment(str(path), str(tmp), keeps_raw=keeps_raw)

    world.sealers.seal = seal
    async with world.recording(**BOTH):
        await trio.sleep(360)
        assert failed
        await trio.sleep(600)
        told = {(event["market"], event["kind"]) for event in world.log.events("gap_opened", cause="damage")}
        assert {("spot", "depth"), ("futures", "depth"), ("spot", "trade")} <= told
        assert [] == ledger(world, "open")
    errors = () if is_removed else ("could not be sealed",)
    report = assert_known(world, errors=errors, causes={"damage"})
    assert {"depth", "kline_1m"} == {gap.kind for gap in report.gaps}
    assert {"depth", "kline_1m", "trade", "aggTrade"} == {row.kind for row in ledger(world)}


async def test_rows_that_a_sealer_refused_are_fetched_in_the_same_run(world):
    """The loop hears of them after the commit; what REST brings makes them repaired in the commit of its rows."""
    world.has_rest = True
    exchange = await world.open_exchange(markets=(SPOT, FUTURES), activity=BUSY)
    async with world.recording(**BOTH):
        await trio.sleep(60)
        exchange.corrupt(SPOT, "btcusdt@trade", 3, "price")
        exchange.corrupt(FUTURES, "btcusdt@depth@100ms", 2, "price")
        await trio.sleep(300)
        rows = ledger(world)
        assert {("trade", "repaired"), ("depth", "unrepairable")} == {(row.kind, row.status) for row in rows}
        assert {"quarantined"} == {row.cause for row in rows}
    assert_known(world, causes={"quarantined"})


async def test_a_stop_before_the_streams_were_counted(world):
    """The catalogue keeps who is suspect, and the next run counts: the hole lies between two published segments."""
    world.has_rest = True
    await world.open_exchange(activity=BUSY)
    may_seal, waiting = trio.Event(), []

    async def seal(path, tmp, *, keeps_raw=False):
        waiting.append(path)
        if len(waiting) > 2:
            await may_seal.wait()
        if len(waiting) > 2 and path == waiting[2]:
            raise MemoryError
        return seal_segment(str(path), str(tmp), keeps_raw=keeps_raw)

    world.sealers.seal = seal
    async with world.recording(spot_kinds=KINDS) as recording:
        await trio.sleep(350)
        recording.shutdown.request("test")
        may_seal.set()
    assert world.log.events("segment_set_aside")
    assert [] == world.log.events("gap_opened")
    async with world.recording(spot_kinds=KINDS):
        await trio.sleep(300)
    assert_known(world, errors=("could not be sealed",), causes={"damage", "restart"})
    assert world.log.events("gap_opened", kind="trade", cause="damage")
