"""What `/openapi.json` says is what is answered: schemathesis asks what it allows, and what not."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from tests.page.serving import Served

from wattkeeper.aggregator import windows

EXAMPLES = 3
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation(served: Served, mode: GenerationMode) -> None:
    """Answers have the form that is described, whatever is asked."""
    document = schemathesis.openapi.from_url(f"{served.url('small')}/openapi.json")
    # Deliveries are no JSON: test_intake.py has them.
    asked = 0
    for found in document.exclude(path=windows.PATH).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        places = {one.location for one in operation.iter_parameters()}
        if mode is GenerationMode.NEGATIVE and "query" not in places and not operation.body:
            continue  # there is nothing to be wrong

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        run()
        asked += 1
    assert asked > 10
