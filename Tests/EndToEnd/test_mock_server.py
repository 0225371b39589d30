# SPDX-License-Identifier: Apache-2.0
# Copyright the epp-pd authors
"""`epp-pd mock-server` is a model server to its clients, in the time of its profile."""

import statistics
import time

import httpx
import openai
import pytest
import rig
import yaml

MODEL = "llama-3.1-8b"
SCALE = 4.0
METRICS_THAT_PICKERS_READ = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:num_requests_waiting_by_reason",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:time_to_first_token_seconds_sum",
    "vllm:request_queue_time_seconds_sum",
    "vllm:request_queue_time_seconds_count",
    "vllm:request_prefill_time_seconds_sum",
    "vllm:request_prefill_time_seconds_count",
    "vllm:request_decode_time_seconds_sum",
    "vllm:request_decode_time_seconds_count",
    "vllm:cache_config_info",
}


class MockFleet:
    """One process that plays a prefill pod and two decode pods, of which the second is slow and late."""

    def __init__(self, folder):
        first = rig.free_ports(3)
        self.prefill, self.decode, self.slow = range(first, first + 3)
        entries = [
            {"name": "prefill", "role": "prefill", "accelerator": "h100-sxm", "port": self.prefill},
            {"name": "decode", "role": "decode", "accelerator": "h200-sxm", "port": self.decode, "count": 2},
        ]
        common = {"model": MODEL, "address": rig.HOST}
        path = folder / "fleet.yaml"
        path.write_text(yaml.safe_dump({"endpoints": [common | e for e in entries]}))
        self.process = rig.Process(
            "mock-server",
            [
                rig.binary(), "mock-server", "--fleet", path, "--time-scale", SCALE,
                "--skew", "decode-1=2", "--metrics-delay", "decode-1=800ms",
            ],
            folder,
        )  # fmt: skip
        self.process.ready(lambda: rig.http_get(self.slow, "/health")[0] == 200)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    fleet = MockFleet(tmp_path_factory.mktemp("mock"))
    yield fleet
    fleet.process.stop()


def client(port):
    return openai.OpenAI(base_url=f"http://{rig.HOST}:{port}/v1", api_key="none", max_retries=0)


def ask(port, text="hello", **more):
    return client(port).chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=more.pop("max_tokens", 8), **more
    )


def test_whole_answer_has_usage(fleet):
    answer = ask(fleet.decode, max_tokens=12)
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.choices[0].finish_reason == "length"
    assert len(answer.choices[0].message.content) == 48


def test_stream_gives_the_role_then_tokens_then_usage(fleet):
    chunks = list(ask(fleet.decode, max_tokens=5, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) == 5
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 5
    assert all(c.usage is None for c in ask(fleet.decode, stream=True))


def test_text_completions_take_strings_and_token_ids(fleet):
    assert client(fleet.decode).completions.create(model=MODEL, prompt="x" * 400, max_tokens=1).usage.prompt_tokens == 100
    assert client(fleet.decode).completions.create(model=MODEL, prompt=[1, 2, 3], max_tokens=1).usage.prompt_tokens == 3


def test_prefix_cache_is_by_blocks_and_the_last_one_is_recomputed(fleet):
    prompt = [7] * 96
    create = client(fleet.decode).completions.create
    first = create(model=MODEL, prompt=prompt, max_tokens=1)
    again = create(model=MODEL, prompt=prompt, max_tokens=1)
    longer = create(model=MODEL, prompt=prompt + [8] * 40, max_tokens=1)
    salted = create(model=MODEL, prompt=prompt, max_tokens=1, extra_body={"cache_salt": "s"})
    cached = [a.usage.prompt_tokens_details.cached_tokens for a in (first, again, longer, salted)]
    assert cached == [0, 80, 96, 0]


def test_errors_are_vllms(fleet):
    with pytest.raises(openai.NotFoundError) as error:
        client(fleet.decode).completions.create(model="nope", prompt="x")
    assert error.value.body["message"] == f"The model `nope` does not exist. Valid aliases: {MODEL}."
    with pytest.raises(openai.BadRequestError):
        client(fleet.decode).completions.create(model=MODEL, prompt="x", max_tokens=1_000_000)
    bad = httpx.post(f"http://{rig.HOST}:{fleet.decode}/v1/completions", content=b"{")
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, 400)
    assert rig.http_get(fleet.decode, "/nothing") == (404, '{"detail":"Not Found"}')


def test_models_and_tokenize(fleet):
    assert [m.id for m in client(fleet.decode).models.list()] == [MODEL]
    answer = httpx.post(f"http://{rig.HOST}:{fleet.decode}/tokenize", json={"model": MODEL, "prompt": "hello world"})
    assert answer.json()["count"] == 3


def test_a_pair_prefills_elsewhere_and_fetches_the_kv(fleet):
    text = "a long prompt " * 2000
    direct = ask(fleet.decode, "warm up " + text)
    before = rig.MetricsPage(rig.http_get(fleet.prefill, "/metrics")[1])
    answer = ask(fleet.decode, text, extra_headers={"x-prefiller-host-port": f"{rig.HOST}:{fleet.prefill}"})
    after = rig.MetricsPage(rig.http_get(fleet.prefill, "/metrics")[1])
    decode = rig.MetricsPage(rig.http_get(fleet.decode, "/metrics")[1])
    assert answer.usage.completion_tokens == direct.usage.completion_tokens
    count = "vllm:request_prefill_time_seconds_count"
    assert after.sum(count) - before.sum(count) == 1
    assert decode.sum("vllm:external_prefix_cache_hits_total") == answer.usage.prompt_tokens
    # The prefill pod has given up the KV that it kept for the decode pod.
    assert after.sum("vllm:kv_cache_usage_perc") == 0


def test_a_failed_prefill_is_passed_on(fleet):
    nobody = rig.free_port()
    with pytest.raises(openai.InternalServerError) as error:
        ask(fleet.decode, extra_headers={"x-prefiller-host-port": f"{rig.HOST}:{nobody}"})
    assert error.value.status_code == 502
    with pytest.raises(openai.NotFoundError):
        client(fleet.decode).completions.create(
            model="nope", prompt="x", extra_headers={"x-prefiller-host-port": f"{rig.HOST}:{fleet.prefill}"}
        )


def token_interval(port) -> float:
    """Model seconds between two tokens, by the client's clock."""
    times = [time.monotonic() for c in ask(port, max_tokens=60, stream=True) if c.choices]
    return (times[-1] - times[2]) / (len(times) - 3) * SCALE


def test_time_is_the_profiles_times_the_skew(fleet):
    plain = statistics.median(token_interval(fleet.decode) for _ in range(3))
    slow = statistics.median(token_interval(fleet.slow) for _ in range(3))
    assert 0.002 < plain < 0.03  # an 8B model in bfloat16 on an H200 takes 4 to 8 ms a token
    assert slow / plain == pytest.approx(2, rel=0.25)


def test_metrics_come_late_where_asked_for(fleet):
    def seconds(port):
        start = time.monotonic()
        rig.http_get(port, "/metrics")
        return time.monotonic() - start

    assert seconds(fleet.slow) >= 0.2
    assert seconds(fleet.decode) < 0.15


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_server(fleet, stream):
    def aborted():
        page = rig.MetricsPage(rig.http_get(fleet.decode, "/metrics")[1])
        return page.sum("vllm:request_success_total", finished_reason="abort"), page.sum("vllm:num_requests_running")

    before = aborted()[0]
    body = {"model": MODEL, "prompt": "x", "max_tokens": 20_000, "stream": stream}
    with pytest.raises(httpx.TimeoutException):
        with httpx.stream(
            "POST", f"http://{rig.HOST}:{fleet.decode}/v1/completions", json=body, timeout=0.5
        ) as answer:
            end = time.monotonic() + 0.5
            for _ in answer.iter_lines():
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("seen enough")
    rig.wait_until(lambda: aborted() == (before + 1, 0), "the job to be cancelled", 5)


def test_pages_have_the_names_that_pickers_read(fleet):
    ask(fleet.decode)
    names = set(line.split("{")[0] for line in rig.http_get(fleet.decode, "/metrics")[1].splitlines())
    assert METRICS_THAT_PICKERS_READ <= names
