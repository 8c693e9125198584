"""What REST brings, on its way to the journal: trades that were missing, order books, instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.batch import Block
from streamsvc.gap import NOTE_KIND
from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_rest import journal_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamsvc.batch import BlockSender
    from streamsvc.integrity.chains import Chains
    from streamsvc.venues.venue import Stream


class Fetched:
    """Records what REST brings. Made by the intake.

    Args:
        chains: What is missing.
        sender: The channel to the writer; the caller closes it.
        wall_ns: The wall clock.

    Attributes:
        rows_of: Trades of each market that were missing and that were recorded.
    """

    def __init__(self, chains: Chains, sender: BlockSender, wall_ns: Callable[[], int]) -> None:
        self._chains = chains
        self._sender = sender
        self._wall_ns = wall_ns
        self.rows_of = dict.fromkeys(Market, 0)

    @property
    def rows(self) -> int:
        """Trades of all markets that were missing and that were recorded."""
        return sum(self.rows_of.values())

    async def wait_room(self) -> None:
        """Wait until the writer's channel has room."""
        await self._sender.wait_room()

    def record_snapshot(self, stream: Stream, epoch: int, body: bytes) -> None:
        """Record an order book that REST gave, right after `wait_room`.

        Args:
            stream: The stream of its updates.
            epoch: The epoch of their ids.
            body: The exchange's own JSON.
        """
        text = journal_text(stream.symbol, body)
        self._put(stream.market, Kind.DEPTH_SNAPSHOT, [text], [], epoch)

    def record_instruments(self, market: Market, time_ms: int, symbols: Sequence[tuple[str, bytes]]) -> None:
        """Record symbols of an answer, name and JSON of each, right after `wait_room`; `time_ms` is the exchange's."""
        texts = [journal_text(symbol, raw, time_ms=time_ms) for symbol, raw in symbols]
        self._put(market, Kind.INSTRUMENT, texts, [], 0)

    def take_fetched(self, stream: Stream, epoch: int, rows: Sequence[tuple[int, bytes]]) -> int:
        """Record what is still missing of the rows that REST gave, right after `wait_room`; returns how many.

        Args:
            stream: Whose trades they are.
            epoch: The epoch of their ids.
            rows: Their ids, and the exchange's own JSON of each.
        """
        missing = [raw for number, raw in rows if self._chains.take_fetched(stream, epoch, number)]
        texts = [journal_text(stream.symbol, raw) for raw in missing]
        if texts:
            self._put(stream.market, stream.kind, texts, self._chains.notes(self._wall_ns()), epoch)
            self.rows_of[stream.market] += len(texts)
        return len(texts)

    def _put(self, market: Market, kind: Kind, texts: list[bytes], notes: list[bytes], epoch: int) -> None:
        messages = texts + notes
        self._sender.put_nowait(
            Block(
                market=market,
                source=Source.REST,
                connection=0,
                received_ns=self._wall_ns(),
                kinds=bytes([kind]) * len(texts) + bytes([NOTE_KIND]) * len(notes),
                messages=messages,
                size_bytes=sum(map(len, messages)),
                epochs=[epoch] * len(texts) + [0] * len(notes) if epoch else None,
            )
        )
