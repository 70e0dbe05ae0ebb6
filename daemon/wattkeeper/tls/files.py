"""Certificates and keys in files, with errors that name the setting and the file."""

import ssl
from collections.abc import Iterable
from pathlib import Path

from wattkeeper.flags import ConfigError
from wattkeeper.tls.validity import Validity, validity

Signature = tuple[tuple[int, int, int] | None, ...]


def signature(files: Iterable[Path]) -> Signature:
    """Return what differs as soon as one of the files is written or replaced. Blocks."""
    return tuple(map(_of, files))


def _of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def load_pair(
    context: ssl.SSLContext, certificate: Path, key: Path | None, names: tuple[str, str]
) -> Validity:
    """Let a context show a certificate; return from when until when that is valid. Blocks.

    `names`: the settings of both. Without `key` it is in the certificate's file.

    Raises:
        ConfigError: they cannot be read, or do not belong together.

    """
    found = _validity(names[0], certificate)
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        where = f"{names[0]}: {certificate}" if key is None else f"{names[1]}: {key}"
        raise ConfigError(f"{where} {_why(error, 'key')}") from error
    return found


def load_authority(context: ssl.SSLContext, file: Path, name: str) -> None:
    """Let a context believe the authorities in a PEM file; `name` is its setting. Blocks.

    Raises:
        ConfigError: it cannot be read, or holds none.

    """
    _validity(name, file)
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {file} {_why(error, 'certificate')}") from error


def _validity(name: str, file: Path) -> Validity:
    try:
        return validity(file)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: {file} holds no certificate in PEM") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {file} {_why(error, 'certificate')}") from error


def _why(error: OSError | ValueError, what: str) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "is not the key of the certificate"
        return f"holds no {what} in PEM without a password ({error.reason or 'unreadable'})"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    return str(error)
