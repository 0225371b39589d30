# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""The commands of the cost model, from outside: predict, calibrate, profiles; and a live server measured."""

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import rig
import yaml

SHARED = Path(os.environ.get("EPP_PD_SHARED", rig.ROOT.parent / "shared"))
needs_shared = pytest.mark.skipif(not (SHARED / "data").exists(), reason="needs shared data: set EPP_PD_SHARED")
POD = ["--accelerator", "h100-sxm", "--model", "llama-3.1-70b", "--tp", "4", "--dtype", "fp8"]


def run(*arguments, code=0, **more):
    done = subprocess.run([rig.binary(), *map(str, arguments)], capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def one_line(*arguments):
    text = run(*arguments, "--json").stdout
    assert text.count("\n") == 1
    return json.loads(text)


def test_predictions_follow_the_formulas():
    fit = next(
        c
        for group in yaml.safe_load((rig.ROOT / "profiles/fits/h100-sxm.yaml").read_text())["fits"]
        for c in group["configurations"]
        if (c["model"], c["tp"], c["dtype"]) == ("llama-3.1-70b", 4, "fp8")
    )
    p, d, s = fit["prefill"], fit["decode"], fit["step"]
    n, c = 5000, 3000
    expected = p["c0"] + (p["c1lo"] * p["knee"] + p["c1hi"] * (n - p["knee"])) / 1e3
    expected += p["c2"] * (n * c + n * n / 2) / 1e6 + p["c3"] * (n + c) / 1e3
    got = one_line("predict", "prefill", *POD, "--new-tokens", n, "--cached-tokens", c)
    assert got["predicted_ms"] == pytest.approx(expected)
    assert got["source"] == "fitted" and got["error_low_ms"] < expected < got["error_high_ms"]

    b, k = 200, 150_000
    expected = d["d0"] + d["d1lo"] * min(b, d["knee"]) + d["d1hi"] * max(b - d["knee"], 0) + d["d2"] * k / 1e6
    got = one_line("predict", "decode", *POD, "--batch", b, "--kv-tokens", k)
    assert got["predicted_ms"] == pytest.approx(expected)

    total = 1000 + 30
    expected = s["c0"] + (s["c1lo"] * min(total, s["knee"]) + s["c1hi"] * max(total - s["knee"], 0)) / 1e3
    expected += s["c2"] * (1000 * 500 + 1000 * 1000 / 2) / 1e6 + s["d1"] * 30 + s["d2"] * (9000 + 1500) / 1e6
    step = ["--new-tokens", 1000, "--cached-tokens", 500, "--batch", 30, "--kv-tokens", 9000]
    assert one_line("predict", "step", *POD, *step)["predicted_ms"] == pytest.approx(expected)

    moved = one_line("predict", "transfer", *POD, "--tokens", 8192, "--connector", "nixl")
    assert moved["predicted_ms"] == pytest.approx(10 + 8192 * 327_680 / (4 * 50e9 * 0.7) * 1e3)


def test_a_request_is_the_sum_of_its_parts():
    pair = ["--to-accelerator", "h200", "--to-tp", 2, "--input-tokens", 8000, "--output-tokens", 300, "--batch", 20]
    got = one_line("predict", "request", *POD, *pair, "--kv-tokens", 90_000)
    assert got["ttft_ms"] > got["prefill_ms"] + got["transfer_ms"]
    assert got["total_ms"] == pytest.approx(got["ttft_ms"] + 299 * got["tpot_ms"])
    assert 0 < got["marginal_usd"] < got["usd"] < 0.01
    assert got["error_low_ms"] < got["total_ms"] < got["error_high_ms"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", "--rows", "/nonexistent.csv"],
        ["predict", "prefill", *POD, "--new-tokens", "nan"],
        ["predict", "decode", *POD, "--batch", "-1", "--kv-tokens", "5"],
        ["predict", "prefill", *POD, "--new-tokens", "5", "--dtype", "fp3"],
        ["predict", "prefill", *POD, "--new-tokens", "5", "--profiles", "/nonexistent"],
        ["predict", "--rows", "/dev/null"],
        ["predict", "--rows", "rows.csv", "--json"],
        ["predict", "transfer", *POD, "--tokens", "5", "--to-dtype", "blah"],
        ["predict", "transfer", *POD, "--tokens", "5", "--to-kv-dtype", "fp3"],
        ["predict", "transfer", *POD, "--tokens", "5", "--to-block-size", "0"],
        ["calibrate", "--steps", "/nonexistent.csv", "--accelerator", "h100-sxm"],
        ["profiles", "fit", "--endpoint", "ftp://x", "--model", "m", "--accelerator", "l4"],
    ],
)
def test_wrong_usage_is_two(arguments):
    assert run(*arguments, code=2).stderr


def test_a_transfer_says_where_it_comes_from_and_how_sure_it_is():
    ask = ["predict", "transfer", *POD, "--tokens", 8192]
    known = one_line(*ask, "--connector", "mooncake")
    assert known["source"] == "connector mooncake" and known["origin"]
    assert known["error_low_ms"] < known["predicted_ms"] < known["error_high_ms"]
    unknown = one_line(*ask)
    assert unknown["source"] == "connector unknown"
    width = lambda got: (got["error_high_ms"] - got["error_low_ms"]) / got["predicted_ms"]
    assert width(unknown) > 5 * width(known)
    assert "bogus" in run(*ask, "--connector", "bogus").stderr
    assert "nonsense" in run(*ask, "--to-accelerator", "nonsense").stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--to-kv-dtype", "fp8"], "KV dtypes"),
        (["--kv-dtype", "fp8", "--to-kv-dtype", "auto"], "KV dtypes"),
        (["--block-size", 16, "--to-block-size", 64], "block sizes: 16 and 64"),
        (["--connector", "nixl", "--to-connector", "mooncake"], "connectors"),
        (["--to-model", "qwen3-32b"], "different models"),
    ],
)
def test_what_a_pair_must_agree_on(arguments, reason):
    assert reason in run("predict", "transfer", *POD, "--tokens", 99, *arguments, code=1).stderr


def test_pairs_that_agree_under_other_names():
    run("predict", "transfer", *POD, "--tokens", 99, "--kv-dtype", "bf16", "--to-kv-dtype", "auto", "--to-tp", 8)
    run("predict", "transfer", *POD, "--tokens", 99, "--block-size", 16)


def test_a_crowded_request_waits_and_may_be_preempted():
    ask = ["predict", "request", *POD, "--input-tokens", 4000, "--output-tokens", 400]
    idle = one_line(*ask)
    assert idle["queue_ms"] == idle["admission_ms"] == 0 and idle["overflow_probability"] < 1e-6
    assert idle["ttft_error_low_ms"] < idle["ttft_ms"] < idle["ttft_error_high_ms"]
    assert idle["tpot_error_low_ms"] < idle["tpot_ms"] < idle["tpot_error_high_ms"]
    assert idle["usd_error_low"] < idle["usd"] < idle["usd_error_high"]
    queued = one_line(*ask, "--waiting", 3, "--waiting-tokens", 9000, "--unseen-rate", 0.5)
    assert queued["queue_ms"] > 400
    close = one_line(*ask, "--batch", 60, "--kv-tokens", 604_000)
    assert 0.05 < close["overflow_probability"] < 1 and close["recompute_ms"] > 0
    full = one_line(*ask, "--batch", 60, "--kv-tokens", 640_000)
    assert full["admission_ms"] > 0 and full["ttft_ms"] > close["ttft_ms"]


def test_speculation_pays_for_small_batches():
    ask = ["predict", "decode", *POD, "--kv-tokens", 8000]
    plain = one_line(*ask, "--batch", 2)["predicted_ms"]
    assert one_line(*ask, "--batch", 2, "--draft-tokens", 3, "--acceptance", 0.8)["predicted_ms"] < 0.6 * plain


def test_incompatible_pods_are_refused_with_the_reason():
    done = run("predict", "transfer", *POD, "--to-tp", 8, "--tokens", 99, "--connector", "p2p-nccl", code=1)
    assert "tensor parallelism 4 and 8" in done.stderr


def test_rows_pass_through_and_bad_ones_are_counted(tmp_path):
    rows = tmp_path / "rows.csv.gz"
    with gzip.open(rows, "wt") as file:
        file.write("id,kind,accelerator,model,tp,dtype,new_tokens\n")
        file.write('"a,1",prefill,H100_SXM,meta-llama/Llama-3.3-70B-Instruct,4.0,fp8,100\n')
        file.write("b,nonsense,h100,x,1,,100\n")
        file.write("c,prefill,nobody-knows,neither-this,1,,100\n")
    out = tmp_path / "out.csv"
    done = run("predict", "--rows", rows, "--output", out, "--json", code=1)
    assert json.loads(done.stdout)["unparsable"] == 1 and "rows.csv.gz:3" in done.stderr
    got = list(csv.DictReader(out.open()))
    assert [r["id"] for r in got] == ["a,1", "b", "c"]
    assert [bool(r["predicted_ms"]) for r in got] == [True, False, True]
    assert got[0]["source"].startswith("fitted") and got[2]["source"].startswith("unknown")


def test_steps_without_steps_are_no_calibration(tmp_path):
    steps = tmp_path / "steps.csv"
    steps.write_text("experiment_id,model,tp,step_ms,prefill_tokens,decode_tokens,kv_tokens\n")
    done = run("calibrate", "--steps", steps, "--accelerator", "h100-sxm", "--json", code=1)
    assert "no steps" in done.stderr and not done.stdout


@needs_shared
def test_calibration_of_real_steps():
    steps = SHARED / "data/measured/h100_vllm_steps.csv.gz"
    got = one_line("calibrate", "--steps", steps, "--accelerator", "h100-sxm", "--dtype", "bfloat16")
    assert got["steps"] == 1309 and len(got["experiments"]) == 2
    assert got["mape_before"] <= 8 and got["mape_after"] <= 3.5


def test_a_models_config_becomes_an_entry(tmp_path):
    config = tmp_path / "acme-9b" / "config.json"
    config.parent.mkdir()
    config.write_text(
        json.dumps(
            {"num_hidden_layers": 36, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
            | {"head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936, "torch_dtype": "bfloat16"}
        )
    )
    out = tmp_path / "acme.yaml"
    run("profiles", "add", "--config", config, "--output", out)
    entry = yaml.safe_load(out.read_text())["models"][0]
    assert entry["name"] == "acme-9b" and entry["parameters"] == pytest.approx(8.19, rel=0.01)
    bad = tmp_path / "config.json"
    bad.write_text('{"num_hidden_layers": -3}')
    assert "num_hidden_layers" in run("profiles", "add", "--config", bad, code=1).stderr


def test_lists():
    assert "174 fitted and 29 derived" in run("profiles", "list").stdout
    assert "b200-sxm" in run("profiles", "list", "--model", "gpt-oss-120b").stdout
    assert "3.99" in run("profiles", "show", "NVIDIA-H100-80GB-HBM3").stdout
    assert "nobody" in run("profiles", "show", "nobody", code=1).stderr


@pytest.fixture
def server(tmp_path, request):
    """An L40S of 8 billion parameters, with 5 % jitter."""
    port = rig.free_port()
    model = getattr(request, "param", "llama-3.1-8b")
    pod = ["--accelerator", "l40s", "--model", model, "--dtype", "fp8", "--port", port]
    process = rig.Process("mock", [rig.binary(), "mock-server", *pod, "--jitter", 0.05], tmp_path)
    process.ready(lambda: rig.http_get(port, "/health")[0] == 200)
    yield port
    process.stop()


def fit(port, *more):
    server = ["--endpoint", f"http://{rig.HOST}:{port}", "--model", "llama-3.1-8b", "--accelerator", "l40s"]
    limits = ["--dtype", "fp8", "--max-prompt", 4096, "--max-concurrency", 8, "--max-kv-tokens", 40_000]
    return [str(a) for a in [rig.binary(), "profiles", "fit", *server, *limits, *more]]


def test_a_live_server_is_measured(server, tmp_path):
    """The fit predicts what the profile that the server plays would: the coefficients, and sums of them."""
    own = tmp_path / "profiles"
    own.mkdir()
    for file in (rig.ROOT / "profiles").glob("*.yaml"):
        (own / file.name).write_bytes(file.read_bytes())
    done = subprocess.run(fit(server, "--output", own / "fit.yaml"), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "requests with about" in done.stderr and "prefill 1/" in done.stderr
    pod = ["--accelerator", "l40s", "--model", "llama-3.1-8b", "--dtype", "fp8", "--engine", "vllm"]

    def ms(profiles, *arguments):
        got = one_line("predict", *arguments[:1], *pod, "--profiles", profiles, *arguments[1:])
        return got["predicted_ms"], got["origin"]

    shipped = rig.ROOT / "profiles"
    asks = [
        (("decode", "--batch", 1, "--kv-tokens", 500), 0.06),
        (("decode", "--batch", 8, "--kv-tokens", 17_000), 0.06),
        (("prefill", "--new-tokens", 2048), 0.15),
        (("prefill", "--new-tokens", 4096), 0.15),
    ]
    for ask, tolerance in asks:
        (learned, origin), (truth, _) = ms(own, *ask), ms(shipped, *ask)
        assert origin == "l40s/llama-3.1-8b/tp1/fp8"
        assert learned == pytest.approx(truth, rel=tolerance), ask


def test_a_server_that_has_seen_the_prompts_is_no_measurement(server, tmp_path):
    """The same seed twice: the second time every prompt is cached."""
    small = ["--seed", 7, "--output", tmp_path / "fit.yaml"]
    first = subprocess.run(fit(server, *small), capture_output=True, text=True, timeout=200)
    assert first.returncode == 0 and "seed 7" in first.stderr, first.stderr
    (tmp_path / "fit.yaml").unlink()
    second = subprocess.run(fit(server, *small), capture_output=True, text=True, timeout=200)
    assert second.returncode == 1 and "seen these prompts" in second.stderr
    assert not (tmp_path / "fit.yaml").exists()


@pytest.mark.parametrize("server", ["acme-8b"], indirect=True)
def test_a_fit_of_the_undescribed_brings_its_facts(server, tmp_path):
    """An accelerator and a model that no profile knows: the fit is usable, in order, and carried to other sizes."""
    own = tmp_path / "profiles"
    shutil.copytree(rig.ROOT / "profiles", own)
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
            | {"intermediate_size": 14336, "vocab_size": 128256, "quantization_config": {"quant_method": "fp8"}}
        )
    )
    names = ["--endpoint", f"http://{rig.HOST}:{server}", "--model", "acme-8b", "--accelerator", "newchip"]
    limits = ["--max-prompt", 4096, "--max-concurrency", 8, "--max-kv-tokens", 40_000, "--config", config]
    facts = ["--memory-gb", 48, "--memory-gbps", 900, "--tflops", 350]
    run("profiles", "fit", *names, *limits, *facts, "--output", own / "aaa.yaml")
    assert not run("validate", "--profiles", own).stderr
    pod = ["--profiles", own, "--accelerator", "newchip", "--model", "acme-8b", "--engine", "vllm"]
    ask = ["--batch", 4, "--kv-tokens", 9000]
    done = run("predict", "decode", *pod, *ask, "--json")
    got = json.loads(done.stdout)
    assert not done.stderr and got["source"] == "fitted" and got["dtype"] == "fp8"
    assert got["error_high_ms"] < 1.2 * got["predicted_ms"]
    other = one_line("predict", "decode", *pod, *ask, "--tp", 2)
    assert other["source"] == "otherTensorParallel" and other["predicted_ms"] < got["predicted_ms"]


def test_a_stopped_measurement_writes_nothing(server, tmp_path):
    out = tmp_path / "fit.yaml"
    child = subprocess.Popen(fit(server, "--output", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=20)
    assert child.returncode == 130 and "nothing is written" in errors
    assert not out.exists()


def test_a_server_that_is_not_there(tmp_path):
    done = subprocess.run(fit(rig.free_port()), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr
