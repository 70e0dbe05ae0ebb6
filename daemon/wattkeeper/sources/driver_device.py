"""A GPU as a driver's child asks it: what is the same for every maker's library.

Runs in the child: standard library only. Answers are plain dicts of JSON values, as laid down in
`driver_wire`. What the driver does not say is left out, never zero.
"""

import abc
import time
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

SLOW_S = 10
_HURRY_S = 2
"""Between slow values while holders come and go, which is when process lists change."""
_FORGET_S = 600
"""After so long what was not offered is asked again: a MIG change brings utilization back."""


class CallError(Exception):
    """A call of the library returned `code`, `text` in the maker's words.

    `broken`: the handle is worth nothing any more, only a new initialisation helps.
    """

    def __init__(self, code: int, text: str, *, broken: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.broken = broken

    def words(self, call: str) -> dict[str, Any]:
        """Return `driver_wire.Failed`."""
        return {"code": self.code, "call": call, "text": self.text}


def known(values: Mapping[str, int | None]) -> dict[str, int]:
    """Return what was said."""
    return {name: value for name, value in values.items() if value is not None}


class Device(abc.ABC):
    """A GPU by its place: number in the driver's order, or PCI address.

    `call` names the call that runs now, so that a hang can be told from outside. A maker's device
    says what the library is, which of its errors mean what, and what it asks.
    """

    library: ClassVar[Any]
    error: ClassVar[type[Exception] | tuple[type[Exception], ...]]
    broken: ClassVar[Collection[int]]
    not_offered: ClassVar[Collection[int]]

    def __init__(self, place: int | str) -> None:
        self.place = place
        self.call = ""
        self._handle: Any = None
        self._uuid = ""
        self._not_offered: set[tuple[Any, ...]] = set()
        self._last_error: tuple[int, str] | None = None
        self._slow_at = float("-inf")
        self._hurry_until = float("-inf")
        self._forget_at = time.monotonic() + _FORGET_S
        self._news: dict[str, Any] = {}

    def answer(self) -> dict[str, Any]:
        """Return the fast values, or why there are none, with the news since the last answer.

        News are `board` once after attaching and `slow` once after each refresh.
        """
        try:
            if self._handle is None:
                self._look_up()
            values = self._fast()
        except CallError as error:
            if error.broken:
                self._handle = None
            values = error.words(self.call)
        news, self._news = self._news, {}
        return {**self.identity(), **news, **values}

    def identity(self) -> dict[str, Any]:
        """Return the place, and the UUID once it is known."""
        return {"place": self.place, "uuid": self._uuid or None}

    def hurry(self) -> None:
        """Read the slow values more often for a while. May be called from any thread."""
        self._hurry_until = time.monotonic() + SLOW_S

    def refresh(self) -> None:
        """Read the slow values if they are due, for the next answer to carry."""
        now = time.monotonic()
        every_s = _HURRY_S if now < self._hurry_until else SLOW_S
        since_s = now - self._slow_at
        if self._handle is None or since_s < every_s:
            return
        if now >= self._forget_at:
            self._not_offered.clear()
            self._forget_at = now + _FORGET_S
        self._slow_at = now
        try:
            self._news["slow"] = self._slow(min(since_s, SLOW_S))
        except CallError:
            self._handle = None  # the next read says what is wrong

    @classmethod
    @abc.abstractmethod
    def failure(cls, code: int) -> CallError:
        """Return the error of a return code."""

    @staticmethod
    @abc.abstractmethod
    def code_of(error: Any) -> int:
        """Return the return code in an error of the library."""

    @abc.abstractmethod
    def _attach(self) -> tuple[Any, str]:
        """Look the GPU up; return its handle and UUID. The library's errors may pass."""

    @abc.abstractmethod
    def _board(self) -> dict[str, Any]:
        """Return what does not change."""

    @abc.abstractmethod
    def _fast(self) -> dict[str, Any]:
        """Return the values of a tick.

        Raises:
            CallError: the handle is broken, or neither energy nor power could be read.

        """

    @abc.abstractmethod
    def _slow(self, since_s: float) -> dict[str, Any]:
        """Return the slow values. `since_s`: how long ago they were read last, at most `SLOW_S`.

        Raises:
            CallError: the handle is broken.

        """

    def _look_up(self) -> None:
        try:
            handle, self._uuid = self._attach()
        except self.error as error:
            raise self.failure(self.code_of(error)) from error
        self._handle = handle
        self._not_offered.clear()
        self._slow_at = float("-inf")
        self._news = {"board": self._board()}

    def _ask(self, name: str, *args: Any, handle: Any = None) -> Any:
        """Return what the call says, None if it is not offered or failed this once.

        It is asked of the GPU, or of the `handle` of a part of it.
        """
        key = (name, *args) if handle is None else (id(handle), name, *args)
        function = getattr(self.library, name, None)  # an older binding lacks the newer calls
        if key in self._not_offered or function is None:
            return None
        self.call = name
        try:
            return function(self._handle if handle is None else handle, *args)
        except self.error as error:
            self._note(self.code_of(error), name, key)
            return None

    def _note(self, code: int, name: str, key: tuple[Any, ...]) -> None:
        if code in self.broken:
            raise self.failure(code)
        if code in self.not_offered:
            self._not_offered.add(key)
        else:
            self._last_error = (code, name)

    def _nothing(self, code: int, call: str) -> CallError:
        """Return why neither energy nor power was read: the last error, or else this one."""
        code, self.call = self._last_error or (code, call)
        return self.failure(code)
