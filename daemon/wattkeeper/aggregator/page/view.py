"""What a page is: its parameters, what it asks for, and what it shows of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from wattkeeper.aggregator.access.roles import Audience
from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.page.asking import Asker

Q = TypeVar("Q", bound=Query)


@dataclass(frozen=True, slots=True)
class View:
    """A template and what goes into it; `values` takes its time, so it is called in a thread."""

    template: str
    values: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Page(Generic[Q]):
    """`GET path` for people who may. `see` asks, on the event loop."""

    path: str
    summary: str
    who: Audience
    query: type[Q]
    see: Callable[[Asker, Q], Awaitable[View]]
