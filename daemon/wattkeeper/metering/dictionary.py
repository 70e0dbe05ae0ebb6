"""The journal's dictionary: short numbers for meters, holders and epochs, given once for all."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from wattkeeper.holders.base import HolderKey
from wattkeeper.metering.splitting import Payer
from wattkeeper.model.holder import FIRST_HOLDER, Account, HolderInfo
from wattkeeper.model.meter import MeterInfo
from wattkeeper.model.window import EpochInfo

METER, HOLDER, EPOCH = "meter", "holder", "epoch"

_TYPES: dict[str, type[Any]] = {METER: MeterInfo, HOLDER: HolderInfo, EPOCH: EpochInfo}


class Row(NamedTuple):
    """An entry as the journal stores it."""

    kind: str
    number: int
    payload: bytes


class Dictionary:
    """Numbers from 1 (holders from FIRST_HOLDER), never given twice and never changed.

    A holder of whom more becomes known gets another number; the ledger knows it by its key.
    `rows` are the stored entries, `next_numbers` where counting goes on (entries may be gone).
    """

    def __init__(self, rows: Iterable[Row] = (), next_numbers: Mapping[str, int] = {}) -> None:
        self.entries: dict[str, dict[int, Any]] = {METER: {}, HOLDER: {}, EPOCH: {}}
        self.next_numbers = {METER: 1, HOLDER: FIRST_HOLDER, EPOCH: 1} | dict(next_numbers)
        self._numbers: dict[Any, int] = {}
        self._infos: Mapping[HolderKey, HolderInfo] = {}
        self._last_use: dict[int, int] = {}
        self._fresh: list[Row] = []
        for kind, number, payload in rows:
            entry = msgspec.msgpack.decode(payload, type=_TYPES[kind])
            self.entries[kind][number] = entry
            self._numbers[_key(kind, entry)] = number

    def meter(self, info: MeterInfo) -> int:
        """Return the number of a meter as described now."""
        return self._number(METER, info)

    def epoch(self, epoch: EpochInfo) -> int:
        """Return the number of an epoch."""
        return self._number(EPOCH, epoch)

    def payer(self, payer: Payer) -> int:
        """Return the number of a holder, or of an account."""
        if isinstance(payer, Account):
            return payer
        number = self._numbers.get(payer)
        if number is None:
            unknown = HolderInfo(payer.manager, payer.raw_id, payer.birth_ms)
            number = self._number(HOLDER, self._infos.get(payer, unknown))
        return number

    def describe(self, infos: Mapping[HolderKey, HolderInfo]) -> None:
        """Take what is known of the holders now."""
        self._infos = infos
        for key, info in infos.items():
            number = self._numbers.get(key)
            if number is not None and self.entries[HOLDER][number] != info:
                del self._numbers[key]

    def used(self, holders: Iterable[int], seq: int) -> None:
        """Note that the record `seq` names these holders."""
        for number in holders:
            self._last_use[number] = seq

    def unused(self, released: int, held: Iterable[int]) -> list[int]:
        """Return the stored holders that no record after `released` and no `held` names."""
        keep = {*held, *(row.number for row in self._fresh if row.kind == HOLDER)}
        return [
            number
            for number in self.entries[HOLDER]
            if number not in keep and self._last_use.get(number, released) <= released
        ]

    def forget(self, holders: Iterable[int]) -> None:
        """Drop holders that are gone from disk."""
        for number in holders:
            info = self.entries[HOLDER].pop(number)
            self._last_use.pop(number, None)
            if self._numbers.get(_key(HOLDER, info)) == number:
                del self._numbers[_key(HOLDER, info)]

    def fresh(self) -> list[Row]:
        """Return the entries that are not stored yet."""
        return list(self._fresh)

    def stored(self, rows: Iterable[Row]) -> None:
        """Note that these entries are on disk."""
        self._fresh = self._fresh[len(list(rows)) :]

    def _number(self, kind: str, entry: Any) -> int:
        key = _key(kind, entry)
        number = self._numbers.get(key)
        if number is None:
            number = self.next_numbers[kind]
            self.next_numbers[kind] += 1
            self.entries[kind][number] = entry
            self._numbers[key] = number
            self._fresh.append(Row(kind, number, msgspec.msgpack.encode(entry)))
        return number


def _key(kind: str, entry: Any) -> Any:
    if kind == HOLDER:
        return HolderKey(entry.manager, entry.raw_id, entry.birth_ms)
    if kind == METER:
        return (METER, msgspec.msgpack.encode(entry))
    return entry
