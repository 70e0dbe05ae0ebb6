"""Keys of a terminal, as they are pressed."""

import asyncio
import codecs
import os
import re
import termios
import tty
from collections.abc import Callable
from typing import Self

_NAMED = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "Z": "backtab",
    "1~": "home", "4~": "end", "5~": "pageup", "6~": "pagedown", "7~": "home", "8~": "end",
}  # fmt: skip
_CONTROL = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace",
            "\x1b": "escape"}  # fmt: skip
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*([@-~])|O([@-~]))")
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_WAIT_S = 0.05
"""How long the rest of a sequence may take; an escape alone is the key itself."""


class Decoder:
    """Makes keys of what a terminal sends: characters as they are, others by their names."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self.rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the keys that are complete; a sequence that is not stays in `rest`."""
        text = self.rest + self._utf8.decode(data)
        self.rest = ""
        keys = []
        while text:
            found = _SEQUENCE.match(text)
            if found is not None:
                code = found[1] or found[2]
                number = found[0][2:] if code == "~" else code
                if number in _NAMED:
                    keys.append(_NAMED[number])
                text = text[found.end() :]
            elif _BEGUN.match(text):
                self.rest = text
                break
            else:
                keys.append(_CONTROL.get(text[0], text[0]))
                text = text[1:]
        return keys

    def flush(self) -> list[str]:
        """Return what an incomplete sequence is after all: the escape key."""
        begun, self.rest = bool(self.rest), ""
        return ["escape"] if begun else []


class Keys:
    """Reads keys from a terminal, one by one and unseen, until it is left. For the event loop."""

    def __init__(self, fd: int, press: Callable[[str], None]) -> None:
        self._fd = fd
        self._press = press
        self._decoder = Decoder()
        self._before: list[int | list[bytes | int]] = []
        self._waiting: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1024)
        except OSError:  # the terminal is gone
            data = b""
        if self._waiting is not None:
            self._waiting.cancel()
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._press("q")
            return
        self._told(self._decoder.feed(data))
        if self._decoder.rest:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(_WAIT_S, lambda: self._told(self._decoder.flush()))

    def _told(self, keys: list[str]) -> None:
        for key in keys:
            self._press(key)
