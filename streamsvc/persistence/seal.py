"""A sealer: one segment of the journal becomes Parquet files in a folder of the sealer's own.

Runs in a worker process and only prepares: it touches neither the data set nor the catalogue, since a worker outlives
its parent's death and two may work on one segment. Every row of the segment is in the files or in the quarantine file;
one bad row never fails a segment. The same segment gives the same bytes.
"""

from __future__ import annotations

import gc
import hashlib
import mmap
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from streamsvc.gap import NOTE_KIND
from streamsvc.persistence.archive import archive_place
from streamsvc.persistence.compression import compress_into
from streamsvc.persistence.decoding import DayLimit, decode
from streamsvc.persistence.derived_payloads import DERIVED_PAYLOADS, read_symbol
from streamsvc.persistence.describing import describe_file
from streamsvc.persistence.files import no_room_mapped
from streamsvc.persistence.journal import Damage, read_segment
from streamsvc.persistence.layout import JOURNAL_SUFFIX, SegmentName
from streamsvc.persistence.manifest import INEXACT_FILE, QUARANTINE_FILE, Manifest, QuarantinedId, SealedFile
from streamsvc.persistence.parquet import write_file
from streamsvc.persistence.quarantine import encode_item
from streamsvc.persistence.tables import DayTable, Table
from streamsvc.schema import COLUMNS, Kind, Market, Source
from streamsvc.venues.binance_heads import DECODE_ERRORS, head_decoder
from streamsvc.venues.binance_payloads import PAYLOADS
from streamsvc.venues.binance_rest_payloads import read_symbol_and_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from numpy.typing import NDArray

    from streamsvc.batch import Block
    from streamsvc.venues.payload import Payload

BATCH_MESSAGES = 4000
BATCH_UPDATES = 200
BATCH_SNAPSHOTS = 8
"""Ten thousand levels each, which are 1 MB each while they are Python's numbers."""
_BATCH_SIZES = {Kind.DEPTH: BATCH_UPDATES, Kind.DEPTH_SNAPSHOT: BATCH_SNAPSHOTS}
_MINUTE_MS = 60_000
_PAYLOADS = PAYLOADS | DERIVED_PAYLOADS
QUARANTINED_IDS_MAX = 10_000
_DAMAGE_PIECE_BYTES = 256 * 1024


def seal_segment(segment_path: str, tmp_root: str, *, keeps_raw: bool = False) -> Manifest:
    """Make Parquet files of a segment, synced, in `<tmp_root>/<segment>-<pid>/`.

    Args:
        segment_path: The segment, which nobody writes any more; or a published file, whose manifest is then made again.
        tmp_root: `DATA_DIR/tmp`.
        keeps_raw: Whether the segment itself is put beside them, compressed.

    Raises:
        NewerVersionError: a newer version wrote the segment.
        DamagedError: the published file cannot be read.
        DiskFullError: there is no room; what had been made is removed.
        OSError: the segment cannot be read, or the files cannot be written.
    """
    path = Path(segment_path)
    if path.suffix == ".parquet":
        return describe_file(path)
    name = SegmentName.parse(path.name.removesuffix(JOURNAL_SUFFIX))
    assert name is not None, f"{path} is no segment"
    folder = Path(tmp_root) / f"{name}-{os.getpid()}"
    # The collector finds nothing here and costs a third of the time.
    gc.disable()
    try:
        with no_room_mapped():
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(exist_ok=True)  # Whoever tidies up takes `tmp/` for garbage.
            folder.mkdir()
            return _Sealer(name, folder, keeps_raw=keeps_raw).seal(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        gc.enable()


class _Batch:
    """Messages of one payload, gathered until there are enough to decode at once."""

    def __init__(self, source: Source, market: Market, kind: Kind, payload: Payload) -> None:
        self.source = source
        self.market = market
        self.kind = kind
        self.payload = payload
        self.size_max = _BATCH_SIZES.get(kind, BATCH_MESSAGES)
        self.texts: list[bytes] = []
        self._origins: list[tuple[int, int, int]] = []  # Time of receipt, connection and messages of each block.
        self._epochs: list[int] = []  # Of the first messages; those that follow have 0.

    def add(self, block: Block, messages: list[bytes], epochs: list[int] | None) -> None:
        if epochs is not None:
            self._epochs += [0] * (len(self.texts) - len(self._epochs)) + epochs
        self.texts += messages
        self._origins.append((block.received_ns, block.connection, len(messages)))

    def origins(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each message, when it was received, and its connection."""
        received_ns, connections, counts = np.array(self._origins, np.int64).T
        return np.repeat(received_ns, counts), np.repeat(connections, counts)

    def epochs(self) -> NDArray[np.int32]:
        """Of each message, its epoch."""
        epochs = np.zeros(len(self.texts), np.int32)
        epochs[: len(self._epochs)] = self._epochs
        return epochs

    def clear(self) -> None:
        for column in (self.texts, self._origins, self._epochs):
            column.clear()


class _Sealer:
    def __init__(self, name: SegmentName, folder: Path, *, keeps_raw: bool) -> None:
        self._name = name
        self._folder = folder
        self._keeps_raw = keeps_raw
        self._batches: dict[tuple[Market, int], _Batch] = {}
        self._tables: dict[tuple[Market, Kind], Table] = {}
        self._days = DayLimit()
        self._quarantine = _Lines(folder / QUARANTINE_FILE)
        self._inexact = _Lines(folder / INEXACT_FILE)
        self._messages = 0
        self._inexact_count = 0
        self._reasons: Counter[str] = Counter()
        self._damage: Counter[str] = Counter()
        self._ids: list[QuarantinedId] = []
        self._id_places: dict[tuple[Market, Kind, str, int, str], int] = {}
        self._received: list[int] = []
        self._notes: list[bytes] = []

    def seal(self, path: Path) -> Manifest:
        archived = None
        with self._quarantine, self._inexact:
            if path.stat().st_size:
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    self._read(data)
                    if self._keeps_raw and self._received:
                        archived = archive_place(self._name, *self._received)
                        self._write_archived(archived, data)
            for batch in self._batches.values():
                self._flush(batch)
        streams, files = [], []
        for market, kind in sorted(self._tables):
            table = self._tables.pop((market, kind))
            of_streams, days = table.finish()
            streams += of_streams
            files += [self._write(table, day) for day in days]
        _sync_folders(self._folder)
        return Manifest(
            segment=str(self._name),
            folder=str(self._folder),
            files=tuple(files),
            streams=tuple(streams),
            messages=self._messages,
            quarantined=dict(self._reasons),
            quarantined_ids=tuple(self._ids),
            inexact_decimals=self._inexact_count,
            damage=dict(self._damage),
            quarantine_bytes=self._quarantine.size_bytes,
            inexact_bytes=self._inexact.size_bytes,
            first_received_ns=min(self._received, default=None),
            last_received_ns=max(self._received, default=None),
            notes=tuple(self._notes),
            archived=archived,
        )

    def _read(self, data: mmap.mmap) -> None:
        for item in read_segment(data, self._name):
            if isinstance(item, Damage):
                self._keep_damage(data, item)
                continue
            self._messages += len(item.messages) - item.kinds.count(NOTE_KIND)
            seen = [item.received_ns, *self._received]
            self._received = [min(seen), max(seen)]
            for kind, messages, epochs in _by_kind(item):
                if kind == NOTE_KIND:
                    self._notes += messages
                    continue
                batch = self._batch_of(item, kind)
                if batch is None:
                    self._refuse_unknown(item, kind, messages)
                    continue
                batch.add(item, messages, epochs)
                if len(batch.texts) >= batch.size_max:
                    self._flush(batch)

    def _batch_of(self, block: Block, kind: int) -> _Batch | None:
        key = block.market, kind
        batch = self._batches.get(key)
        if batch is None or batch.source is not block.source:
            known = next((member for member in Kind if member == kind), None)
            payload = _PAYLOADS.get((block.source, block.market, known)) if known is not None else None
            if known is None or payload is None:
                return None
            if batch is not None:
                # What another source brought before stands before this in the file.
                self._flush(batch)
            batch = self._batches[key] = _Batch(block.source, block.market, known, payload)
        return batch

    def _flush(self, batch: _Batch) -> None:
        if not batch.texts:
            return
        received_ns, _ = batch.origins()
        decoded = decode(batch.payload, batch.kind, batch.texts, received_ns, self._days)
        for refusal in decoded.refusals:
            self._refuse(batch, refusal.index, refusal.reason)
        table = self._tables.setdefault((batch.market, batch.kind), Table(batch.market, batch.kind))
        table.add(decoded.chunk, received_ns[decoded.kept], batch.epochs()[decoded.kept])
        for index in decoded.inexact:
            self._inexact_count += 1
            self._inexact.write(self._line(batch, index, "inexact"))
        batch.clear()

    def _refuse(self, batch: _Batch, index: int, reason: str) -> None:
        self._reasons[reason] += 1
        self._quarantine.write(self._line(batch, index, reason))
        try:
            found = _id_of(batch, index, reason)
        except DECODE_ERRORS:
            # The loop could not read its id either, so nothing counts it as seen.
            return
        # Where the exchange changes what it sends, whole streams are refused: that is one range each.
        stream = found.market, found.kind, found.symbol, found.epoch, reason
        place = self._id_places.get(stream)
        if place is not None and self._ids[place].last_id + 1 == found.first_id:
            self._ids[place] = attrs.evolve(self._ids[place], last_id=found.last_id)
        elif len(self._ids) < QUARANTINED_IDS_MAX:
            self._id_places[stream] = len(self._ids)
            self._ids.append(found)

    def _refuse_unknown(self, block: Block, kind: int, messages: list[bytes]) -> None:
        reason = "unknown_kind"
        self._reasons[reason] += len(messages)
        for text in messages:
            self._quarantine.write(
                encode_item(reason, block.received_ns, block.market.label, block.connection, text, kind=kind)
            )

    def _line(self, batch: _Batch, index: int, reason: str) -> bytes:
        received_ns, connections = batch.origins()
        return encode_item(
            reason,
            int(received_ns[index]),
            batch.market.label,
            int(connections[index]),
            batch.texts[index],
            kind=batch.kind.label,
        )

    def _keep_damage(self, data: mmap.mmap, damage: Damage) -> None:
        self._damage[damage.reason] += damage.size_bytes
        if damage.reason == "zero_tail":
            return
        end = damage.offset + damage.size_bytes
        for offset in range(damage.offset, end, _DAMAGE_PIECE_BYTES):
            piece = data[offset : min(offset + _DAMAGE_PIECE_BYTES, end)]
            self._quarantine.write(encode_item(damage.reason, 0, "", 0, piece, offset=offset))

    def _write_archived(self, place: str, data: mmap.mmap) -> None:
        target = self._folder / place
        self._make_folders(target)
        with target.open("wb") as file:
            compress_into(file, data)
            file.flush()
            os.fsync(file.fileno())

    def _make_folders(self, target: Path) -> None:
        # Not with `parents`: where our folder was removed, we are an orphan and must not make it again.
        for parent in reversed(list(target.relative_to(self._folder).parents)[:-1]):
            (self._folder / parent).mkdir(exist_ok=True)

    def _write(self, table: Table, day: DayTable) -> SealedFile:
        market, kind = table.market, table.kind
        place = f"parquet/{kind.label}/market={market.label}/date={day.date}/{self._name}.parquet"
        target = self._folder / place
        self._make_folders(target)
        with target.open("wb") as raw:
            file = _HashedFile(raw)
            write_file(file, COLUMNS[kind], table.categories(), table.row_groups(day))  # type: ignore[arg-type]
            raw.flush()
            os.fsync(raw.fileno())
        exchange_ns = day.columns["exchange_time"]
        return SealedFile(
            path=place,
            kind=kind.label,
            market=market.label,
            date=day.date,
            rows=day.rows,
            size_bytes=file.tell(),
            sha256=file.sha256.hexdigest(),
            first_exchange_ns=int(exchange_ns.min()),
            last_exchange_ns=int(exchange_ns.max()),
        )


def _by_kind(block: Block) -> Iterator[tuple[int, list[bytes], list[int] | None]]:
    """The messages of each kind with their epochs, in order."""
    first = block.kinds[:1]
    if block.kinds.count(first) == len(block.kinds):
        if block.messages:
            yield first[0], block.messages, block.epochs
        return
    for kind in sorted(set(block.kinds)):
        chosen = [index for index, other in enumerate(block.kinds) if other == kind]
        epochs = [block.epochs[index] for index in chosen] if block.epochs is not None else None
        yield kind, [block.messages[index] for index in chosen], epochs


def _id_of(batch: _Batch, index: int, reason: str) -> QuarantinedId:
    """The id that the loop read of a message that the sealer could not."""
    epoch = int(batch.epochs()[index])
    if batch.source is Source.DERIVED:
        return QuarantinedId(batch.market, batch.kind, read_symbol(batch.texts[index]), epoch, 0, 0, reason)
    if batch.source is Source.REST:
        symbol, number = read_symbol_and_id(batch.kind, batch.texts[index])
        return QuarantinedId(batch.market, batch.kind, symbol, epoch, number, number, reason)
    head = head_decoder(batch.market, batch.kind)(batch.texts[index]).data
    if batch.kind is Kind.DEPTH:
        # What is missing with a futures update begins behind the one before it, as `integrity.sequence` says.
        first_id, last_id = (head.U if batch.market is Market.SPOT else min(head.pu + 1, head.u)), head.u
    elif batch.kind is Kind.KLINE_1M:
        # An open candle is no id that anybody misses; minute 0 is none of ours.
        first_id = last_id = head.k.t // _MINUTE_MS if head.k.x else 0
    else:
        first_id = last_id = next((getattr(head, name) for name in ("id", "u") if hasattr(head, name)), 0)
    return QuarantinedId(batch.market, batch.kind, head.s, epoch, first_id, last_id, reason)


class _Lines:
    """A file that is made with its first line, and synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self.size_bytes = 0

    def write(self, line: bytes) -> None:
        if self._file is None:
            self._file = self._path.open("wb")
        self._file.write(line)
        self.size_bytes += len(line)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_exc: object) -> None:
        if self._file is not None:
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())


class _HashedFile:
    """What `write_file` writes to: it counts and hashes on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size_bytes = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.sha256.update(data)
        self._size_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size_bytes


def _sync_folders(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
