"""Sentence embeddings through the gateway with OpenAI's own client, against Python's onnxruntime and `tokenizers`."""

import asyncio
import base64
import concurrent.futures
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
import requests

from harness import cache, cases, embeddings, schema
from harness.platform import Platform, executable

GUIDE = cache.ROOT / "docs" / "guide" / "embeddings.md"
TEXTS = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "Größe, naïve café, e\u0301 and é",
    "日本語の文 mixed with العربية and русский",
    "Ship ahoy 🚢🏴‍☠️!",
    "   ",
    "a",
    "\n\ttabs \"quotes\" \\ and \u0000 controls",
    "supercalifragilisticexpialidocious " * 3,
    "word " * 200,
    "x" * 300,
]
# Kernels for more rows add up in another order.
CLOSE = {"rtol": 1e-5, "atol": 5e-7}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embeddings.make_bundle(tmp_path_factory.mktemp("minilm"))


@pytest.fixture(scope="module")
def encoder(platform: Platform, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    other = {"pooling": "cls", "normalise": False, "maxTokens": 16, "truncate": True, "prefix": "query: ", "matryoshka": True}
    platform.deploy("minilm", bundle)
    platform.deploy("other", embeddings.make_bundle(tmp_path_factory.mktemp("other"), other))
    platform.deploy("bare", cases.packaged(embeddings.MODEL)())
    yield platform


@pytest.fixture(scope="module")
def client(encoder: Platform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{encoder.url}/v1", api_key=encoder.key(), max_retries=0) as client:
        yield client


def post(platform: Platform, body: object, **headers: str) -> requests.Response:
    return requests.post(f"{platform.url}/v1/embeddings", json=body, headers=platform.headers | headers, timeout=60)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_one_text_is_what_onnxruntime_makes_of_it(client: openai.OpenAI, text: str) -> None:
    answer = client.embeddings.create(model="minilm", input=text)
    assert (answer.object, answer.model, answer.data[0].object) == ("list", "minilm", "embedding")
    found = np.array(answer.data[0].embedding, np.float32)
    np.testing.assert_allclose(found, embeddings.vector(text), rtol=1e-5, atol=1e-7)
    assert abs(np.linalg.norm(found) - 1) < 1e-6
    count = len(embeddings.tokens(text))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (count, count)


def test_a_batch_is_what_its_texts_are_alone(client: openai.OpenAI) -> None:
    texts = [*TEXTS, *TEXTS[:3], *(f"sentence number {number} of many" for number in range(40))]
    answer = client.embeddings.create(model="minilm", input=texts)
    assert [one.index for one in answer.data] == list(range(len(texts)))
    assert answer.usage.total_tokens == sum(len(embeddings.tokens(text)) for text in texts)
    for text, one in zip(texts, answer.data, strict=True):
        np.testing.assert_allclose(one.embedding, embeddings.vector(text), **CLOSE, err_msg=text)


def test_numbers_and_base64_are_the_same(client: openai.OpenAI, encoder: Platform) -> None:
    texts = TEXTS[:3]
    numbers = client.embeddings.create(model="minilm", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="minilm", input=texts)
    raw = post(encoder, {"model": "minilm", "input": texts, "encoding_format": "base64"}).json()
    for number, pack, one in zip(numbers.data, packed.data, raw["data"], strict=True):
        sent = np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
        np.testing.assert_allclose(np.array(number.embedding, np.float32), sent, **CLOSE)
        np.testing.assert_allclose(np.array(pack.embedding, np.float32), sent, **CLOSE)


def test_meaning(client: openai.OpenAI) -> None:
    food, bread, baby = (np.array(one.embedding) for one in client.embeddings.create(model="minilm", input=TEXTS[:3]).data)
    assert food @ bread > 0.7 > 0.2 > food @ baby


def test_tokens_are_the_models_own(client: openai.OpenAI) -> None:
    one, other = (embeddings.tokens(text) for text in TEXTS[:2])
    single = client.embeddings.create(model="minilm", input=one)
    np.testing.assert_allclose(single.data[0].embedding, embeddings.vector(TEXTS[0]), **CLOSE)
    both = client.embeddings.create(model="minilm", input=[one, other])
    np.testing.assert_allclose(both.data[1].embedding, embeddings.vector(TEXTS[1]), **CLOSE)
    assert both.usage.prompt_tokens == len(one) + len(other)


def test_many_clients_at_once_get_their_own_answers(client: openai.OpenAI) -> None:
    def ask(number: int) -> tuple[int, list[float]]:
        text = TEXTS[number % len(TEXTS)]
        return number, client.embeddings.create(model="minilm", input=[text]).data[0].embedding

    wanted = [embeddings.vector(text) for text in TEXTS]
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        for number, found in threads.map(ask, range(96)):
            np.testing.assert_allclose(found, wanted[number % len(TEXTS)], **CLOSE)


def test_the_client_that_does_not_block(encoder: Platform) -> None:
    async def ask() -> list:
        async with openai.AsyncOpenAI(base_url=f"{encoder.url}/v1", api_key=encoder.key()) as client:
            asking = [client.embeddings.create(model="minilm", input=text) for text in TEXTS[:3]]
            return await asyncio.gather(*asking)

    for text, answer in zip(TEXTS, asyncio.run(ask()), strict=False):
        np.testing.assert_allclose(answer.data[0].embedding, embeddings.vector(text), **CLOSE)


def test_a_bundle_says_how_its_vectors_are_made(client: openai.OpenAI) -> None:
    text = "the quick brown fox jumps over the lazy dog and comes back again and again"
    answer = client.embeddings.create(model="other", input=text)
    made = embeddings.tokeniser()
    made.enable_truncation(16)
    ids = made.encode(f"query: {text}").ids
    assert len(ids) == 16 == answer.usage.prompt_tokens
    whole = embeddings.hidden(ids)[0]
    np.testing.assert_allclose(answer.data[0].embedding, whole, rtol=1e-5, atol=1e-6)
    short = client.embeddings.create(model="other", input=text, dimensions=64)
    np.testing.assert_allclose(short.data[0].embedding, whole[:64], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        ({"input": ""}, "input", "input 0 is empty"),
        ({"input": ["a", ""]}, "input", "input 1 is empty"),
        ({"input": []}, "input", "nothing in it"),
        ({"input": ["a"] * 2049}, "input", "more than 2048 inputs"),
        ({"input": "word " * 300}, "input", "302 tokens, more than the 256 tokens"),
        ({"input": ["a", "x" * 70_000]}, "input", "input 1: the text has 70000 bytes"),
        ({"input": [40_000]}, "input", "no token of the model"),
        ({"input": "a", "dimensions": 64}, "dimensions", "384 dimensions"),
        ({"input": "a", "model": "bare"}, "model", "makes no embeddings"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:20],
)
def test_what_cannot_be_embedded(client: openai.OpenAI, asked: dict, param: str, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(**{"model": "minilm", **asked})
    error = refused.value
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert words in error.message


def test_keys_and_names(encoder: Platform) -> None:
    def ask(key: str, model: str) -> None:
        openai.OpenAI(base_url=f"{encoder.url}/v1", api_key=key, max_retries=0).embeddings.create(model=model, input="a")

    with pytest.raises(openai.AuthenticationError) as refused:
        ask("sk-no-key-of-berth", "minilm")
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as refused:
        ask(encoder.key(), "nothing")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    reader = encoder.new_key("reader", ["metadata:minilm", "infer:other"])
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ask(reader, "minilm")
    assert refused.value.code == "permission_denied"
    ask(reader, "other")


def test_bodies_that_name_no_model(encoder: Platform) -> None:
    for body in ("", "{", "[]", '{"input":"a"}', '{"model":"minilm","model":"other","input":"a"}'):
        headers = encoder.headers | {"content-type": "application/json"}
        answer = requests.post(f"{encoder.url}/v1/embeddings", data=body, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), body
    answer = post(encoder, {"model": "minilm", "input": "x" * (8 * 1024 * 1024)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    answer = post(encoder, {"model": "minilm", "input": "a"}, **{"x-berth-timeout-ms": "0"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_a_large_body_is_answered(encoder: Platform) -> None:
    """Over the megabyte up to which other bodies are held; `model` comes last, as OpenAI's client writes it."""
    answer = post(encoder, {"input": ["blank" + " " * 60_000] * 20, "model": "minilm"})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 20


def test_models_are_listed_for_both_kinds_of_client(client: openai.OpenAI, encoder: Platform) -> None:
    assert {model.id for model in client.models.list()} == {"minilm", "other", "bare"}
    answer = requests.get(f"{encoder.url}/v1/models", headers=encoder.headers, timeout=30).json()
    assert answer["models"] == ["bare", "minilm", "other"]


def test_the_contract(encoder: Platform) -> None:
    document = requests.get(f"{encoder.url}/openapi.json", headers=encoder.headers, timeout=30).json()
    operation = document["paths"]["/v1/embeddings"]["post"]

    def wrong(content: dict, value: object) -> str | None:
        return schema.wrong(document, content["application/json"]["schema"], value)

    for asked in ({"input": "a"}, {"input": ["a", "b"]}, {"input": [1, 2]}, {"input": [[1], [2]], "encoding_format": "base64"}):
        body = {"model": "minilm", **asked}
        assert wrong(operation["requestBody"]["content"], body) is None
        assert wrong(operation["responses"]["200"]["content"], post(encoder, body).json()) is None
    refused = post(encoder, {"model": "minilm", "input": ""})
    assert wrong(operation["responses"]["400"]["content"], refused.json()) is None


def test_each_input_counts_and_equal_lengths_run_together(client: openai.OpenAI, encoder: Platform) -> None:
    def counted() -> int:
        text = requests.get(f"{encoder.url}/metrics", headers=encoder.headers, timeout=30).text
        found = re.search(r'^nv_inference_request_success\{[^}]*model="minilm"[^}]*\} (\d+)$', text, re.MULTILINE)
        return int(found[1])

    before = counted()
    client.embeddings.create(model="minilm", input=["a", "b"])
    assert counted() == before + 2
    conditions = {condition["type"]: condition for condition in encoder.service("minilm")["status"]["conditions"]}
    assert (conditions["Batched"]["status"], conditions["Batched"]["reason"]) == ("True", "SameAnswers")


def test_wrong_bundles_are_refused(encoder: Platform, tmp_path: Path) -> None:
    def refused(settings: dict | None, change: dict[str, str]) -> str:
        bundle = embeddings.make_bundle(tmp_path / str(len(list(tmp_path.iterdir()))), settings)
        for name, text in change.items():
            (bundle / name).write_text(text)
        done = encoder.berth("deploy", "wrong", bundle, check=False)
        assert done.returncode != 0
        return done.stdout + done.stderr

    assert "`embeddings.json`" in refused({"pooling": "sum"}, {})
    assert "is not a tokeniser" in refused(None, {"tokenizer.json": "[]"})
    assert "config.json" in refused(None, {"config.json": "{}"})


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language} embeddings-test\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_lines_of_the_guide_work(fresh: Platform, tmp_path: Path) -> None:
    embeddings.make_bundle(tmp_path / "minilm")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "berth").symlink_to(executable())
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    fresh.start()
    env = {**fresh.env, "PATH": f"{tmp_path / 'bin'}:{fresh.env['PATH']}"}
    scripts = [("bash", "-eu", "-o", "pipefail", "-c", block) for block in blocks("sh")]
    scripts += [(sys.executable, "-c", block) for block in blocks("python")]
    assert len(scripts) >= 3
    for *command, block in scripts:
        if (key := tmp_path / "key").exists():
            env["BERTH_KEY"] = key.read_text().strip()
        line = [*command, block.replace("127.0.0.1:8080", fresh.address)]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
