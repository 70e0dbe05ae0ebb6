"""A server's certificates, read again when they change: renewing them needs no restart."""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from wattkeeper.flags import ConfigError
from wattkeeper.model.state import Finding, State
from wattkeeper.tls.config import CIPHERS, KEY, POLICIES, VERSIONS, TlsServerSection
from wattkeeper.tls.files import load_authority, load_pair, signature
from wattkeeper.tls.validity import Validity

_LOOK_S = 5.0
"""How soon a renewed certificate is shown."""
_SOON = timedelta(days=7)
"""Time before the end of a certificate from which on it is told."""

_log = logging.getLogger(__name__)


class ServerCertificates:
    """What a server shows, and whom it believes.

    `context` is for the listener and stays the same; what each handshake uses is what the files
    held last. `trouble` says what is wrong with them now; a new pair that is wrong is not used.
    """

    def __init__(self, section: TlsServerSection) -> None:
        """Read them. Blocks.

        Raises:
            ConfigError: they cannot be used; names key and file.

        """
        self._section = section
        files = (section.cert_file, section.key_file, section.client_ca_file)
        self._files = tuple(file for file in files if file is not None)
        self._seen = signature(self._files)
        self.context, self.validity = _read(section)
        self._current = self.context
        self.context.sni_callback = self._choose
        self.trouble = _out_of_date(section, self.validity)
        if self.trouble:
            _log.warning("%s", self.trouble)

    async def follow(self) -> None:
        """Read the files again whenever they change, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read the files again if they changed. Blocks."""
        seen = signature(self._files)
        if seen == self._seen and not self.trouble:
            return
        renewed, self._seen = seen != self._seen, seen
        try:
            context, found = _read(self._section)
            trouble = _out_of_date(self._section, found)
        except ConfigError as error:
            trouble = str(error)
        else:
            # One that does not count replaces none, unless that does not count either.
            if not trouble or _out_of_date(self._section, self.validity):
                self._current, self.validity = context, found
        if trouble and trouble != self.trouble:
            _log.warning("%s; the certificate of before is shown", trouble)
        elif not trouble and renewed:
            _log.info("%s: renewed, valid until %s", KEY, _date(self.validity))
        self.trouble = trouble

    def finding(self) -> Finding:
        """Return how the certificate is."""
        if self.trouble:
            fix = "put a valid pair into these files; it is taken without a restart"
            return Finding("tls", State.FAILING, self.trouble, fix)
        detail = f"{self._section.cert_file} is valid until {_date(self.validity)}"
        if self.validity.end - datetime.now(UTC) < _SOON:
            fix = "renew it in place; it is taken without a restart"
            return Finding("tls", State.STALE, f"{KEY}.cert_file: {detail}", fix)
        return Finding("tls", State.OK, detail)

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Tell whether a client with this certificate (verified) may speak."""
        allowed = self._section.client_allowed_sans
        if not allowed or not certificate:
            return not allowed or self._section.client_auth_type == "VerifyClientCertIfGiven"
        return any(name in allowed for _, name in certificate.get("subjectAltName", ()))

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        # OpenSSL calls this in each handshake, also for clients that name no server.
        connection.context = self._current


def _read(section: TlsServerSection) -> tuple[ssl.SSLContext, Validity]:
    assert section.cert_file is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[section.min_version]
    context.maximum_version = VERSIONS[section.max_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Every connection proves itself anew: a ticket would outlive a client's certificate.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    if section.cipher_suites:
        context.set_ciphers(":".join(CIPHERS[name] for name in section.cipher_suites))
    names = (f"{KEY}.cert_file", f"{KEY}.key_file")
    found = load_pair(context, section.cert_file, section.key_file, names)
    context.verify_mode = POLICIES[section.client_auth_type]
    if section.client_ca_file is not None:
        load_authority(context, section.client_ca_file, f"{KEY}.client_ca_file")
    return context, found


def _out_of_date(section: TlsServerSection, found: Validity) -> str:
    flaw = found.flaw(datetime.now(UTC))
    return f"{KEY}.cert_file: {section.cert_file} {flaw}" if flaw else ""


def _date(found: Validity) -> str:
    return f"{found.end:%Y-%m-%dT%H:%M:%SZ}"
