"""A server's TLS settings, named as Prometheus' exporters name them in their web configuration."""

import ssl
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from wattkeeper.flags import nearest
from wattkeeper.settings import Section

KEY = "tls_server_config"
CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Cipher suites of TLS 1.2 by their registered names, and as OpenSSL calls them."""
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
POLICIES = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class TlsServerSection(Section):
    """TLS, with the keys of exporter-toolkit's web configuration."""

    cert_file: Path | None = Field(
        None, description="certificate with its chain, PEM; makes this server speak TLS"
    )
    key_file: Path | None = Field(None, description="its key, PEM")
    client_auth_type: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = Field("NoClientCert", description="whether clients have to show a certificate")
    client_ca_file: Path | None = Field(None, description="authority of clients' certificates, PEM")
    client_allowed_sans: tuple[str, ...] = Field(
        (), description="a client's certificate must have one of these names; all if empty"
    )
    min_version: Literal["TLS12", "TLS13"] = Field("TLS12", description="oldest version spoken")
    max_version: Literal["TLS12", "TLS13"] = Field("TLS13", description="newest version spoken")
    cipher_suites: tuple[str, ...] = Field(
        (), description="cipher suites of TLS 1.2, by registered name; OpenSSL's choice if empty"
    )

    @field_validator("cipher_suites")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in CIPHERS:
                raise ValueError(f"{name} is not offered; {nearest(name, list(CIPHERS))}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        verifies = self.client_auth_type != "NoClientCert"
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; set both")
        if self.cert_file is None and (verifies or self.client_ca_file is not None):
            raise ValueError("clients can show certificates to TLS only; set cert_file, key_file")
        if verifies and self.client_ca_file is None:
            raise ValueError(f"client_ca_file is missing: whose certificates are right? It is "
                             f"needed with client_auth_type = {self.client_auth_type}")  # fmt: skip
        if not verifies and (self.client_ca_file is not None or self.client_allowed_sans):
            raise ValueError(
                "client_ca_file and client_allowed_sans check nobody with NoClientCert; set "
                'client_auth_type = "RequireAndVerifyClientCert"'
            )
        if self.min_version > self.max_version:
            raise ValueError(f"min_version {self.min_version} is above {self.max_version}")
        return self

    @property
    def on(self) -> bool:
        """Whether the server speaks TLS."""
        return self.cert_file is not None
