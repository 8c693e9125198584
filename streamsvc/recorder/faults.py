"""What a recorder of records raises, named by what the caller can do about it."""

from __future__ import annotations

from streamsvc.errors import StreamsvcError, UsageError


class RecordError(StreamsvcError, ValueError):
    """This record cannot be written as JSON, or is not one. Nothing of it was taken."""


class NotWrittenError(StreamsvcError):
    """The disk did not take records for as long as the caller wanted to wait; `from` what it said, if it spoke.

    Attributes:
        is_held: Whether what the caller brought was accepted: then it is in memory and goes to the disk as soon as that
            works, and must not be brought again.
        lines: What is lost with the recorder, where its end raised this: JSON, one record a line.
    """

    def __init__(self, text: str, *, is_held: bool, lines: bytes = b"") -> None:
        super().__init__(text)
        self.is_held = is_held
        self.lines = lines


class PairError(StreamsvcError, KeyError):
    """A trade was closed that is not open, or opened that is.

    Attributes:
        trade_id: Its id.
    """

    def __init__(self, trade_id: str, text: str) -> None:
        super().__init__(text)
        self.trade_id = trade_id

    __str__ = StreamsvcError.__str__  # That of a KeyError puts quotes around a sentence.


class RecorderClosedError(UsageError):
    """The recorder's block has been left."""
