"""The book of connections adds up, whatever comes and goes."""

from collections import Counter
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.listening.connection import Connection, Limits
from wattkeeper.listening.keeper import Keeper


class _Socket:
    def shutdown(self, how: int) -> None:
        del how


def _enter(keeper: Keeper, address: str) -> Connection | None:
    make = cast("Any", object)
    return keeper.enter(make, cast("Any", _Socket()), (address, 1), lambda _: True)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["in", "ask", "out"]))))
def test_counts_are_those_of_the_connections(moves: list[tuple[str, str]]) -> None:
    """In all and by address; never more than allowed, and who has asked is never put out."""
    keeper = Keeper(Limits(connections=5, per_address=3), Counter())
    inside: list[Connection] = []
    asked: list[Connection] = []
    refused = 0
    for address, move in moves:
        own = [one for one in inside if one.address == address]
        if move == "in":
            entered = _enter(keeper, address)
            inside = [one for one in inside if not one.cut_short]
            refused += entered is None
            inside += [entered] if entered else []
        elif move == "ask" and own:
            keeper._silent.pop(own[0], None)
            asked.append(own[0])
        elif move == "out" and own:
            keeper.leave(own[-1])
            keeper.leave(own[-1])
            inside.remove(own[-1])
        assert len(keeper) == len(inside) <= 5
        assert keeper._by_address == Counter(one.address for one in inside)
        assert max(keeper._by_address.values(), default=0) <= 3
        assert set(keeper._all) == set(inside) == set(keeper._by_handler.values())
        assert set(keeper._silent) == set(inside) - set(asked)
    assert not any(one.cut_short for one in asked)
    assert sum(keeper.refused.values()) >= refused


def test_there_is_room_again_when_all_have_left() -> None:
    """Nothing is left of an address that is gone."""
    keeper = Keeper(Limits(connections=2, per_address=2), Counter())
    for _ in range(3):
        entered = [_enter(keeper, "a"), _enter(keeper, "a")]
        for one in entered:
            assert one is not None
            keeper.leave(one)
    assert not keeper._by_address


def test_a_user_of_this_machine_takes_no_room_from_others() -> None:
    """Through the socket; also with connections that have asked once and rest."""
    keeper = Keeper(Limits(connections=5, per_address=5, per_user=2), Counter())
    for _ in range(2):
        assert _enter(keeper, "uid 7") is not None
    keeper._silent.clear()
    assert _enter(keeper, "uid 7") is None
    assert keeper.refused == Counter(address=1)
    for address in ("uid 8", "uid 8", "10.0.0.1"):
        assert _enter(keeper, address) is not None
