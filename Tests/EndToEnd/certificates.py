# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Keys and certificates for a test, made by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate(folder: Path, name: str, common_name: str, issuer: str | None = None, hosts: str = "") -> tuple[str, str]:
    """A certificate and its key, signed by `issuer` or by itself, in `folder`: NAME.crt and NAME.key. `hosts`: alternative
    names as OpenSSL writes them."""
    chain, key = folder / f"{name}.crt", folder / f"{name}.key"
    signed = ["-CA", folder / f"{issuer}.crt", "-CAkey", folder / f"{issuer}.key"] if issuer else []
    names = ["-addext", f"subjectAltName={hosts}"] if hosts else []
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-addext", f"basicConstraints=critical,CA:{'FALSE' if issuer else 'TRUE'}", *names, *signed,
         "-subj", f"/CN={common_name}", "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(chain), str(key)
