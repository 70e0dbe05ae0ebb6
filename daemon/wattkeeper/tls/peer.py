"""Who a verified certificate says that its holder is."""

from collections.abc import Mapping
from typing import Any

Certificate = Mapping[str, Any]
"""What `ssl` tells of a certificate that was verified."""


def names(certificate: Certificate) -> frozenset[str]:
    """Return the host names of a certificate, in small letters: DNS names, and the common name."""
    found = {str(name) for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"}
    for part in certificate.get("subject", ()):
        found |= {str(value) for key, value in part if key == "commonName"}
    return frozenset(name.lower() for name in found)


def is_node(certificate: Certificate, node: str) -> bool:
    """Tell whether a certificate names a node: by its full name, or the first label of it."""
    wanted = node.lower()
    return any(wanted in (name, name.partition(".")[0]) for name in names(certificate))
