"""kvass serve with clients that were written for other servers: langchain-openai, schemathesis and lm-eval. Each one's tests
are skipped where its package is not installed. openai_test.py has those of `openai`.

    KVASS_PROGRAM=build/release/kvass KVASS_MODEL=model.gguf pytest tests/serve/clients_test.py

KVASS_MAX_EXAMPLES is how many requests schemathesis makes for each endpoint and kind.
"""
import asyncio
import json
import os

import pytest
from kvass_server import MODEL, model, run_alone, run_json, turn

# langchain-openai


@pytest.fixture
def langchain(server):
    package = pytest.importorskip("langchain_openai", reason="the package langchain-openai is not installed")
    return package.ChatOpenAI(base_url=server.url + "/v1", api_key="none", model=MODEL, temperature=0, max_tokens=12,
                              max_retries=0)


def test_langchain_invokes(langchain):
    answer = langchain.invoke("Name a colour.")
    assert answer.content == run_alone(turn("Name a colour."), "-n", 12)["text"]
    assert answer.usage_metadata["output_tokens"] == 12
    assert answer.response_metadata["finish_reason"] == "length"
    assert langchain.invoke([("system", "Be brief."), ("human", "Name a colour.")]).content
    assert asyncio.run(langchain.ainvoke("Name a colour.")).content == answer.content


def test_langchain_streams(langchain):
    chunks = list(langchain.stream("Name a colour.", stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == langchain.invoke("Name a colour.").content
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == 12


def test_langchain_batches(langchain):
    questions = [f"Count from {i}." for i in range(6)]
    assert [one.content for one in langchain.batch(questions)] == [langchain.invoke(one).content for one in questions]


def test_langchain_stops_and_has_logprobs(langchain):
    whole = langchain.invoke("Name a colour.").content
    assert langchain.bind(stop=[whole[3:6]]).invoke("Name a colour.").content == whole[:whole.index(whole[3:6])]
    answer = langchain.bind(logprobs=True, top_logprobs=2).invoke("Name a colour.")
    assert len(answer.response_metadata["logprobs"]["content"]) == 12


def test_langchain_completes_and_responds(langchain, server):
    import langchain_openai
    completes = langchain_openai.OpenAI(base_url=server.url + "/v1", api_key="none", model=MODEL, temperature=0, max_tokens=10)
    assert completes.invoke("The sea") == run_alone("The sea", "-n", 10)["text"]
    assert "".join(completes.stream("The sea")) == completes.invoke("The sea")
    responds = langchain_openai.ChatOpenAI(base_url=server.url + "/v1", api_key="none", model=MODEL, temperature=0, max_tokens=12,
                                           use_responses_api=True)
    assert responds.invoke("Name a colour.").text == langchain.invoke("Name a colour.").content


# schemathesis


def shorten(operation, case):
    """A request as it was generated, but for texts that would take long, and half of the names, which are of what is there."""
    if "/sessions/{id}" in operation.path and case.path_parameters and len(str(case.path_parameters["id"])) % 2 == 0:
        case.path_parameters["id"] = "there"
    body = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("model"), str) and len(body["model"]) % 2 == 0:
        body["model"] = MODEL
    if operation.path.endswith(("/completions", "/messages")):
        name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    elif operation.path == "/v1/responses":
        name = "max_output_tokens"
    else:
        return
    if body.get(name) is None or isinstance(body[name], int) and body[name] > 3:
        body[name] = 3
    if isinstance(body.get("n"), int) and 2 < body["n"] <= 16:
        body["n"] = 2


def test_schemathesis_finds_no_server_error(server):
    schemathesis = pytest.importorskip("schemathesis", reason="the package schemathesis is not installed")
    import hypothesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    wanted = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
              checks.response_schema_conformance]
    settings = hypothesis.settings(
        max_examples=int(os.environ.get("KVASS_MAX_EXAMPLES", 10)), deadline=None, database=None, derandomize=True,
        print_blob=False, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck))

    def send(operation, mode):
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @settings
        def one(case):
            shorten(operation, case)
            case.call_and_validate(base_url=server.url, checks=wanted, timeout=120)
        one()

    def only_the_session_that_is_there():
        for session in server.client.get("/v1/sessions")["data"]:
            server.client("DELETE", f"/v1/sessions/{session['id']}")
        server.client.post("/v1/sessions", {"id": "there"})

    operations = [one.ok() for one in schemathesis.openapi.from_url(server.url + "/openapi.json").get_all_operations()]
    assert len(operations) > 10
    failures = []
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            only_the_session_that_is_there()
            try:
                send(operation, mode)
            except hypothesis.errors.Unsatisfiable:
                pass  # nothing of this operation can be wrong
            except Exception as error:  # pylint: disable=broad-except
                failures.append(f"{operation.label} ({mode.value}): {error}")
            assert server.alive(), server.log()
    assert not failures, "\n\n".join(failures)


# lm-eval

QUESTIONS = [
    ("The capital of France is", [" Paris", " London", " a banana"], 0),
    ("Two and two make", [" four", " seventeen", " a triangle"], 0),
    ("Grass is usually", [" purple", " green", " made of glass"], 1),
    ("Fish live in", [" trees", " books", " water"], 2),
    ("À Noël, les enfants reçoivent des", [" cadeaux", " impôts"], 0),
]


class ServersTokenizer:
    """What lm-eval asks of a tokenizer, from the server's own endpoints."""

    eos_token, bos_token, pad_token = "<eos>", "<bos>", "<pad>"

    def __init__(self, client):
        self.client = client
        self.eos_token_id = self.eot_token = self.encode(self.eos_token)[0]

    def encode(self, text):
        return self.client.post("/tokenize", {"content": text, "add_special": False})["tokens"]

    def batch_decode(self, lists):
        return [self.client.post("/detokenize", {"tokens": ids})["content"] for ids in lists]


@pytest.fixture
def lm(server, tmp_path, monkeypatch):
    # Read when the packages are imported.
    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1"), ("HF_HOME", str(tmp_path / "hf")),
                        ("HF_DATASETS_CACHE", str(tmp_path / "datasets")), ("TOKENIZERS_PARALLELISM", "false")):
        monkeypatch.setenv(name, value)
    pytest.importorskip("lm_eval", reason="the package lm-eval is not installed")
    pytest.importorskip("tenacity", reason="the extra lm-eval[api] is not installed")
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    one = LocalCompletionsAPI(base_url=server.url + "/v1/completions", model=MODEL, tokenizer_backend=None, max_length=512,
                              max_retries=1, batch_size=2)
    one.tokenizer, one.tokenizer_backend, one.tokenized_requests = ServersTokenizer(server.client), "remote", True
    return one


def write_task(folder, name, output_type, rest):
    (folder / f"{name}.yaml").write_text(f"""
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{folder / "questions.jsonl"}"}}
test_split: test
output_type: {output_type}
doc_to_text: "{{{{question}}}}"
metadata: {{version: 1}}
{rest}""", encoding="utf-8")


def task_folder(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    with open(folder / "questions.jsonl", "w", encoding="utf-8") as file:
        for question, choices, answer in QUESTIONS:
            file.write(json.dumps({"question": question, "choices": choices, "answer": answer}) + "\n")
    write_task(folder, "kvass_questions", "multiple_choice", """
doc_to_choice: "{{choices}}"
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
  - metric: acc_norm
""")
    write_task(folder, "kvass_goes_on", "generate_until", """
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 8, do_sample: false}
metric_list:
  - metric: exact_match
""")
    return folder


def test_lm_eval_measures_what_score_measures(lm, server, tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager
    folder = task_folder(tmp_path)
    found = lm_eval.simple_evaluate(model=lm, tasks=["kvass_questions", "kvass_goes_on"], bootstrap_iters=0,
                                    task_manager=TaskManager(include_path=str(folder), include_defaults=False))
    samples = found["samples"]["kvass_questions"]
    assert len(samples) == len(QUESTIONS)
    right = 0
    for sample in samples:
        question, choices, answer = QUESTIONS[sample["doc_id"]]
        expected = []
        for choice in choices:
            ids = lm.tokenizer.encode(question + choice)
            path = tmp_path / "ids.json"
            path.write_text(json.dumps(ids), encoding="utf-8")
            buckets = run_json("score", model(), "--ids", "-f", path, "--bucket", 1, "--context", 1024)[0]["buckets"]
            expected.append(-sum(one["nll"] for one in buckets[len(lm.tokenizer.encode(question)) - 1:]))
        assert [float(one[0]) for one in sample["filtered_resps"]] == pytest.approx(expected, rel=1e-9)
        right += expected.index(max(expected)) == answer
    assert found["results"]["kvass_questions"]["acc,none"] == pytest.approx(right / len(QUESTIONS))
    for sample in found["samples"]["kvass_goes_on"]:
        question = QUESTIONS[sample["doc_id"]][0]
        ids = server.client.post("/v1/completions", {"prompt": lm.tokenizer.encode(question), "max_tokens": 8, "temperature": 0,
                                                     "stop": ["\n", ".", "<eos>"]})
        assert sample["resps"][0][0] == ids["choices"][0]["text"]
