"""What a connection still has to send, and which messages of which streams that accounts for. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamsvc.simulator.ledger import StreamRecord

BATCH_BYTES = 256 << 10
"""What is sent at once: more would leave it open for longer whether a cut lost it."""


class Account:
    """Messages of one stream in a row."""

    __slots__ = ("count", "first_id", "last_id", "record")

    def __init__(self, record: StreamRecord, first_id: int, last_id: int) -> None:
        self.record = record
        self.first_id = first_id
        self.last_id = last_id
        self.count = 1


class Batch:
    """Frames that are sent together, and what they account for."""

    __slots__ = ("_open", "accounts", "frames", "size_bytes")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.size_bytes = 0
        self.accounts: list[Account] = []
        self._open: dict[StreamRecord, Account] = {}

    def note(self, record: StreamRecord, first_id: int, last_id: int) -> None:
        """The last frame is a message of this stream."""
        account = self._open.get(record)
        if account is not None and (first_id == account.last_id + 1 or not record.is_chained):
            account.last_id = last_id
            account.count += 1
        else:
            self._open[record] = account = Account(record, first_id, last_id)
            self.accounts.append(account)


class Outbox:
    """A connection's queue.

    Attributes:
        queued_bytes: Not sent yet, what is under way included.
    """

    def __init__(self) -> None:
        self.queued_bytes = 0
        self._batches: deque[Batch] = deque([Batch()])

    def add(self, framed: bytes) -> Batch:
        """Queue a frame; the batch is given back so that it can be noted there what the frame is."""
        batch = self._batches[-1]
        if batch.size_bytes >= BATCH_BYTES:
            batch = Batch()
            self._batches.append(batch)
        size_bytes = len(framed)
        batch.frames.append(framed)
        batch.size_bytes += size_bytes
        self.queued_bytes += size_bytes
        return batch

    def take(self) -> Batch | None:
        """The oldest batch, if there is one; it stays in the queue, unchanged, until it is `sent`."""
        batch = self._batches[0]
        if not batch.frames:
            return None
        if len(self._batches) == 1:
            self._batches.append(Batch())
        return batch

    def sent(self, batch: Batch) -> None:
        """The batch that was taken has been sent: its messages count as such."""
        self._batches.popleft()
        self.queued_bytes -= batch.size_bytes
        for account in batch.accounts:
            account.record.add_sent(account.first_id, account.last_id, account.count)

    def write_off(self) -> Iterator[Account]:
        """What will never be sent; the queue is empty afterwards."""
        self.queued_bytes = 0
        batches, self._batches = self._batches, deque([Batch()])
        for batch in batches:
            yield from batch.accounts
