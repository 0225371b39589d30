# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The manifests of deploy/ as objects: the chart rendered, kustomizations expanded."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart" / "epp-pd"
RELEASE, NAMESPACE = "epp-pd", "inference"


@functools.cache
def renderer() -> Path:
    """The Go program of Tests/Manifests/render, built once a run."""
    folder = Path(tempfile.mkdtemp(prefix="epp-pd-render-"))
    go = Path(sys.prefix) / "bin" / "go"
    environment = os.environ | {
        "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0",
        "GOCACHE": os.environ.get("GOCACHE", str(Path.home() / ".cache" / "go-build")),
    }  # fmt: skip
    subprocess.run(
        [go, "build", "-o", folder / "render", "."], cwd=Path(__file__).parent / "render", env=environment, check=True
    )
    return folder / "render"


def _run(command: str, folder: str, given) -> str:
    outcome = subprocess.run([renderer(), command, folder], input=json.dumps(given), capture_output=True, text=True)
    if outcome.returncode != 0:
        raise AssertionError(outcome.stderr)
    return outcome.stdout


def merged(values: dict, changes: dict) -> dict:
    """Values as Helm merges them: objects by key, everything else replaced."""
    result = copy.deepcopy(values)
    for key, change in changes.items():
        both = isinstance(change, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], change) if both else change
    return result


def chart_text(changes: dict | None = None, release: str = RELEASE) -> str:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = merged(yaml.safe_load((CHART / "values.yaml").read_text()), changes or {})
    given = {
        "Values": values,
        "Release": {"Name": release, "Namespace": NAMESPACE, "Service": "Helm"},
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
    }
    return _run("chart", str(CHART), given)


def chart(changes: dict | None = None, release: str = RELEASE) -> list[dict]:
    return [document for document in yaml.safe_load_all(chart_text(changes, release)) if document]


def shadow_values() -> dict:
    return yaml.safe_load((CHART / "shadow.yaml").read_text())


def documents(path: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@functools.cache
def _deploy_files() -> dict[str, list[dict]]:
    return {
        str(path.relative_to(DEPLOY)): documents(path)
        for path in sorted(DEPLOY.rglob("*.yaml"))
        if CHART not in path.parents and "fleets" not in path.parts
    }


def kustomize(folder: str) -> list[dict]:
    """What `kubectl kustomize deploy/FOLDER` gives."""
    return json.loads(_run("kustomize", folder, _deploy_files()))


def plain_manifests() -> list[Path]:
    """Files of Kubernetes objects that no renderer must touch first."""
    return [
        path
        for path in sorted(DEPLOY.rglob("*.yaml"))
        if CHART not in path.parents and re.search(r"^apiVersion:", path.read_text(), re.MULTILINE)
    ]


def key(document: dict) -> tuple:
    metadata = document["metadata"]
    return document["apiVersion"], document["kind"], metadata.get("namespace", ""), metadata["name"]
