"""Exact amounts as they are shown: rounded so that rows add up to their sum."""

from collections.abc import Sequence
from dataclasses import dataclass

from wattkeeper.factors.units import decimal_text
from wattkeeper.factors.weights import GRAM_DIGITS, MONEY_DIGITS, Amount, Valuation, apportion


@dataclass(frozen=True, slots=True)
class Worth:
    """What an energy costs, in millionths of a currency, and emits, in milligrams; None: unknown.

    `…_guessed`: the part of the energy that was valued by estimated factors.
    """

    money: int | None
    milligrams: int | None
    money_guessed: float | None
    milligrams_guessed: float | None

    @property
    def cost(self) -> str | None:
        """The money as a decimal: `12.345678`."""
        return None if self.money is None else decimal_text(self.money, MONEY_DIGITS)

    @property
    def carbon_g(self) -> str | None:
        """The carbon in grams, as a decimal: `12.345`."""
        return None if self.milligrams is None else decimal_text(self.milligrams, GRAM_DIGITS)


def worth(amounts: Sequence[Amount], by: Valuation) -> tuple[list[Worth], Worth]:
    """Round the amounts of rows; return them, and what they come to together."""
    known = by.amount({})
    money = milligrams = None
    if known.cost is not None:
        money = apportion([one.cost or 0 for one in amounts], by.per_money)
    if known.carbon is not None:
        milligrams = apportion([one.carbon or 0 for one in amounts], by.per_gram)
    rows = [
        _worth(
            one,
            None if money is None else money[number],
            None if milligrams is None else milligrams[number],
            by,
        )
        for number, one in enumerate(amounts)
    ]
    whole = Amount(
        uj=sum(one.uj for one in amounts),
        cost_guessed=sum(one.cost_guessed for one in amounts),
        carbon_guessed=sum(one.carbon_guessed for one in amounts),
    )
    return rows, _worth(
        whole,
        None if money is None else sum(money),
        None if milligrams is None else sum(milligrams),
        by,
    )


def _worth(one: Amount, money: int | None, milligrams: int | None, by: Valuation) -> Worth:
    return Worth(
        money,
        milligrams,
        None if money is None else by.guessed_ratio(one.cost_guessed, one.uj),
        None if milligrams is None else by.guessed_ratio(one.carbon_guessed, one.uj),
    )
