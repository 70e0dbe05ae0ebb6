"""A container image made here, without a registry: one static program."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

IMAGE = "wattkeeper.test/still:1"
PROGRAM = "/still"
_SOURCE = Path(__file__).with_name("still.c")


def write_image(folder: Path) -> Path:
    """Compile the program and pack it as `docker save` does; return the archive."""
    program = folder / "still"
    subprocess.run(["cc", "-static", "-O2", "-o", program, _SOURCE], check=True)
    layer = _tar({PROGRAM.lstrip("/"): program.read_bytes()})
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": [PROGRAM]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }).encode()  # fmt: skip
    entry = {"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}
    manifest = json.dumps([entry]).encode()
    files = {"config.json": config, "layer.tar": layer, "manifest.json": manifest}
    archive = folder / "image.tar"
    archive.write_bytes(_tar(files))
    return archive


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()
