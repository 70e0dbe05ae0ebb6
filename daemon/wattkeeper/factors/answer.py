"""Factors out of an answer in JSON, by paths that the configuration gives.

A path is names and numbers between dots: `data.0.intensity.actual`. `items` leads to a list (or to
one object) whose elements the other paths start from; without it the answer itself is the element.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from wattkeeper.factors.instants import instant_ms
from wattkeeper.factors.series import Value
from wattkeeper.factors.units import Unit

_ABSENT = object()


class AnswerError(ValueError):
    """An answer that holds no factor. The message says where one was looked for."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where what stands. `forecast`: counts, as estimated, where `value` is null or missing."""

    value: str
    time: str
    items: str | None = None
    estimated: str | None = None
    forecast: str | None = None


def read(body: bytes, recipe: Recipe, unit: Unit, now_ms: int) -> list[Value]:
    """Return the values of an answer up to now, in the order of their time.

    What is yet to come is left out: it will be known better. An element without a value counts
    for nothing.

    Raises:
        AnswerError: no JSON, nothing at a path, or not a number and a time.

    """
    try:
        answer = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise AnswerError(f"is no JSON: {str(error)[:80]}") from None
    found = _at(answer, recipe.items) if recipe.items else answer
    if found is _ABSENT:
        raise AnswerError(f"has nothing at items = {recipe.items!r}: {_shape(answer)}")
    elements = found if isinstance(found, list) else [found]
    values = sorted(value for one in elements for value in _value(one, recipe, unit))
    past = [value for value in values if value.at_ms <= now_ms]
    if not values:
        raise AnswerError(f"has no value at {recipe.value!r}: {_shape(found)}")
    return past


def _value(element: Any, recipe: Recipe, unit: Unit) -> Iterator[Value]:
    amount, estimated = _at(element, recipe.value), False
    if amount in (None, _ABSENT) and recipe.forecast:
        amount, estimated = _at(element, recipe.forecast), True
    if amount in (None, _ABSENT):
        return
    when = _at(element, recipe.time)
    if when is _ABSENT:
        raise AnswerError(f"has no time at {recipe.time!r}: {_shape(element)}")
    if recipe.estimated and _at(element, recipe.estimated) not in (None, False, 0, _ABSENT):
        estimated = True
    try:
        if isinstance(amount, bool):
            raise InvalidOperation
        yield Value(instant_ms(when), unit.rate(Decimal(amount)), estimated)
    except (InvalidOperation, TypeError):
        raise AnswerError(f"{str(amount)[:40]!r} at {recipe.value!r} is no number") from None
    except ValueError as error:
        raise AnswerError(str(error)) from None


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def _shape(value: Any) -> str:
    """Say what is there instead, so that a path can be put right."""
    if isinstance(value, dict):
        return f"there is {', '.join(map(str, list(value)[:8])) or 'an empty object'}"
    if isinstance(value, list):
        return f"there is a list of {len(value)}"
    return f"there is {str(value)[:40]!r}"
