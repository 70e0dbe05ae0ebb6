"""The two dates of a certificate, read from DER by ourselves."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.certificates import Authority, site
from wattkeeper.tls.validity import _of_der, validity

__all__ = ["site"]


@pytest.mark.parametrize("days", [1, 397, 9999, 40_000], ids=str)
def test_as_openssl_reads_them(site: Authority, days: int) -> None:
    """Both encodings of time: years from 2050 on have four digits."""
    pair = site.issue("n1", "DNS:n1.example", days=days)
    found = validity(pair.certificate)
    for option, ours in (("-startdate", found.begin), ("-enddate", found.end)):
        command = ["openssl", "x509", "-in", str(pair.certificate), "-noout", option]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        date = told.partition("=")[2].strip().replace("GMT", "+0000")
        assert datetime.strptime(date, "%b %d %H:%M:%S %Y %z") == ours


def test_what_is_out_of_date_says_what_to_do(site: Authority) -> None:
    """Before and after."""
    found = validity(site.issue("n1").certificate)
    assert not found.flaw(datetime.now(UTC))
    assert "renew it" in found.flaw(datetime(2999, 1, 1, tzinfo=UTC))
    assert "clock" in found.flaw(datetime(1999, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n", "\u00fc"])
def test_other_files_are_no_certificates(tmp_path: Path, text: str) -> None:
    """A ValueError, whatever it is."""
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(ValueError):
        validity(file)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(der: bytes) -> None:
    """What is no certificate is a ValueError or an end of the bytes, and takes no time."""
    with pytest.raises((ValueError, IndexError, StopIteration)):
        _of_der(der)
