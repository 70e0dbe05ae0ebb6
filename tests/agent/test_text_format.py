"""The agent's text is what the reference implementation reads, whatever stands in a label."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from wattkeeper.agent.text_format import heading, sample

NAMES = st.from_regex(r"[a-z][a-z_]{0,8}[a-z]", fullmatch=True)
# The reference parser splits lines at \n only.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters='\\"\n'))


@given(NAMES, st.dictionaries(NAMES, TEXTS, max_size=4), st.floats())
def test_reference_parser_reads_it_back(name: str, labels: dict[str, str], value: float) -> None:
    """Name, labels and value survive."""
    full = f"wattkeeper_{name}"
    text = heading(full, "Help.") + sample(full, labels, value)
    [family] = text_string_to_metric_families(text)
    [read] = family.samples
    assert (full, labels) == (read.name, read.labels)
    assert value == read.value or (math.isnan(value) and math.isnan(read.value))


def test_kinds_and_help() -> None:
    """A total is a counter; help is one line."""
    assert heading("a_total", "x") == "# HELP a_total x\n# TYPE a_total counter\n"
    assert heading("a", "x\\y\nz") == "# HELP a x\\\\y\\nz\n# TYPE a gauge\n"


def test_without_labels() -> None:
    """A series without labels has no braces."""
    assert sample("a", {}, 3) == "a 3.0\n"
