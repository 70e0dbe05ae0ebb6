"""The commands of docs/operations.md for a site's own authority, word for word."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_an_authority_and_its_certificates(tmp_path: Path) -> None:
    """What comes of them satisfies the strictest check there is, on both sides of a connection."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    recipe = text.partition("**A site's own authority**")[2].partition("```sh\n")[2]
    script = "set -e\n" + recipe.partition("```")[0]
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    for name, usage in (("aggregator", "sslserver"), ("node001", "sslclient")):
        check = ("openssl", "verify", "-x509_strict", "-purpose", usage, "-CAfile", "ca.crt")
        subprocess.run([*check, f"{name}.crt"], cwd=tmp_path, check=True, capture_output=True)
    names = "openssl x509 -noout -checkhost aggregator.example -in aggregator.crt"
    done = subprocess.run(names.split(), cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "does match" in done.stdout
