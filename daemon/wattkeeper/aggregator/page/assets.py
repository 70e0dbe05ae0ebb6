"""Files of the page: its style, its script, and the library that draws plots."""

import base64
import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Self

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
NAMES = {
    "page.css": "page.css",
    "page.js": "page.js",
    "icon.svg": "icon.svg",
    "uplot.css": "uplot/uPlot.min.css",
    "uplot.js": "uplot/uPlot.iife.min.js",
}
"""Where each file lies, by the name under which it is served."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served. `mark` changes with it, so that it may be kept for ever."""

    body: bytes
    zipped: bytes
    content_type: str
    mark: str

    @property
    def text(self) -> str:
        """The file, to be written into a page."""
        return self.body.decode()

    @property
    def digest(self) -> str:
        """How a Content-Security-Policy names it."""
        return f"'sha256-{base64.b64encode(hashlib.sha256(self.body).digest()).decode()}'"

    @classmethod
    def read(cls, name: str) -> Self:
        """Read one of NAMES. Blocks."""
        body = (resources.files("wattkeeper.aggregator.page") / "static" / NAMES[name]).read_bytes()
        suffix = name[name.rindex(".") :]
        mark = hashlib.sha256(body).hexdigest()[:12]
        return cls(body, gzip.compress(body, mtime=0), _TYPES[suffix], mark)


def read_all() -> dict[str, Asset]:
    """Read every file, by the name under which it is served. Blocks."""
    return {name: Asset.read(name) for name in NAMES}
