"""What callers share, so that none of them takes it all."""

from __future__ import annotations

from collections import Counter


class Shares:
    """So much of something for all callers together, and for each no more than a share of it.

    Args:
        most: of it, there is.
        each: of it, one caller may have.
    """

    def __init__(self, most: int, each: int) -> None:
        self.used = 0
        self._most = most
        self._each = each
        self._of: Counter[str] = Counter()

    def take(self, whose: str, amount: int = 1, each: int | None = None) -> bool:
        """Whether there was so much for a caller, who has it now. `each`: another share than most have."""
        share = self._each if each is None else each
        if self.used + amount > self._most or self._of[whose] + amount > share:
            return False
        self.used += amount
        self._of[whose] += amount
        return True

    def give_back(self, whose: str, amount: int = 1) -> None:
        """What was taken is free again."""
        self.used -= amount
        self._of[whose] -= amount
        if not self._of[whose]:
            del self._of[whose]
