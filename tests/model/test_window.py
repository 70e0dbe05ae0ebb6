"""What a window tells of its holders."""

from wattkeeper.model.meter import Method
from wattkeeper.model.window import Share, Split, Window


def window(*shares: Share) -> Window:
    """Return a window of these shares."""
    uj = sum(part.uj for part in shares)
    return Window(1, 1, 0, 10, 10, 5, 5 + uj, 10, Method.COUNTER, shares)


def test_parts_of_holders() -> None:
    """In their order, both kinds of split together; nobody's part is in none of them."""
    found = window(
        Share(1, 40, 0, 10), Share(17, 10, 0, 10), Share(16, 30, 0, 10),
        Share(16, 20, 0, 10, Split.SHARED),
    )  # fmt: skip
    assert found.parts_ppm((16, 17, 18)) == (500_000, 100_000, 0)


def test_holders_that_it_does_not_know() -> None:
    """Nothing is said where it knows none of them, or drew nothing."""
    assert window(Share(1, 40, 0, 10)).parts_ppm((16,)) == ()
    assert window(Share(16, 0, 0, 10)).parts_ppm((16,)) == ()
