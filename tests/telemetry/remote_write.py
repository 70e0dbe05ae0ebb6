"""Remote write as others read it: the messages of its definition, decoded by protobuf itself."""

from collections.abc import Iterator
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Sample = tuple[tuple[tuple[str, str], ...], int, float]
"""Labels as they come, milliseconds, value."""

_STRING, _DOUBLE, _INT64, _MESSAGE = 9, 1, 3, 11
_ONE, _MANY = 1, 3
_MESSAGES: dict[str, list[tuple[str, int, int, int | str]]] = {
    "Label": [("name", 1, _ONE, _STRING), ("value", 2, _ONE, _STRING)],
    "Sample": [("value", 1, _ONE, _DOUBLE), ("timestamp", 2, _ONE, _INT64)],
    "TimeSeries": [("labels", 1, _MANY, "Label"), ("samples", 2, _MANY, "Sample")],
    "WriteRequest": [("timeseries", 1, _MANY, "TimeSeries")],
}


def _write_request() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="remote_write_of_the_tests.proto", package="prometheus", syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, label, kind in fields:
            if isinstance(kind, str):
                described.field.add(
                    name=name, number=number, label=label, type=_MESSAGE,
                    type_name=f".prometheus.{kind}",
                )  # fmt: skip
            else:
                described.field.add(name=name, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


_REQUEST = _write_request()


def samples(body: bytes) -> Iterator[Sample]:
    """Yield the samples of a request's body, series by series.

    Raises:
        cramjam.DecompressionError, google.protobuf.message.DecodeError: it is none.

    """
    request = _REQUEST.FromString(bytes(cramjam.snappy.decompress_raw(body)))
    for series in request.timeseries:
        labels = tuple((label.name, label.value) for label in series.labels)
        for sample in series.samples:
            yield labels, sample.timestamp, sample.value
