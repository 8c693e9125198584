"""An order book in whole ticks and lots. Pure."""

from __future__ import annotations

BID, ASK = 0, 1


class BookSide:
    """One side. Levels are keyed so that a better price is a higher key: bids by ticks, asks by minus ticks."""

    __slots__ = ("best", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[int, int] = {}
        self.best = 0

    def set(self, key: int, lots: int) -> bool:
        """Set a level's quantity, 0 deletes it. At least one level must remain.

        Returns:
            Whether the touch changed.
        """
        levels = self.levels
        if lots:
            levels[key] = lots
            if not self.best or key >= self.best:
                self.best = key
                return True
            return False
        del levels[key]
        if key == self.best:
            self.best = max(levels)
            return True
        return False

    def top(self, limit: int) -> list[tuple[int, int]]:
        """The best levels as ticks and lots, best first."""
        return [(key * self.sign, self.levels[key]) for key in sorted(self.levels, reverse=True)[:limit]]


class Book:
    """Both sides, and the id of the last change."""

    def __init__(self, update_id: int) -> None:
        self.sides = (BookSide(1), BookSide(-1))
        self.update_id = update_id

    @property
    def best_bid(self) -> int:
        """In ticks."""
        return self.sides[BID].best

    @property
    def best_ask(self) -> int:
        """In ticks."""
        return -self.sides[ASK].best
