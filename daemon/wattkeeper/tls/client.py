"""A client's side of TLS: whom it believes, what it shows, and what a failure means."""

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from wattkeeper.flags import ConfigError
from wattkeeper.tls.files import Signature, load_authority, load_pair, signature

_EXPIRED, _NOT_YET, _PURPOSE = 10, 9, 26
_STRANGERS = frozenset((2, 18, 19, 20, 21))
_OTHER_NAME = frozenset((62, 63, 64))
"""Numbers of `X509_V_ERR_…` in OpenSSL's x509_vfy.h."""
_ENDED = (ConnectionError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
_NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"))

_log = logging.getLogger(__name__)


class ClientCertificates:
    """What a client believes and shows, read again when it changes.

    `ca`: authority of the server's certificate, the system's own ones if None. `prefix` stands
    before the names of settings in messages.
    """

    def __init__(
        self,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        prefix: str = "",
    ) -> None:
        self._ca = ca
        self._certificate = certificate
        self._key = key
        self._prefix = prefix
        self._files = tuple(file for file in (ca, certificate, key) if file is not None)
        self._seen: Signature | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return what to connect with: the same object until a file changes. Blocks.

        Where a new file cannot be used, the one before goes on.

        Raises:
            ConfigError: a file cannot be used; names setting and fix.

        """
        seen = signature(self._files)
        if self._context is not None and seen == self._seen:
            return self._context
        try:
            self._context = self._read()
        except ConfigError as error:
            if self._context is None:
                raise
            _log.warning("%s; the certificate of before is shown", error)
        self._seen = seen
        return self._context

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            load_authority(context, self._ca, f"{self._prefix}ca")
        if self._certificate is not None:
            names = (f"{self._prefix}certificate", f"{self._prefix}key")
            flaw = load_pair(context, self._certificate, self._key, names).flaw(datetime.now(UTC))
            if flaw:
                raise ConfigError(f"{names[0]}: {self._certificate} {flaw}")
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def explain(self, error: BaseException, *, answered: bool = False) -> tuple[str, str] | None:
        """Return what a failed connection means, and what to do; None if it is not about TLS.

        `answered`: whether there were answers over TLS before.
        """
        found = _ssl_error(error)
        if found is None:
            # In TLS 1.3 a server judges a client after that began to speak: its reason is lost.
            reached = not isinstance(error, aiohttp.ClientConnectorError)
            ended = reached and not answered and isinstance(error, _ENDED)
            return self._explain_end() if ended else None
        if isinstance(found, ssl.SSLCertVerificationError):
            return self._explain_theirs(found)
        reason = found.reason or ""
        if "CERTIFICATE_REQUIRED" in reason or (
            "HANDSHAKE_FAILURE" in reason and self._certificate is None
        ):
            what = "wants to be shown a certificate"
            return what, f"set {self._prefix}certificate and {self._prefix}key"
        if "ALERT" in reason and self._certificate is not None:
            word = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
            fix = f"is {self._certificate} valid, and of the authority that is believed there?"
            return f"does not accept {self._prefix}certificate ({word})", fix
        if reason in _NO_TLS:
            return "does not speak TLS", "write http://, or turn TLS on there"
        return f"TLS fails ({reason.replace('_', ' ').lower() or found})", ""

    def _explain_end(self) -> tuple[str, str]:
        what = "closes the connection"
        if self._certificate is None:
            what += "; it may want to be shown a certificate"
            return what, f"set {self._prefix}certificate and {self._prefix}key"
        fix = f"is {self._certificate} of an authority that is believed there?"
        return f"{what}; it may not accept {self._prefix}certificate", fix

    def _explain_theirs(self, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
        code, message = error.verify_code, error.verify_message.rstrip(".")
        if code == _EXPIRED:
            what = "its certificate has expired"
            return what, "renew it there, unless this machine's clock is wrong"
        if code == _NOT_YET:
            return "its certificate is not valid yet", "is this machine's clock right?"
        if code in _OTHER_NAME:
            what = f"its certificate is another host's ({message})"
            return what, "use a name that is in it, or renew it with this one"
        if code in _STRANGERS:
            believed = f"the authority in {self._ca}" if self._ca else "an authority of this system"
            fix = f"set {self._prefix}ca to the certificate of the authority that signed it"
            return f"its certificate is not signed by {believed}", fix
        if code == _PURPOSE:
            fix = "renew it with extendedKeyUsage = serverAuth"
            return "its certificate is not a server's", fix
        return f"its certificate is not accepted ({message})", ""


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of TLS itself, in what an HTTP library made of it."""
    inner = (getattr(error, name, None) for name in ("certificate_error", "os_error", "__cause__"))
    # Theirs inherits from it as well, and has nothing of what it tells.
    return next((one for one in (*inner, error) if isinstance(one, ssl.SSLError)), None)
