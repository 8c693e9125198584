"""Messages whose ids do not chain, while two connections bring their stream: each is recorded once (pure).

What makes two of them the same is the key, those of `binance.md`. Keys are remembered in two generations, of which the
older is forgotten whenever another one begins, so that memory is bounded and a lag of one generation costs nothing.
What is older than all that is remembered may have been recorded: it is taken for repeated. Along one connection the
order of messages never falls, unless the exchange has started its numbers over: then nothing counts as old any more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Seen:
    """What two connections have brought of one stream."""

    __slots__ = ("_floor", "_older", "_older_order", "_places", "_younger", "_younger_order")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._younger: set[Hashable] = set()
        self._older: set[Hashable] = set()
        self._younger_order = self._older_order = self._floor = -math.inf
        self._places: dict[int, int] = {}

    def is_repeated(self, key: Hashable, order: int, connection: int) -> bool:
        """Whether a message was seen already; it is seen from now on.

        Args:
            key: What it has in common with itself on another connection, and with no other message.
            order: A number that grows from message to message of one connection.
            connection: Who brings it.
        """
        if order < self._places.get(connection, order):
            self._younger_order = self._older_order = self._floor = -math.inf
        self._places[connection] = order
        if key in self._younger or key in self._older or order <= self._floor:
            return True
        self._younger.add(key)
        self._younger_order = max(self._younger_order, order)
        return False

    def begin_generation(self) -> None:
        """Forget the older generation."""
        self._floor = self._older_order
        self._older, self._older_order = self._younger, self._younger_order
        self._younger, self._younger_order = set(), -math.inf

    def leave(self, connection: int) -> None:
        """A connection has ended."""
        self._places.pop(connection, None)
