"""What must hold after a simulation, by the seven points of the catalogue of faults, from the files and both accounts.

The files are compared with what the exchange made and sent, with what was read from connections, and with the gap
ledger; nothing of the service's memory counts, but its own counters.
"""

import json
from collections import defaultdict
from contextlib import suppress
from itertools import pairwise

from clocked_books import leftovers
from clocked_script import most_within
from clocked_world import HOSTS

from streamsvc.batch import Block
from streamsvc.errors import DamagedError
from streamsvc.gap import NOTE_KIND
from streamsvc.integrity.sequence import Coverage, IdRange
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.journal import read_segment
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.schema import COLUMNS, MARKETS_BY_LABEL, Kind, Market, Source

IDS = {
    Kind.TRADE: "trade_id",
    Kind.AGG_TRADE: "agg_trade_id",
    Kind.DEPTH: "final_update_id",
    Kind.BOOK_TICKER: "update_id",
}
_ID_FIELDS = {Kind.TRADE: "t", Kind.AGG_TRADE: "a", Kind.DEPTH: "u", Kind.BOOK_TICKER: "u"}
_KINDS = {kind.label: kind for kind in IDS}
_MS = 1_000_000
ATTEMPTS_PER_5_MIN = 300


class Books:
    """The data folder as its readers find it, and what the exchange made.

    Args:
        world: The world, at rest.
        is_damaged: Whether bytes of the journal were changed, or its sealing was made impossible.
    """

    def __init__(self, world, *, is_damaged):
        self._world = world
        self.is_damaged = is_damaged
        self._exchange = world.exchange
        self.rows = _stored(world.folder)
        self.gaps = Catalogue(DataFolder(world.folder).catalogue, is_read_only=True).gaps()
        self.missing = defaultdict(Coverage)
        for gap in self.gaps:
            if gap.status != "repaired":
                self.missing[_place(gap)].add([IdRange(gap.first_id, gap.last_id)])

    def check(self, runs, quarantined):
        """Check everything; `runs` are those of the simulation, `quarantined` texts lie in the quarantine."""
        self.check_ledger()
        self.check_values()
        self.check_heard(runs, quarantined)
        check_counts(self._world, runs)

    def check_ledger(self):
        """Points 3 and 4: what is missing is exactly what the ledger says; what is said to be repaired is there."""
        report = verify_folder(self._world.folder)
        require_none(unexpected(report.errors, self.is_damaged), "damage")
        require_none([gap for gap in report.gaps if gap.status == "unknown"], "missing, and not in the ledger")
        failed = [f"{name}.journal" for name in DataFolder(self._world.folder).failed_segments()]
        assert (0, failed) == (report.unsealed_segments, leftovers(self._world.folder))
        assert [] == list((self._world.folder / "tmp").iterdir())
        for gap in self.gaps:
            if gap.status == "repaired":
                lacking = self._coverage(*_place(gap)).lacking(IdRange(gap.first_id, gap.last_id))
                require_none(lacking, f"{gap} is not repaired")
        left = sorted((*_place(gap), gap.first_id, gap.last_id) for gap in self.gaps if gap.status != "repaired")
        require_none(
            [(one, other) for one, other in pairwise(left) if one[:3] == other[:3] and other[3] <= one[4]],
            "twice in the ledger",
        )
        for place, rows in self.rows.items():
            if place[1] is not Kind.BOOK_TICKER:
                self._check_ends(place, rows)

    def check_repaired(self, before_ns):
        """What REST can give was fetched: of trades nothing is missing but what the exchange keeps for key holders.

        Gaps that were told later than `before_ns` had no time for that.
        """
        left = [
            gap
            for gap in self.gaps
            if gap.status not in {"repaired", "unrecorded"}  # What nobody had asked for, nobody fetches.
            and gap.kind in ("trade", "aggTrade")
            and gap.opened_ns < before_ns
        ]
        require_none(
            [
                gap
                for gap in left
                if gap.status == "open" or (gap.market, gap.kind) != ("futures", "trade") or "API key" not in gap.reason
            ],
            "not repaired",
        )

    def check_values(self):
        """Point 5: a stored value is what was sent, or what the exchange's past says of a row that was fetched."""
        sent = _sent(self._exchange, self._world.heard())
        past = _past(self._exchange)
        for (market, kind, symbol), rows in self.rows.items():
            for number, of_id in rows.items():
                key = market, kind, symbol, number
                if kind is Kind.DEPTH:
                    assert _depth_rows(sent[key]) == sorted(map(_depth_row, of_id)), key
                    continue
                (row,) = of_id
                if kind is Kind.BOOK_TICKER:
                    assert _quote(sent[key]) == _stored_quote(row), key
                    continue
                assert past[key] == _stored_trade(kind, row), key
                if row["is_backfilled"]:
                    assert (row["exchange_time"], "") == (row["event_time"], row.get("trade_type", "")), key
                else:
                    assert sent[key]["E"] * _MS == row["event_time"], key
                    assert sent[key].get("X", "") == row.get("trade_type", ""), key

    def check_heard(self, runs, quarantined):
        """Points 1, 2 and 6: whatever was read is there, or in the ledger, or was counted away."""
        world, heard = self._world, set(self._world.expected_rows())
        for place, rows in self.rows.items():
            fetched = {number for number, of_id in rows.items() if of_id[0].get("is_backfilled")}
            unheard = sorted(number for number in rows if number not in fetched and (*place, number) not in heard)
            require_none(unheard, f"{place}: never heard")
        lost_quotes = 0
        for market, kind, symbol, number in heard:
            place = market, kind, symbol
            rows = self.rows.get(place, {})
            if number in rows or not rows or number < min(rows):
                continue
            if kind is Kind.BOOK_TICKER:
                lost_quotes += 1
            else:
                assert self.missing[place].touches(number, number), f"{place} {number} was heard and is nowhere"
        counts = world.counts()
        if all(run.is_whole for run in runs) and not self.is_damaged:
            assert lost_quotes <= counts["shed"] + counts["quarantined"] + quarantined
        for run in runs:
            lost = [
                (*place, number)
                for *place, number in run.survivors
                if number not in self.rows.get(tuple(place), {})
                # Nobody can count what a damaged journal has lost of these.
                and not (self.is_damaged and place[1] is Kind.BOOK_TICKER)
                and not self.missing[tuple(place)].touches(number, number)
            ]
            require_none(lost, "written, and nowhere")

    def _coverage(self, market, kind, symbol):
        coverage = Coverage()
        for number, of_id in self.rows.get((market, kind, symbol), {}).items():
            first = number
            if kind is Kind.DEPTH:
                row = of_id[0]
                first = row["first_update_id"] if market is Market.SPOT else row["previous_final_update_id"] + 1
            coverage.add([IdRange(first, number)])
        return coverage

    def _check_ends(self, place, rows):
        """Between the first and the last id that are there, each that the exchange made is there or in the ledger."""
        market, kind, symbol = place
        coverage = self._coverage(*place)
        made = [
            record
            for (of, _), record in self._exchange.ledger.records.items()
            if (of, record.kind, record.symbol) == (market, kind.label, symbol)
        ]
        known = Coverage()
        known.add(coverage.ranges)
        known.add(self.missing[place].ranges)
        first, last = min(rows), max(rows)
        for record in made:
            for part_first, part_last in record.produced:
                begin, end = max(part_first, first), min(part_last, last)
                if begin <= end:
                    require_none(known.lacking(IdRange(begin, end)), f"{place}: made, and nowhere")


def require_none(found, what):
    """Nothing of this may be there; here no pytest shows what was."""
    if found:
        raise AssertionError(f"{what}: {len(found)}, the first: {found[:3]}")


def unexpected(errors, is_damaged):
    """The errors of a report without those that say what was done to the journal: its ids are in the ledger."""
    told = ("held no whole frame", "it could not be sealed") if is_damaged else ()
    return [error for error in errors if not any(part in error for part in told)]


def survivors(folder):
    """What lies in the journal and is not sealed: market, kind, symbol and id of every message that can be read."""
    found = set()
    if not (folder / "journal").is_dir():
        return found
    for name in DataFolder(folder).segments():
        path = DataFolder(folder).segment(name)
        if not path.stat().st_size or _is_committed(folder, name):
            continue
        for item in read_segment(path.read_bytes(), name):
            if isinstance(item, Block):
                found |= _keys(item)
    return found


def _is_committed(folder, name):
    """Whether a catalogue says so; it may be lost, or damaged."""
    path = DataFolder(folder).catalogue
    with suppress(DamagedError):
        return path.is_file() and Catalogue(path, is_read_only=True).is_committed(str(name))
    return False


def check_counts(world, runs):
    """Points 6 and 7: received = recorded + counted away, within the limits of attempts and of the queue."""
    for run in runs:
        if run.live is None:
            continue
        counts = run.live.intake.counts
        parts = counts.accepted + counts.duplicates + counts.notices + counts.quarantined + counts.shed
        assert counts.received == parts
        heard = sum(len(world.messages_of(end)) for _, end in world.wires[run.wires_begin : run.wires_end])
        if run.is_heard:
            assert heard == counts.received
        else:
            assert heard >= counts.received
    for host in HOSTS:
        assert ATTEMPTS_PER_5_MIN >= most_within([at for at, one in world.dials if one == host], 300)
    for number, market, since, until in world.bans:
        ended = runs[number - 1].ended
        require_none(
            [at for at, of, *_ in world.requests if of is market and since < at < min(until, ended)],
            f"asked {market.label} during a ban",
        )
    assert [] == [host for host, end in world.wires if not end.is_closed]


def _keys(block):
    found = set()
    for number, text in zip(block.kinds, block.messages, strict=True):
        if number == NOTE_KIND or Kind(number) not in _ID_FIELDS:
            continue
        kind = Kind(number)
        message = json.loads(text)
        if block.source is Source.REST:
            found.add((block.market, kind, message["symbol"], message["data"]["id" if kind is Kind.TRADE else "a"]))
        else:
            data = message["data"]
            found.add((block.market, kind, data["s"], data[_ID_FIELDS[kind]]))
    return found


def _place(gap):
    return MARKETS_BY_LABEL[gap.market], Kind.from_label(gap.kind), gap.symbol


def _stored(folder):
    """Rows by market, kind and symbol, and of these by id."""
    stored = defaultdict(lambda: defaultdict(list))
    for file in Catalogue(folder / "catalogue.sqlite", is_read_only=True).sealed_files():
        kind = _KINDS.get(file.kind)
        if kind is None:
            continue
        names = list(COLUMNS[kind])
        for group in read_row_groups(folder / file.path, names):
            columns = [group[name].tolist() for name in names]
            for values in zip(*columns, strict=True):
                row = dict(zip(names, values, strict=True))
                assert 0 == row.get("epoch", 0), "no ids start over here"
                stored[MARKETS_BY_LABEL[file.market], kind, str(row["symbol"])][row[IDS[kind]]].append(row)
    return stored


def _sent(exchange, heard):
    """Every payload that somebody was sent, by market, kind, symbol and id; in fragments it is in no log."""
    sent = {}
    for host, text in heard:
        with suppress(ValueError, KeyError, TypeError, IndexError, RecursionError):
            message = json.loads(text)
            kind, data = _KINDS[message["stream"].split("@")[1]], message["data"]
            sent[HOSTS[host], kind, data["s"], data[_ID_FIELDS[kind]]] = data
    for market, stream, raw in exchange.ledger.log:
        kind = _KINDS[stream.split("@")[1]]
        data = json.loads(raw)
        sent[market, kind, data["s"], data[_ID_FIELDS[kind]]] = data
    return sent


def _past(exchange):
    """Every trade and aggTrade that was made, as its columns should be."""
    past = {}
    for market, venue in exchange.venues.items():
        for symbol, history in venue.source.histories().items():
            for one in history.trades:
                past[market, Kind.TRADE, symbol, one.trade_id] = (
                    float(one.price), float(one.quantity), one.time_us // 1000 * _MS, one.is_buyer_maker,
                )  # fmt: skip
            for one in history.agg_trades:
                past[market, Kind.AGG_TRADE, symbol, one.agg_trade_id] = (
                    float(one.price), float(one.quantity), one.time_us // 1000 * _MS, one.is_buyer_maker,
                    one.first_trade_id, one.last_trade_id,
                )  # fmt: skip
    return past


def _stored_trade(kind, row):
    values = row["price"], row["quantity"], row["exchange_time"], row["is_buyer_maker"]
    return (*values, row["first_trade_id"], row["last_trade_id"]) if kind is Kind.AGG_TRADE else values


def _quote(data):
    return tuple(float(data[name]) for name in "bBaA")


def _stored_quote(row):
    return row["bid_price"], row["bid_quantity"], row["ask_price"], row["ask_quantity"]


def _depth_rows(data):
    levels = [
        (side, float(price), float(quantity))
        for side, of_side in (("bid", data["b"]), ("ask", data["a"]))
        for price, quantity in of_side
    ]
    if not levels:
        return [(data["U"], data.get("pu", 0), "")]
    return sorted((data["U"], data.get("pu", 0), *level) for level in levels)


def _depth_row(row):
    ids = row["first_update_id"], row["previous_final_update_id"]
    return (*ids, row["side"], row["price"], row["quantity"]) if row["side"] else (*ids, "")
