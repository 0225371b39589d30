# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""scripts/dist, which the Dockerfile runs: what it makes works alone."""

import re
import shutil
import subprocess
import tarfile

import pytest
import yaml
from manifests import ROOT

FLEET = {
    "endpoints": [
        {"name": "p", "role": "both", "accelerator": "h100-sxm", "model": "llama-3.1-8b", "address": "10.0.0.1", "port": 8000}
    ]
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_dist_makes_runs_alone(tmp_path):
    subprocess.run([ROOT / "scripts" / "dist", tmp_path / "out"], check=True, timeout=1700)
    (archive,) = (tmp_path / "out").glob("epp-pd-*-linux-*.tar.gz")
    elsewhere = tmp_path / "elsewhere"
    with tarfile.open(archive) as tar:
        tar.extractall(elsewhere, filter="data")
    # What was built is out of reach, so that nothing but the archive is used.
    shutil.rmtree(tmp_path / "out")
    (folder,) = elsewhere.iterdir()
    binary = folder / "epp-pd"

    def run(*arguments):
        return subprocess.run([binary, *arguments], capture_output=True, text=True, cwd="/", env={})

    version = re.search(r'version = "([^"]+)"', (ROOT / "Sources/epp-pd/EPPPD.swift").read_text()).group(1)
    assert run("version").stdout == f"epp-pd {version}\n"
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(FLEET))
    outcome = run("validate", "--fleet", tmp_path / "fleet.yaml")
    assert outcome.returncode == 0, outcome.stderr
    assert str(folder / "profiles") in outcome.stdout
    needed = subprocess.run(["ldd", binary], capture_output=True, text=True, env={}).stdout
    assert "not found" not in needed and "swift" not in needed.replace(str(folder), "")
    for line in needed.splitlines():
        if "=>" in line and "/lib/" in line and str(folder) not in line:
            assert re.match(r"\s*(libc|libm|libpthread|libresolv|libdl|librt)\.so", line), line


def test_the_dockerfile_builds_by_the_same_scripts():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^RUN .*scripts/dist /out", text, re.MULTILINE)
    assert "swift build" not in text
    setup = (ROOT / "scripts" / "setup").read_text()
    packages = set(re.search(r"packages=\((.*?)\)", setup, re.DOTALL).group(1).split())
    installed = set(re.search(r"--no-install-recommends \\\n(.*?)&&", text, re.DOTALL).group(1).replace("\\", "").split())
    missing = {p for p in packages if p.startswith("lib") or p == "pkg-config"} - installed
    assert not missing, "what scripts/setup installs to build with, and the Dockerfile does not"


def test_the_image_is_not_root():
    last = (ROOT / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    assert last.splitlines()[0].endswith(":nonroot")
    assert re.search(r"^USER 65532:65532$", last, re.MULTILINE)
    assert "RUN" not in last
