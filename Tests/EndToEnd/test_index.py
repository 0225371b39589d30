# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""`epp-pd index`: real captures replayed, hostile folders, snapshots, exit codes."""

import json
import random
import shutil
import subprocess

import pytest
import rig

CAPTURES = rig.ROOT / "Tests" / "Fixtures" / "vllm" / "kv-events"
POD = "127.0.0.1:18100"


def index(*arguments, expect=0) -> subprocess.CompletedProcess:
    outcome = subprocess.run([rig.binary(), "index", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == expect, outcome.stdout + outcome.stderr
    assert "Fatal error" not in outcome.stderr
    return outcome


def replay(folder, queries, tmp_path, *more, expect=0):
    path = tmp_path / "queries.json"
    path.write_text(json.dumps(queries))
    outcome = index("replay", "--frames", folder, "--query", path, "--json", *more, expect=expect)
    return json.loads(outcome.stdout) if expect == 0 else outcome.stderr


def prompts(name: str) -> dict:
    requests = json.loads((CAPTURES / f"{name}-requests.json").read_text())
    return {r["label"]: r for r in requests if r.get("prompt")}


@pytest.mark.parametrize("name", ["run1", "run2-cbor"])
def test_a_capture_of_a_real_vllm(name, tmp_path):
    asked = prompts(name)
    queries = [
        {"id": label, "tokens": r["prompt"], "cache_salt": (r.get("extra") or {}).get("cache_salt"), "more": [1]}
        for label, r in asked.items()
    ]
    answers = replay(CAPTURES / name, queries, tmp_path)
    assert [a["id"] for a in answers] == list(asked)
    assert all(set(a) == {"id", "matches"} for a in answers)
    held = {a["id"]: a["matches"] for a in answers}
    for label in ("A_first_96tok_3blocks", "A_again_no_new_blocks", "A_after_reset"):
        (match,) = held[label]
        assert set(match) == {"pod", "rank", "tier", "tokens"}
        assert (match["rank"], match["tier"], match["tokens"]) == (0, "gpu", 96)
    assert held["A_64_shared_then_fork"][0]["tokens"] == 64
    assert held["salted"] == [] and held["short_no_full_block"] == []
    # Numbers and other ids come back as they are; nothing held gives no matches.
    assert replay(CAPTURES / name, [{"id": 7, "tokens": []}, {"id": "x", "tokens": [1] * 64}], tmp_path) == [
        {"id": 7, "matches": []},
        {"id": "x", "matches": []},
    ]


def test_the_pods_name_is_the_topics_else_the_folders(tmp_path):
    folder = tmp_path / "some-pod"
    shutil.copytree(CAPTURES / "run1", folder)
    query = [{"id": 1, "tokens": prompts("run1")["A_first_96tok_3blocks"]["prompt"]}]
    topic = (folder / "00000.frame0.bin").read_text()
    expected = topic.split("@")[1] if topic.startswith("kv@") else "some-pod"
    assert replay(folder, query, tmp_path)[0]["matches"][0]["pod"] == expected
    for frame in folder.glob("*.frame0.bin"):
        frame.write_bytes(b"")
    assert replay(folder, query, tmp_path)[0]["matches"][0]["pod"] == "some-pod"


def test_hostile_folders(tmp_path):
    query = [{"id": 1, "tokens": prompts("run1")["A_first_96tok_3blocks"]["prompt"]}]
    good = replay(CAPTURES / "run1", query, tmp_path)
    folder = tmp_path / "bad"
    shutil.copytree(CAPTURES / "run1", folder)
    # Missing and short frames beside good ones are told and passed over.
    (folder / "00001.frame0.bin").unlink()
    (folder / "00002.frame1.bin").write_bytes(b"\x01")
    (folder / "99990.frame2.bin").write_bytes(b"\xc1\xff garbage")
    (folder / "99991.frame2.bin").write_bytes(b"")
    (folder / "99992.frame2.bin").write_bytes(b"\xdd\xff\xff\xff\xff")
    (folder / "notes.txt").write_text("not a frame")
    answer = replay(folder, query, tmp_path)
    assert [m["tokens"] for m in answer[0]["matches"]][:1] == [m["tokens"] for m in good[0]["matches"]][:1]
    seeded = random.Random(5)
    for number in range(40):
        frames = sorted(folder.glob("0*.frame2.bin"))
        victim = seeded.choice(frames)
        data = bytearray(victim.read_bytes() or b"\0")
        for _ in range(seeded.randrange(1, 5)):
            data[seeded.randrange(len(data))] = seeded.randrange(256)
        victim.write_bytes(data[: seeded.randrange(1, len(data) + 1)])
        if number % 8 == 0:
            replay(folder, query, tmp_path)


def test_exit_codes(tmp_path):
    query = tmp_path / "q.json"
    query.write_text("[]")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no NNNNN.frame2.bin" in index("replay", "--frames", empty, "--query", query, expect=1).stderr
    assert "not a folder" in index("replay", "--frames", tmp_path / "absent", "--query", query, expect=1).stderr
    for text in ("", "{}", '[{"id": 1}]', '[{"id": 1, "tokens": [-1]}]', '[{"id": 1, "tokens": ["a"]}]', "[1"):
        query.write_text(text)
        assert "q.json" in index("replay", "--frames", CAPTURES / "run1", "--query", query, expect=1).stderr
    assert index("replay", "--frames", CAPTURES / "run1", "--query", tmp_path / "absent", expect=1)
    index("replay", expect=USAGE)


# What every wrong command line of epp-pd ends with.
USAGE = 2


def test_a_snapshot_and_what_it_holds(tmp_path):
    snapshot = tmp_path / "run1.eppx"
    query = [{"id": 1, "tokens": prompts("run1")["A_first_96tok_3blocks"]["prompt"]}]
    replay(CAPTURES / "run1", query, tmp_path, "--snapshot", snapshot)
    report = json.loads(index("stats", snapshot, "--json").stdout)
    assert report["held_blocks"] >= report["blocks"] > 0
    assert report["publishers"] == 1 and report["file_bytes"] == snapshot.stat().st_size
    data = snapshot.read_bytes()
    broken = tmp_path / "broken.eppx"
    for content in (b"", data[: len(data) // 2], data[:-1], data[:20] + bytes([data[20] ^ 1]) + data[21:], b"x" * 100):
        broken.write_bytes(content)
        assert "broken.eppx" in index("stats", broken, expect=1).stderr
    assert index("stats", tmp_path / "absent", expect=1).stderr


def test_the_help_shows_examples_that_run(tmp_path):
    text = index("replay", "--help").stdout
    assert "epp-pd index replay --frames" in text and "Exit codes" in text
    assert "epp-pd index stats" in index("stats", "--help").stdout
