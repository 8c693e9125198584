"""How a sealer reads the messages of one source, market and kind: a decoder, and which field is which column.

Prices and quantities come as JSON strings and are decoded straight into floats by a lax decoder. It takes `"NaN"`,
`"Infinity"` and `"-1"`, which the sealer checks as numbers; and it takes a JSON number where a string is documented,
and does not see bad UTF-8 in fields that it skips. Reading many messages at once leaves those two to the caller, who
can look at all of them together; reading one message looks at everything. The reverse, a string that holds a documented
integer, is taken: it is the same integer.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_origin

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

Levels = list[tuple[float, float]]
"""Price and quantity of each level."""

FloatOrEmpty = float | Literal[""]
"""A number where some symbols have none, which is recorded as 0."""

Data = TypeVar("Data", bound=msgspec.Struct)


class Message(msgspec.Struct, Generic[Data], gc=False):
    """The combined form of a stream, of which a sealer needs the message only."""

    data: Data


class Payload:
    """How the messages of one source, market and kind are read.

    Args:
        struct: The decoded message.
        inner: The one field of it that holds more columns, if there is one.
        more_paths: Further columns, as in `paths`.
        is_combined: Whether the message is what the combined form of a stream holds, else it is the whole text.
        is_backfilled: Whether its rows were fetched after the fact.

    Attributes:
        paths: For each column that a message brings, where its value lies in the decoded message.
        fields: The names of the message's own fields, in order.
        quoted_keys: The names, as the exchange has them, of numbers that come as strings.
        quoted_letters: The last letters of these names.
        bare_number: Finds one of these keys with a number that is no string, in text without white space.
        maybe_empty: Columns whose number may be an empty string.
        bids: Where the levels lie of which a message has a row each; None: it is one row.
        asks: The same on the other side.
        is_backfilled: Whether its rows were fetched after the fact.
    """

    def __init__(
        self,
        struct: type[msgspec.Struct],
        *,
        inner: str = "",
        more_paths: Mapping[str, str] | None = None,
        is_combined: bool = True,
        is_backfilled: bool = False,
    ) -> None:
        self.is_backfilled = is_backfilled
        self.fields = tuple(field.name for field in msgspec.structs.fields(struct))
        self.paths: dict[str, str] = {}
        self.quoted_keys: set[bytes] = set()
        self.maybe_empty: set[str] = set()
        self._add_fields(struct, "", inner)
        self.paths |= more_paths or {}
        self.bids, self.asks = self.paths.pop("bids", None), self.paths.pop("asks", None)
        self._struct = struct
        self._is_combined = is_combined
        self.quoted_letters = sorted({key[-1] for key in self.quoted_keys})
        self.bare_number = re.compile(rb'"(?:%b)":[-0-9]' % b"|".join(map(re.escape, sorted(self.quoted_keys))))
        self._decoder = self._make_decoder(struct)

    def _add_fields(self, struct: type[msgspec.Struct], prefix: str, inner: str) -> None:
        for field in msgspec.structs.fields(struct):
            if field.name == inner:
                self._add_fields(field.type, f"{inner}.", "")
                continue
            if field.type is not msgspec.Raw:
                self.paths[field.name] = prefix + field.name
            if field.type in (float, FloatOrEmpty):
                self.quoted_keys.add(field.encode_name.encode())
            if field.type == FloatOrEmpty:
                self.maybe_empty.add(field.name)

    def _make_decoder(self, struct: type[msgspec.Struct]) -> Any:
        whole: Any = Message[struct] if self._is_combined else struct  # type: ignore[valid-type]
        return msgspec.json.Decoder(whole, strict=False)

    @cached_property
    def _documented(self) -> Any:
        """A decoder that wants strings where the exchange documents strings."""
        return self._make_decoder(_with_strings(self._struct))

    def decode(self, text: bytes) -> Any:
        """Read one message, all of which is as documented.

        Raises one of `binance_heads.DECODE_ERRORS`.
        """
        text.decode()
        message = self._decoder.decode(text)
        self._documented.decode(text)
        return message.data if self._is_combined else message

    def decode_lines(self, lines: bytes) -> list[Any]:
        """Read messages at once, each a line, which is several times cheaper.

        Whether each is UTF-8, and has a string for each of `quoted_keys` and in its levels, is for the caller to see.
        Raises one of `binance_heads.DECODE_ERRORS` if any of them cannot be read: then read them one by one.
        """
        messages: list[Any] = self._decoder.decode_lines(lines)
        return [message.data for message in messages] if self._is_combined else messages


def _with_strings(kind: Any) -> Any:
    """The same type with strings instead of floats."""
    if kind in (float, FloatOrEmpty):
        return str
    if kind == Levels:
        return list[tuple[str, str]]
    struct = get_origin(kind) or kind
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        return kind
    fields: list[tuple[str, Any, Any]] = [
        (
            field.name,
            _with_strings(field.type),
            msgspec.field(name=field.encode_name, default=field.default),
        )
        for field in msgspec.structs.fields(kind)
    ]
    config = struct.__struct_config__
    return msgspec.defstruct(struct.__name__, fields, tag=config.tag, tag_field=config.tag_field, kw_only=True)
