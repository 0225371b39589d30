# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""Every command line in the manifests is one that epp-pd understands."""

import functools
import re
import subprocess

import manifests
import pytest
import rig
from test_chart import VARIANTS


def command_lines() -> dict[str, list[str]]:
    """Arguments of every container of ours, by where they come from."""
    found = {}
    sources = {f"chart {name}": manifests.chart(changes) for name, changes in VARIANTS.items()}
    sources |= {str(path): manifests.documents(path) for path in manifests.plain_manifests()}
    for source, documents in sources.items():
        for document in documents:
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", []):
                if container["image"].startswith("epp-pd:"):
                    found[f"{source} {document['metadata']['name']}"] = container["args"]
    return found


LINES = command_lines()


@functools.cache
def known_flags(command: str) -> set[str]:
    text = subprocess.run([rig.binary(), command, "--help"], capture_output=True, text=True).stdout
    return set(re.findall(r"^\s+(?:-\w, )?(--[a-z0-9-]+)", text, re.MULTILINE))


@functools.cache
def accepted_flags() -> set[str]:
    """Flags of llm-d's picker that `serve` takes without effect."""
    source = (manifests.ROOT / "Sources/epp-pd/CommandLine/ReferenceFlags.swift").read_text()
    lists = re.findall(r"ignored\w+: Set<String> = \[(.*?)\]", source, re.DOTALL)
    return {f"--{name}" for text in lists for name in re.findall(r'"([^"]+)"', text)}


# Flags of other programs that the documentation shows, and of llm-d's picker, as prefixes (`--zap-*`).
FOREIGN = {
    "helm and kubectl": {"--namespace", "--set", "--reuse-values"},
    "swift build": {"--product"},
    "vLLM": {"--kv-events-config", "--scheduling-policy", "--enable-priority-scheduling"},
    "scripts/demo": {"--keep"},
    "llm-d's metric names": {"--total-queued-requests-metric"},
    "llm-d's prefixes": {"--zap-"},
}


@functools.cache
def all_flags() -> set[str]:
    """Of every command of epp-pd."""

    def of(*command: str) -> set[str]:
        text = subprocess.run([rig.binary(), *command, "--help"], capture_output=True, text=True).stdout
        found = set(re.findall(r"--[a-z][a-z0-9-]+", text))
        _, _, commands = text.partition("SUBCOMMANDS:")
        for name in re.findall(r"^  ([a-z-]+) ", commands, re.MULTILINE):
            if name != "help":
                found |= of(*command, name)
        return found

    return of()


@functools.cache
def bench_flags() -> set[str]:
    """Of epp-pd-bench, by its source: the tests build only epp-pd."""
    text = "".join(path.read_text() for path in (manifests.ROOT / "Sources/epp-pd-bench").rglob("*.swift"))
    names = re.findall(r"@(?:Option|Flag|OptionGroup)\b[^\n]*\n?\s*(?:private )?var (\w+)", text)
    return {"--" + re.sub(r"([A-Z])", lambda m: "-" + m.group(1).lower(), name) for name in names}


DOCUMENTS = sorted((manifests.ROOT / "docs").glob("*.md")) + [manifests.ROOT / "README.md"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_documents_name_flags_that_exist(path):
    known = all_flags() | bench_flags() | accepted_flags() | set().union(*FOREIGN.values())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", path.read_text()))
    assert named <= known, sorted(named - known)


@pytest.mark.parametrize("source", LINES)
def test_flags_are_known(source):
    command, *arguments = LINES[source]
    known = known_flags(command)
    flags = {argument.split("=")[0] for argument in arguments}
    assert all(flag.startswith("--") for flag in flags)
    missing = flags - known - (accepted_flags() if command == "serve" else set())
    assert not missing


def test_there_are_command_lines():
    assert len(LINES) > 10
    assert {line[0] for line in LINES.values()} == {"serve", "mock-server"}
