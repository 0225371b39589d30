# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""`epp-pd simulate` and `epp-pd plan` as commands: results, and how bad input ends."""

import gzip
import json
import os
import subprocess

import pytest
import rig

BINARY = os.environ.get("EPP_PD_BIN", str(rig.ROOT / ".build" / "debug" / "epp-pd"))
FLEET = """endpoints:
  - {name: p, role: prefill, accelerator: h100-sxm, model: llama-3.1-8b, count: 2}
  - {name: d, role: decode, accelerator: h100-sxm, model: llama-3.1-8b}
"""
KEYS = {
    "requests", "succeeded", "rejected", "ttft_mean_ms", "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms", "tpot_mean_ms",
    "tpot_p90_ms", "slo_attainment", "goodput_rps", "busy_usd_per_1k", "prefix_hit_ratio", "long_prompt_p99_slowdown",
    "decisions_per_second", "trace_hash", "parameters",
}  # fmt: skip


def run(*arguments, code=0):
    result = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stderr
    return result


def line(index: int) -> str:
    blocks = [0, *range(10 * index, 10 * index + 1 + index % 4)]
    return json.dumps(
        {"timestamp": 3000 * (index // 8), "input_length": 512 * len(blocks) - 100, "output_length": 20 + index % 60,
         "hash_ids": blocks}
    )  # fmt: skip


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(line(i) for i in range(240)) + "\n")
    return path


def results(*arguments):
    (line,) = run("simulate", "--json", "-", *arguments).stdout.splitlines()
    return json.loads(line)


def test_every_key_and_the_same_numbers_from_the_same_seed(fleet, trace):
    given = ("--trace", trace, "--fleet", fleet, "--policy", "joint,llm-d,lmetric-pull@tuned", "--load", "1,2", "--seed", "1,2")
    first = results(*given)
    assert [(r["load"], r["seed"]) for r in first["runs"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for one in first["runs"]:
        assert set(one["policies"]) == {"joint", "llm-d", "lmetric-pull@tuned"}
        assert one["bounds"]["fluid_max_load_at_95"] >= one["bounds"]["fluid_max_load"] > 0
        assert 0 < one["bounds"]["slo_attainment_bound"] <= 1 and one["bounds"]["timely_max_load_at_95"] > 0
        for metrics in one["policies"].values():
            assert KEYS <= set(metrics)
            assert metrics["requests"] == 240 == metrics["succeeded"] + metrics["rejected"]
            assert metrics["ttft_mean_ms"] >= one["bounds"]["ttft_floor_mean_ms"]
    assert "batch_exponent" in first["runs"][0]["policies"]["lmetric-pull@tuned"]["parameters"]

    def hashes(found):
        return [m["trace_hash"] for r in found["runs"] for _, m in sorted(r["policies"].items())]

    assert hashes(first) == hashes(results(*given))
    assert len(set(hashes(first))) > 4


def test_settings_change_what_they_say(fleet, trace):
    given = ("--trace", trace, "--fleet", fleet, "--load", "20")

    def joint(*more):
        return results(*given, *more)["runs"][0]["policies"]["joint"]

    plain = joint()
    assert joint("--requests", 50)["requests"] == 50
    # Nobody may be refused unless told so; a refused one is charged the deadline.
    assert plain["rejected"] == 0
    shed = joint("--sheddable-share", 1, "--slo", "ttft=30ms,tpot=50ms", "--deadline", "7s")
    assert shed["rejected"] > 0
    assert shed["ttft_p99_ms"] == 7000
    # A level that nobody can keep, and one that everybody keeps.
    assert joint("--slo", "ttft=1us")["slo_attainment"] == 0
    assert joint("--slo", "ttft=1h")["slo_attainment"] == 1
    for changed in (("--noise", 0), ("--pickers", 4), ("--scrape-interval", "2s"), ("--mode", "cost"), ("--seed", 7),
                    ("--even-arrivals",), ("--prefill-chunk", 1024), ("--streaming-share", 0.5),
                    ("--control-delay", "50ms"), ("--speed-bias", 0), ("--event-loss", 1), ("--event-delay", "1s")):  # fmt: skip
        assert joint(*changed)["trace_hash"] != plain["trace_hash"], changed
    crash = joint("--fault", "crash:d@1s+2s")
    assert crash["requests"] > crash["succeeded"] > 0
    # Queues of the pods' own, as early binding leaves them, are served in another order.
    early = [
        results(*given, "--load", "60", "--policy", "joint-early", *more)["runs"][0]["policies"]["joint-early"]
        for more in ((), ("--engine-priority",))
    ]
    assert early[0]["trace_hash"] != early[1]["trace_hash"]
    # In memory for a few prompts they wait for each other.
    assert joint("--kv-memory-scale", 0.01)["ttft_mean_ms"] > 10 * plain["ttft_mean_ms"]
    for fault in ("slow:p-0*3@1s+5s", "silent:p-1@1s+5s", "profile*2@0s+60s", "picker:0@2s"):
        assert joint("--fault", fault)["trace_hash"] != plain["trace_hash"], fault


def test_a_bare_command_is_that_of_the_results(trace):
    (line,) = run("simulate", "--trace", trace, "--json", "-").stdout.splitlines()
    bare = json.loads(line)["runs"]
    spelt = results(
        "--trace", trace, "--fleet", rig.ROOT / "deploy/examples/fleets/mixed-70b-5p4d.yaml", "--policy", "joint", "--load", 1,
        "--seed", 1, "--slo", "ttft=1s+0.25ms/token,tpot=50ms", "--mode", "latency", "--scrape-interval", "100ms", "--pickers", 1,
        "--sheddable-share", 0, "--deadline", "120s", "--noise", 0.2, "--speed-bias", 0.1, "--control-delay", "10ms",
        "--kv-memory-scale", 1, "--streaming-share", 1, "--observed-share", 1, "--event-loss", 0, "--event-delay", "0s",
    )["runs"]  # fmt: skip
    assert [r["policies"]["joint"]["trace_hash"] for r in bare] == [r["policies"]["joint"]["trace_hash"] for r in spelt]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ms.csv", "t_ms,input_tokens,output_tokens\n0.0,374,44\n400.5,396,109\n"),
        ("bare.csv", "0.0,374,44\n400.5,396,109\n"),
        ("dates.csv.gz", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:47.0810900,396,109\n"),
    ],
)
def test_azure_traces(fleet, tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    metrics = results("--trace", path, "--fleet", fleet)["runs"][0]["policies"]["joint"]
    assert metrics["requests"] == metrics["succeeded"] == 2
    assert metrics["goodput_rps"] == pytest.approx(2 / 0.4005, rel=1e-5)


@pytest.mark.parametrize("kind", ["chat", "agents", "batch", "documents,rate=1"])
def test_synthetic_traces(fleet, kind):
    given = ("--trace", f"synthetic:{kind}", "--requests", 60, "--fleet", fleet, "--policy", "lmetric")
    first = results(*given)["runs"][0]["policies"]["lmetric"]
    assert first["requests"] == 60
    assert first["trace_hash"] == results(*given)["runs"][0]["policies"]["lmetric"]["trace_hash"]


def test_control_steers(fleet, trace):
    def joint(*more):
        return results("--trace", trace, "--fleet", fleet, "--load", "0.2", *more)["runs"][0]["policies"]["joint"]

    # The trace lasts seven minutes at this load, and control acts once a minute.
    plain = joint()
    cheap = joint("--control", "dollarsPerThousand=0.0001")
    assert cheap["trace_hash"] != plain["trace_hash"]
    assert cheap["busy_usd_per_1k"] < plain["busy_usd_per_1k"]


def test_the_highest_load(fleet, trace):
    found = results("--trace", trace, "--fleet", fleet, "--policy", "joint,random", "--find-max-load", "0.95")
    loads = found["max_load"]["loads"]
    assert loads["joint"] >= loads["random"] > 0
    at = {r["load"]: r["policies"].get("joint") for r in found["runs"]}
    assert at[loads["joint"]]["slo_attainment"] >= 0.95


def test_page_and_plots(fleet, trace, tmp_path):
    page = tmp_path / "page.html"
    run("simulate", "--trace", trace, "--fleet", fleet, "--load", "1,2", "--report", page, "--plots", tmp_path)
    html = page.read_text()
    assert html.startswith("<!DOCTYPE html>") and "src=" not in html and "<script" not in html
    assert {"attainment.svg", "ttft.svg", "dollars.svg"} <= {p.name for p in tmp_path.iterdir()}


def test_traces_that_cannot_be_read(fleet, trace, tmp_path):
    packed = gzip.compress(trace.read_bytes())
    for name, content, reason in [
        ("cut.jsonl.gz", packed[: len(packed) * 3 // 4], "to its end"),
        ("empty.jsonl", b"", "no requests"),
        ("years.jsonl", trace.read_bytes() + line(240).replace("90000", "90000000000").encode(), "31"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        assert reason in run("simulate", "--trace", path, "--fleet", fleet, code=2).stderr
    assert "to its end" in run("simulate", "--trace", tmp_path, "--fleet", fleet, code=2).stderr


def test_without_any_decode_pod_all_fail(fleet, trace):
    joint = results("--trace", trace, "--fleet", fleet, "--fault", "crash:d@0s+1h")["runs"][0]["policies"]["joint"]
    assert joint["succeeded"] == 0
    assert joint["slo_attainment"] == 0
    assert joint["ttft_mean_ms"] == pytest.approx(120_000)


def test_malformed_lines(fleet, trace, tmp_path):
    lines = trace.read_text().splitlines()
    lines[6] = '{"timestamp": 1, "input_length": '
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(lines))
    result = run("simulate", "--trace", few, "--fleet", fleet)
    assert "1 malformed" in result.stderr and "line 7" in result.stderr
    lines[20:30] = ["not a line"] * 10
    many = tmp_path / "many.jsonl"
    many.write_text("\n".join(lines))
    result = run("simulate", "--trace", many, "--fleet", fleet, code=2)
    assert "11 of 240 lines are malformed" in result.stderr and "line 7, 21" in result.stderr


@pytest.mark.parametrize(
    ("fleet_text", "reason"),
    [
        ("endpoints:\n  - {role: prefill, accelerator: h100-sxm, model: llama-3.1-8b}\n", "decode"),
        ("endpoints:\n  - {role: decode, accelerator: h100-sxm, model: llama-3.1-8b}\n", "prefill"),
        ("endpoints:\n  - {role: both, accelerator: nonesuch, model: llama-3.1-8b}\n", "nonesuch"),
        ("endpoints:\n  - {role: both, accelerator: h100-sxm, model: nobody-knows}\n", "nobody-knows"),
        ("endpoints: 7\n", "endpoints"),
        (
            "endpoints:\n  - {role: both, accelerator: h100-sxm, model: llama-3.1-8b}\n"
            "  - {role: both, accelerator: h100-sxm, model: llama-3.1-70b, tensorParallel: 4}\n",
            "one model",
        ),
    ],
)
def test_impossible_fleets(trace, tmp_path, fleet_text, reason):
    path = tmp_path / "bad.yaml"
    path.write_text(fleet_text)
    assert reason in run("simulate", "--trace", trace, "--fleet", path, code=2).stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ("--policy", "best"), ("--load", "0"), ("--load", "x"), ("--slo", "ttft=fast"), ("--pickers", "0"), ("--noise", "-1"),
        ("--sheddable-share", "2"), ("--fault", "crash:nobody@1s"), ("--fault", "melt:d@1s"), ("--scrape-interval", "0s"),
        ("--trace", "/nonexistent"), ("--fleet", "/nonexistent"), ("--mode", "cheap"),
        ("--fault", "picker:1@2s"), ("--fault", "slow:d*2@1s"), ("--fault", "silent:d@1s"), ("--fault", "slow:d@1s+1s"),
        ("--fault", "profile*0@1s+1s"), ("--fault", "crash:d*2@1s"), ("--fault", "crash:d"), ("--slo", ""), ("--slo", "ttft="),
        ("--slo", "tpot=50ms,"), ("--kv-memory-scale", "0"), ("--prefill-chunk", "0"), ("--streaming-share", "1.5"),
        ("--json", "/nonexistent/x.json"), ("--report", "/nonexistent/x.html"), ("--report", "-"), ("--plots", "/proc/x"),
        ("--load", "1,"), ("--seed", "1,x"), ("--requests", "0"), ("--poisson", "10"), ("--find-max-load", "2"),
        ("--control", "speed=1"), ("--control", "attainment=2"), ("--control", "dollarsPerThousand"),
    ],
)  # fmt: skip
def test_wrong_usage(fleet, trace, wrong):
    given = {"--trace": trace, "--fleet": fleet} | dict([wrong])
    assert run("simulate", *[part for pair in given.items() for part in pair], code=2).stderr


def test_plan(trace, tmp_path):
    wanted = tmp_path / "plan.yaml"
    given = ("plan", "--trace", trace, "--model", "llama-3.1-8b", "--accelerators", "h100-sxm,l40s:1", "--load", "8", "--write-fleet", wanted)
    (line,) = run(*given, "--json", "-").stdout.splitlines()
    found = json.loads(line)
    best, second = found["cheapest"], found["runner_up"]
    assert best["slo_attainment"] >= 0.95
    assert second["usd_per_hour"] >= best["usd_per_hour"]
    assert found["why"].startswith("the runner-up")
    # The fleet that it writes is what it judged.
    joint = results("--trace", trace, "--fleet", wanted, "--load", "8")["runs"][0]["policies"]["joint"]
    assert joint["slo_attainment"] == pytest.approx(best["slo_attainment"])
    text = run(*given).stdout
    assert "cheapest" in text and "runner-up" in text


def test_plan_without_an_answer(trace):
    given = ("plan", "--trace", trace, "--model", "llama-3.1-8b")
    assert "no fleet" in run(*given, "--accelerators", "l40s:1", "--slo", "ttft=1us", "--max-pods", "2", code=1).stdout
    assert "nonesuch" in run(*given, "--accelerators", "nonesuch", code=2).stderr
    for wrong in (("--policy", "llm-d@tuned"), ("--policy", "best"), ("--requests", 0), ("--attainment", 2), ("--load", 0),
                  ("--json", "/nonexistent/x"), ("--write-fleet", "/nonexistent/x"), ("--max-pods", 0)):  # fmt: skip
        assert run(*given, "--accelerators", "l40s:1", *wrong, code=2).stderr
    assert "fit" in run("plan", "--trace", trace, "--model", "llama-3.1-70b", "--accelerators", "l4:1", code=2).stderr
