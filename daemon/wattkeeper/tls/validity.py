"""From when until when a certificate is valid: all that is to be known of it before it is used.

The standard library tells this only of certificates that came over a connection, and a parser of
all of X.509 would be a large dependency of every agent for two dates.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_FORMATS = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}


@dataclass(frozen=True, slots=True)
class Validity:
    """A certificate's first and last instant."""

    begin: datetime
    end: datetime

    def flaw(self, now: datetime) -> str:
        """Return why it does not count now; empty if it does."""
        if now > self.end:
            return f"has expired on {self.end:%Y-%m-%dT%H:%M:%SZ}; renew it"
        if now < self.begin:
            return (
                f"is not valid before {self.begin:%Y-%m-%dT%H:%M:%SZ}; is this machine's clock "
                "right?"
            )
        return ""


def validity(path: Path) -> Validity:
    """Return when the first certificate of a PEM file is valid. Blocks.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no certificate in it.

    """
    text = path.read_text(encoding="ascii")
    if _BEGIN not in text:
        raise ValueError("holds no certificate in PEM")
    begin = text.index(_BEGIN)
    try:
        end = text.index(_END, begin) + len(_END)
        return _of_der(ssl.PEM_cert_to_DER_cert(text[begin:end]))
    except (ValueError, IndexError) as error:
        raise ValueError("holds a certificate that cannot be read") from error


def _of_der(der: bytes) -> Validity:
    ((_, certificate),) = _elements(der)
    _, to_be_signed = next(_elements(certificate))
    fields = [field for field in _elements(to_be_signed) if field[0] != _VERSION]
    # Serial number, signature, issuer, validity (RFC 5280, 4.1).
    begin, end = (_time(tag, content) for tag, content in _elements(fields[3][1]))
    return Validity(begin, end)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element in a DER encoding."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            bytes_of_length = length & 0x7F
            length = int.from_bytes(der[at : at + bytes_of_length])
            at += bytes_of_length
        yield tag, der[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> datetime:
    return datetime.strptime(content.decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC)
