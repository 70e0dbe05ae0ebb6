"""Certificates of a site's own authority, made by `openssl` as docs/security.md tells."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
LOCAL = ("DNS:localhost", "IP:127.0.0.1")
"""Names of a server that tests reach over the loopback."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    def put(self, into: "Pair") -> None:
        """Renew another pair in place, as a tool for certificates does."""
        for mine, theirs in ((self.certificate, into.certificate), (self.key, into.key)):
            draft = theirs.with_suffix(".draft")
            shutil.copy(mine, draft)
            draft.replace(theirs)


@dataclass(frozen=True)
class Authority:
    """An authority of certificates in a folder of its own."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        """Make one."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir(parents=True)
        made = cls(folder)
        _openssl(
            "req", "-x509", *_KEY, "-days", "30", "-subj", f"/CN={folder.name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", str(folder / "ca.key"), "-out", str(made.certificate),
        )  # fmt: skip
        return made

    @property
    def certificate(self) -> Path:
        """Its own certificate, which others believe."""
        return self.folder / "ca.crt"

    def issue(
        self, name: str, *names: str, days: int = 2, usage: str = "serverAuth,clientAuth"
    ) -> Pair:
        """Return a certificate for common name `name` and alternative names; -1 days: expired."""
        stem = f"{name}-{len(list(self.folder.iterdir()))}"
        pair = Pair(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        request = self.folder / f"{stem}.csr"
        _openssl(
            "req", *_KEY, "-subj", f"/CN={name}", "-addext", f"extendedKeyUsage={usage}",
            *(("-addext", f"subjectAltName={','.join(names)}") if names else ()),
            "-keyout", str(pair.key), "-out", str(request),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate),
            "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial", "-days", str(days),
            "-copy_extensions", "copy", "-out", str(pair.certificate),
        )  # fmt: skip
        return pair


def _openssl(*args: str) -> None:
    subprocess.run(["openssl", *args], check=True, capture_output=True)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the authority of a site."""
    return Authority.make(tmp_path_factory.mktemp("certificates") / "site")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority that nobody at the site believes."""
    return Authority.make(tmp_path_factory.mktemp("certificates") / "stranger")


@pytest.fixture(scope="session")
def shown(site: Authority) -> Pair:
    """Return a server's certificate for the loopback."""
    return site.issue("aggregator", *LOCAL)
