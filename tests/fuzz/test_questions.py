"""Any question is answered or refused: never a 500, never another kind of answer than is told."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.asking import FAULTLESS, check, client
from tests.page.serving import SMALL, Served

EXAMPLES = 120
_NAMED = ("const", "default", "minimum", "maximum")


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    """Return what the aggregator says of itself."""
    with client(served) as asking:
        return json.loads(asking.ask("GET", "/openapi.json", {})[2])


WORDS = st.sampled_from(
    (
        "", "0", "-1", "1", "10", "99999999999999999999", "1e309", "nan", "inf", "-24h", "-1s",
        "24h", "now", "1h", "15m", "0s", "-99999999d", "2027-01-15", "2027-01-15T00:00:00Z",
        "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2027-02-30", "2027-W53", "2027-13",
        "2027-Q5", "yesterday", "last-month", "Europe/Berlin", "Etc/../../passwd", "/etc/passwd",
        "UTC", "user", "account", "node", "label:", "label:qos", "rack", "job", "power", "energy",
        "temperature", "west", "123", "123_4", "123_[0-99]", "1-2", "1-99999999", "[", "%", "'",
        "\\", "\n", "\r\n", "\u202e", "\ud7ff", "é", "\x7f", "<script>", "true", "null", "{}",
        "page.css", "../page.css", "physics", "running", "x" * 900,
    )
)  # fmt: skip
LIKELY = st.sampled_from(
    (
        "-24h", "-1h", "now", "1h", "15m", "user", "node", "job", "power", "energy", "1", "UTC",
        "west", "site", SMALL.name(0), "1000",
    )
)  # fmt: skip
TEXTS = st.one_of(WORDS, st.text(max_size=12), st.lists(WORDS, max_size=4).map(",".join))
HEADERS = st.dictionaries(
    st.sampled_from(
        (
            "Accept", "Accept-Language", "Accept-Encoding", "Range", "If-None-Match",
            "If-Modified-Since", "Authorization", "Cookie", "Content-Type", "Content-Encoding",
            "X-Forwarded-User", "Host", "Origin", "Upgrade", "Connection",
        )
    ),
    st.one_of(
        st.sampled_from(
            (
                "text/html", "*/*", "application/json;q=0", "q=", ";;,,", "bytes=0-", "bytes=9-1",
                "application/openmetrics-text; version=1.0.0", "bytes=-1", "bytes=a", '"', "W/",
                "Bearer", "Bearer x", "Basic Og==", "gzip", "br;q=9", "100-continue", "websocket",
                "close", "x" * 900, "\xff\xfe", "\t", "Thu, 99 Foo 2027 99:99:99 GMT",
            )
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
    ),
    max_size=3,
)  # fmt: skip


def allowed(parameter: Mapping[str, Any], schemas: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """Return values that the document allows, as far as it names them."""
    found: list[str] = []
    todo = [parameter["schema"]]
    while todo:
        schema = todo.pop()
        found += [str(one) for one in schema.get("enum", ())]
        found += [
            str(schema[key]) for key in ("const", "default", "minimum", "maximum") if key in schema
        ]
        todo += [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
        if "$ref" in schema:
            todo.append(schemas[schema["$ref"].rpartition("/")[2]])
    return st.sampled_from(sorted(set(found))) if found else LIKELY


@pytest.mark.parametrize("mostly", ["allowed", "anything"])
def test_parameters_and_headers(served: Served, document: Any, mostly: str) -> None:
    """Of every path that is described, pages too."""
    schemas = document["components"]["schemas"]
    paths = {path: item["get"] for path, item in document["paths"].items() if "get" in item}

    @st.composite
    def targets(draw: st.DrawFn) -> str:
        path = draw(st.sampled_from(sorted(paths)))
        query: list[tuple[str, str]] = []
        for parameter in paths[path].get("parameters", ()):
            wild = mostly == "anything" or draw(st.integers(0, 5)) == 0
            value = draw(TEXTS if wild else allowed(parameter, schemas))
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(value, safe=""))
            elif parameter["required"] or draw(st.integers(0, 2)) == 0:
                query += [(parameter["name"], value)] * draw(st.sampled_from((1, 1, 1, 1, 2)))
        if mostly == "anything":
            query += draw(st.lists(st.tuples(TEXTS, TEXTS), max_size=1))
        return f"{path}?{urlencode(query, errors='replace')}"

    with client(served) as asking:

        @settings(max_examples=EXAMPLES)
        @given(targets(), HEADERS)
        def run(target: str, headers: dict[str, str]) -> None:
            status, kind, body = asking.ask("GET", target, headers)
            check(status, kind, body, (target, headers))

        run()


def test_targets_and_methods(served: Served) -> None:
    """Bytes in the place of a path, and methods that nobody serves."""
    known = st.sampled_from(("/", "/v1/jobs", "/v1/windows", "/v1/forget", "/static/", "/metrics"))
    raw = st.text("abz/.%?&=;+#[]{}0123456789FCe-_~:@!$'()*,", max_size=24)
    methods = st.sampled_from(
        ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO")
    )

    with client(served) as asking:

        @settings(max_examples=EXAMPLES)
        @given(methods, known, raw)
        def run(method: str, path: str, more: str) -> None:
            status, kind, body = asking.ask(method, path + more, {})
            if method == "HEAD":
                assert (status in FAULTLESS, body) == (True, b"")
            else:
                check(status, kind, body, (method, path + more))

        run()


def test_what_a_request_expects(served: Served) -> None:
    """Nothing but to be asked for its body; even where the header is no text."""
    with client(served) as asking:
        for expected in ("text/html", "\xff\xfe"):
            answer = asking.ask("GET", "/v1/jobs", {"Expect": expected})
            assert answer[:2] == (417, "application/problem+json")
        assert asking.ask("GET", "/v1/jobs", {"Expect": "100-continue"})[0] == 200
