# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Which part of the rendered chart lies where under deploy/kustomize."""

from __future__ import annotations

from pathlib import Path

import manifests
import yaml

KUSTOMIZE = manifests.DEPLOY / "kustomize"
WAYS = ("none", "prometheus", "keda", "external-metrics")

# Kustomizations have no parameters, so the Deployment, whose flags differ, is a component of its own for each way of
# autoscaling, and every overlay takes exactly one of them.
BASE = ("serviceaccount", "rbac", "configmap", "service", "poddisruptionbudget", "networkpolicy")
COMPONENTS = {
    "monitoring": ("none", ("servicemonitor", "prometheusrule", "dashboard")),
    "picker": ("none", ("deployment",)),
    "autoscaling-prometheus": ("prometheus", ("deployment", "hpa")),
    "autoscaling-keda": ("keda", ("deployment", "keda")),
    "autoscaling-external-metrics": ("external-metrics", ("deployment", "hpa", "external-metrics")),
}
OVERLAYS = {
    "default": "picker",
    "prometheus": "autoscaling-prometheus",
    "keda": "autoscaling-keda",
    "external-metrics": "autoscaling-external-metrics",
}
WAY_OF_OVERLAY = {"default": "none", "prometheus": "prometheus", "keda": "keda", "external-metrics": "external-metrics"}
# A shadow lies beside a picker of its own: all of it has another name, so that it shares no file with the others.
SHADOW, SHADOW_RELEASE = "shadow", "epp-pd-shadow"
ALL_OVERLAYS = (*OVERLAYS, SHADOW)


def given(overlay: str) -> tuple[dict, str]:
    """The values and the release of the chart that say what an overlay says."""
    if overlay == SHADOW:
        return manifests.shadow_values(), SHADOW_RELEASE
    return {"autoscaling": {"way": WAY_OF_OVERLAY[overlay]}}, manifests.RELEASE


def rendered(changes: dict, release: str = manifests.RELEASE) -> dict[str, str]:
    """The chart's text by template, without the line that names its source."""
    parts: dict[str, str] = {}
    for part in manifests.chart_text(changes, release).split("---\n# Source: ")[1:]:
        name, text = part.split("\n", 1)
        parts[name.removesuffix(".yaml")] = text.strip() + "\n"
    return parts


def _is_elsewhere(document: str) -> bool:
    """Objects that lie in another namespace stay out of what an overlay's `namespace` renames."""
    metadata = (yaml.safe_load(document) or {"metadata": {}})["metadata"]
    return metadata.get("namespace", manifests.NAMESPACE) != manifests.NAMESPACE


def _kustomization(kind: str, **fields) -> str:
    version = "kustomize.config.k8s.io/" + ("v1alpha1" if kind == "Component" else "v1beta1")
    lines = [f"apiVersion: {version}", f"kind: {kind}"]
    for name, value in fields.items():
        if isinstance(value, str):
            lines.append(f"{name}: {value}")
        elif value:
            lines += [f"{name}:"] + [f"- {entry}" for entry in value]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Every file of deploy/kustomize with its text."""
    result: dict[Path, str] = {}
    by_way = {way: rendered({"autoscaling": {"way": way}}) for way in WAYS}
    for name in BASE:
        result[KUSTOMIZE / "base" / f"{name}.yaml"] = by_way["none"][name]
    result[KUSTOMIZE / "base" / "kustomization.yaml"] = _kustomization(
        "Kustomization", resources=[f"{name}.yaml" for name in BASE]
    )
    elsewhere: dict[str, list[str]] = {}
    for component, (way, templates) in COMPONENTS.items():
        folder = KUSTOMIZE / "components" / component
        for name in templates:
            pieces = by_way[way][name].split("---\n")
            here = [piece for piece in pieces if piece.strip() and not _is_elsewhere(piece)]
            elsewhere.setdefault(way, []).extend(piece for piece in pieces if _is_elsewhere(piece))
            result[folder / f"{name}.yaml"] = "---\n".join(here)
        result[folder / "kustomization.yaml"] = _kustomization(
            "Component", resources=[f"{name}.yaml" for name in templates]
        )
    elsewhere.setdefault("prometheus", []).append(by_way["prometheus"]["prometheus-adapter"])
    for overlay, component in OVERLAYS.items():
        folder, way = KUSTOMIZE / "overlays" / overlay, WAY_OF_OVERLAY[overlay]
        inner = _kustomization(
            "Kustomization",
            namespace=manifests.NAMESPACE,
            resources=["../../../base"] if elsewhere.get(way) else ["../../base"],
            components=[
                f"{'../../..' if elsewhere.get(way) else '../..'}/components/{name}" for name in (component, "monitoring")
            ],
            images=None,
        )
        if elsewhere.get(way):
            result[folder / "picker" / "kustomization.yaml"] = inner
            result[folder / "elsewhere.yaml"] = "---\n".join(elsewhere[way])
            result[folder / "kustomization.yaml"] = _kustomization(
                "Kustomization", resources=["picker", "elsewhere.yaml"]
            )
        else:
            result[folder / "kustomization.yaml"] = inner
    shadow = {name: text for name, text in rendered(*given(SHADOW)).items() if text.strip()}
    folder = KUSTOMIZE / "overlays" / SHADOW
    result |= {folder / f"{name}.yaml": text for name, text in shadow.items()}
    result[folder / "kustomization.yaml"] = _kustomization(
        "Kustomization", namespace=manifests.NAMESPACE, resources=[f"{name}.yaml" for name in shadow]
    )
    # Differences between ways that no component carries would be lost silently.
    for way, parts in by_way.items():
        for name in BASE:
            if parts[name] != by_way["none"][name]:
                suffix = KUSTOMIZE / "base" / f"{name}.yaml"
                raise AssertionError(f"{suffix}: differs with autoscaling.way={way}")
    return result
