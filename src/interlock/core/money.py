"""Money as integer nano-units, so that sums are exact and a database can add them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Money"]

_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount of US dollars in nano-dollars (1e-9 USD).

    One token of a $0.10 / million-token model is 100 nano-dollars, so prices per token stay exact.
    """

    nano: int

    @classmethod
    def zero(cls) -> Money:
        """Nothing. Not the same as *unpriced*, which is ``None`` wherever a price may be unknown."""
        return cls(0)

    @classmethod
    def of(cls, amount: str | int | Decimal) -> Money:
        """Dollars to money; digits past the ninth place are rounded half to even."""
        return cls(int((Decimal(amount) * _NANO).to_integral_value()))

    def __add__(self, other: Money) -> Money:
        return Money(self.nano + other.nano)

    def __sub__(self, other: Money) -> Money:
        return Money(self.nano - other.nano)

    def decimal(self) -> Decimal:
        """Dollars, exact."""
        return Decimal(self.nano) / _NANO

    def plain(self) -> str:
        """Dollars in digits, such as ``0.000025``, exact."""
        whole, part = divmod(abs(self.nano), _NANO)
        text = f"{whole}.{part:09d}".rstrip("0").rstrip(".")
        return text if self.nano >= 0 else f"-{text}"

    def __str__(self) -> str:
        if self.nano == 0:
            return "$0"
        amount = self.decimal()
        digits = 2 if abs(amount) >= 1 else 6 if abs(amount) >= Decimal("0.0001") else 9
        return f"${amount:.{digits}f}"
