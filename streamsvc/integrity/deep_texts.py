"""What a deep check reads beside the data set: segments of the journal frame by frame, and kept texts line by line.

Nothing is read through a mapping of memory: the service may cut a segment short, where the disk is full, and a mapped
page that is gone kills its reader. So memory is that of the largest segment.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import orjson

from streamsvc.errors import DamagedError, NewerVersionError
from streamsvc.gap import NOTE_KIND, decode_note
from streamsvc.persistence.archive import archived_dates, archived_segments
from streamsvc.persistence.compression import decompress
from streamsvc.persistence.journal import Damage, read_segment
from streamsvc.persistence.layout import JOURNAL_SUFFIX

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.batch import Block
    from streamsvc.integrity.day_gaps import Day
    from streamsvc.integrity.report import Report
    from streamsvc.persistence.layout import DataFolder, SegmentName

_TORN = frozenset({"torn_tail", "zero_tail"})


@attrs.define
class SegmentContents:
    """What is in a segment.

    Attributes:
        messages: Whole messages, without notes.
        bad_notes: Notes for the ledger that are none.
        damage: Bytes without a whole frame, by reason.
        first_ns: When the first message was received; None where there is none.
        last_ns: The same of the last one.
    """

    messages: int = 0
    bad_notes: int = 0
    damage: Counter[str] = attrs.Factory(Counter)
    first_ns: int | None = None
    last_ns: int | None = None

    def add(self, block: Block) -> None:
        """Count a frame."""
        self.messages += len(block.messages) - block.kinds.count(NOTE_KIND)
        self.first_ns = min(block.received_ns, self.first_ns or block.received_ns)
        self.last_ns = max(block.received_ns, self.last_ns or block.received_ns)
        for kind, text in zip(block.kinds, block.messages, strict=True):
            if kind == NOTE_KIND and not _is_note(text):
                self.bad_notes += 1


def scan_segment(data: bytes, name: SegmentName) -> SegmentContents:
    """Read a segment frame by frame (pure); raises NewerVersionError where a newer version wrote it."""
    contents = SegmentContents()
    for item in read_segment(data, name):
        if isinstance(item, Damage):
            contents.damage[item.reason] += item.size_bytes
        else:
            contents.add(item)
    return contents


def _is_note(text: bytes) -> bool:
    try:
        decode_note(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def is_of_day(path: Path, name: SegmentName, day: Day) -> bool:
    """Whether a segment may hold what was received on a day; one that cannot be read may hold anything."""
    try:
        contents = scan_segment(path.read_bytes(), name)
    except (NewerVersionError, OSError):
        return True
    if contents.first_ns is None or contents.last_ns is None:
        return bool(contents.damage)
    return day.touches(contents.first_ns, contents.last_ns)


def check_segments(folder: DataFolder, report: Report) -> None:
    """Scan the segments that wait, and those that were set aside."""
    waiting = [(folder.segment(name), name) for name in (folder.segments() if folder.journal.is_dir() else ())]
    aside = [
        (folder.failed / f"{name}{JOURNAL_SUFFIX}", name)
        for name in (folder.failed_segments() if folder.failed.is_dir() else ())
    ]
    report.unsealed_messages = 0
    for path, name in [*waiting, *aside]:
        place = path.relative_to(folder.root).as_posix()
        try:
            contents = scan_segment(path.read_bytes(), name)
        except FileNotFoundError:
            # It was sealed meanwhile.
            continue
        except (NewerVersionError, OSError) as fault:
            report.add_error(f"{place}: {fault}")
            continue
        report.unsealed_messages += contents.messages
        for reason, size_bytes in sorted(contents.damage.items()):
            # The last frame of the open segment may be in the middle of its write.
            if reason in _TORN:
                report.torn_bytes += size_bytes
            else:
                report.add_error(f"{place}: {size_bytes:,} bytes hold no whole frame ({reason})")
        if contents.bad_notes:
            report.add_error(f"{place}: {contents.bad_notes:,} notes for the gap ledger cannot be read")


def check_archive(folder: DataFolder, report: Report) -> None:
    """Scan the segments that `RAW_ARCHIVE` keeps; one at a time, in memory."""
    for date in archived_dates(folder):
        for segment in archived_segments(folder, date):
            place = segment.path.relative_to(folder.root).as_posix()
            try:
                contents = scan_segment(decompress(segment.path.read_bytes()), segment.name)
            except FileNotFoundError:
                continue  # RETENTION_DAYS has removed it meanwhile.
            except (DamagedError, NewerVersionError, OSError) as fault:
                report.add_error(f"{place}: {fault}")
                continue
            for reason, size_bytes in sorted(contents.damage.items()):
                if reason not in _TORN:
                    report.add_error(f"{place}: {size_bytes:,} bytes hold no whole frame ({reason})")


def check_quarantine(folder: DataFolder, report: Report) -> None:
    """Read the texts that were kept; a last line that was not written whole is what a kill leaves."""
    if not folder.quarantine.is_dir():
        return
    for path in sorted(folder.quarantine.glob("*.jsonl")):
        if path.is_symlink() or not path.is_file():
            continue
        place = path.relative_to(folder.root).as_posix()
        try:
            _check_lines(path, place, report)
        except FileNotFoundError:
            # An operator emptied the folder.
            continue
        except OSError as fault:
            report.add_error(f"{place}: {fault}")


def _check_lines(path: Path, place: str, report: Report) -> None:
    wrong: list[int] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                report.torn_bytes += len(line)
            elif not _is_kept_text(line):
                wrong.append(number)
    if wrong:
        report.add_error(f"{place}: {len(wrong):,} lines are no kept texts, the first is line {wrong[0]:,}")


def _is_kept_text(line: bytes) -> bool:
    try:
        item: Any = orjson.loads(line)
        if not isinstance(item, dict) or not isinstance(item.get("reason"), str):
            return False
        if "base64" in item:
            base64.b64decode(item["base64"], validate=True)
            return True
    except (orjson.JSONDecodeError, binascii.Error, TypeError, ValueError):
        return False
    return isinstance(item.get("text"), str)
