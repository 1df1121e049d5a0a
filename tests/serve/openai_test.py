"""kvass serve with the client `openai`: what it prints is taken as it takes it. Its types are checked, and its texts are
compared with `kvass run`. Skipped where the package is not installed.

    KVASS_PROGRAM=build/release/kvass KVASS_MODEL=model.gguf pytest tests/serve/openai_test.py

KVASS_SPEECH_MODEL adds recordings (conftest.py says which).
"""
import asyncio
import json
import threading
import time

import pytest
from kvass_server import GREEDY, MODEL, model, run_alone, run_json, turn


@pytest.fixture(scope="module")
def openai():
    return pytest.importorskip("openai", reason="the package openai is not installed")


@pytest.fixture
def client(openai, server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120) as one:
        yield one


@pytest.fixture
def speech(server, client):
    if server.speech is None:
        pytest.skip("set KVASS_SPEECH_MODEL to a model that transcribes")
    return client.audio


def chat(client, text="Name a colour.", **options):
    return client.chat.completions.create(messages=[{"role": "user", "content": text}],
                                          **{**GREEDY, "max_tokens": 12, **options})


def test_models(openai, client):
    ids = [one.id for one in client.models.list()]
    assert MODEL in ids
    assert client.models.retrieve(MODEL).owned_by == "kvass"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_chat_is_what_run_writes(client):
    answer = chat(client)
    alone = run_alone(turn("Name a colour."), "-n", 12)
    assert answer.choices[0].message.content == alone["text"]
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == len(alone["prompt_ids"])
    assert answer.usage.completion_tokens == len(alone["ids"]) == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.model == MODEL
    assert answer.system_fingerprint == chat(client, "Another.").system_fingerprint


def test_a_seed_repeats_a_sampled_chat(client):
    options = {"temperature": 1.0, "top_p": 0.95, "seed": 7, "max_tokens": 24}
    first = chat(client, **options).choices[0].message.content
    assert first == chat(client, **options).choices[0].message.content
    assert first != chat(client, **{**options, "seed": 8}).choices[0].message.content
    assert first == run_alone(turn("Name a colour."), "-n", 24, "--temp", 1, "--top-p", 0.95, "--seed", 7)["text"]


def test_choices_have_the_seeds_that_follow(client):
    options = {"temperature": 1.0, "max_tokens": 8}
    answer = chat(client, n=3, seed=20, **options)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert choice.message.content == chat(client, seed=20 + choice.index, **options).choices[0].message.content
    assert answer.usage.completion_tokens == 24


def test_a_second_chat_goes_on_from_the_prefix_of_the_first(client):
    system = {"role": "system", "content": "You keep a lighthouse, and you answer in few words. " * 8}
    texts = []
    for question in ("Who are you?", "Where are you?", "Who are you?"):
        answer = client.chat.completions.create(
            messages=[system, {"role": "user", "content": question}], max_tokens=8, **GREEDY)
        texts.append((answer.choices[0].message.content, answer.usage.prompt_tokens_details.cached_tokens))
    assert texts[1][1] > 60 and texts[2][1] > 60
    assert texts[2][0] == texts[0][0]


def test_chat_streams_with_usage(client):
    whole = chat(client, max_tokens=16)
    text, finish, usage, roles = "", [], None, []
    for chunk in chat(client, max_tokens=16, stream=True, stream_options={"include_usage": True}):
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish += [choice.finish_reason] if choice.finish_reason else []
            roles += [choice.delta.role] if choice.delta.role else []
    assert text == whole.choices[0].message.content
    assert finish == ["length"] and roles == ["assistant"]
    assert usage.completion_tokens == 16 and usage.prompt_tokens == whole.usage.prompt_tokens


def test_several_choices_stream_beside_one_another(client):
    options = {"temperature": 1.0, "seed": 5, "max_tokens": 8, "n": 3}
    texts = ["", "", ""]
    for chunk in chat(client, stream=True, **options):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in chat(client, **options).choices]


def test_the_stream_helper_of_chats(client):
    whole = chat(client, max_tokens=24).choices[0].message.content
    stop = whole[8:11]  # the helper takes an answer that a limit cuts for an error
    with client.chat.completions.stream(messages=[{"role": "user", "content": "Name a colour."}], max_tokens=24, stop=[stop],
                                        **GREEDY) as stream:
        events = [event.type for event in stream]
        answer = stream.get_final_completion()
    assert "content.delta" in events and "content.done" in events
    assert answer.choices[0].message.content == whole[:whole.index(stop)]


def test_chat_logprobs(client):
    answer = chat(client, logprobs=True, top_logprobs=3, max_tokens=6)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == 6
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == answer.choices[0].message.content
    for token in tokens:
        assert len(token.top_logprobs) == 3
        values = [other.logprob for other in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert token.logprob == values[0] <= 0  # greedy
    streamed = []
    for chunk in chat(client, logprobs=True, top_logprobs=3, max_tokens=6, stream=True):
        for choice in chunk.choices:
            streamed += choice.logprobs.content if choice.logprobs else []
    assert streamed == tokens


def test_chat_stops(client):
    whole = chat(client, max_tokens=24).choices[0].message.content
    stop = whole[len(whole) // 2:len(whole) // 2 + 3]
    answer = chat(client, max_tokens=24, stop=[stop, "never said"])
    assert answer.choices[0].message.content == whole[:whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert chat(client, max_tokens=24, stop=stop).choices[0].message.content == whole[:whole.index(stop)]


def test_logit_bias_bans_a_token(client):
    alone = run_alone(turn("Name a colour."), "-n", 1)
    biased = chat(client, max_tokens=1, logit_bias={str(alone["ids"][0]): -100})
    assert biased.choices[0].message.content != alone["text"]


def test_messages_may_have_parts_and_a_developer(client):
    parts = client.chat.completions.create(
        messages=[{"role": "developer", "content": "Be brief."},
                  {"role": "user", "content": [{"type": "text", "text": "Name a colour."}]}], max_completion_tokens=8, **GREEDY)
    plain = client.chat.completions.create(
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}],
        max_completion_tokens=8, **GREEDY)
    assert parts.choices[0].message.content == plain.choices[0].message.content


def test_what_would_change_an_answer_is_refused_by_its_name(openai, client):
    for options, name in [({"extra_body": {"mirostat": 2}}, "mirostat"), ({"presence_penalty": 3}, "presence_penalty"),
                          ({"n": 1000}, "n"), ({"temperature": -1}, "temperature"), ({"top_logprobs": 3}, "top_logprobs"),
                          ({"response_format": {"type": "json_object"}}, "response_format.type"),
                          ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
                          ({"extra_body": {"messages": [{"role": "user", "content": "a", "mood": 1}]}}, "messages[0].mood")]:
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, **options)
        assert caught.value.param == name, caught.value
        assert name in caught.value.message


def test_null_is_as_if_a_parameter_were_not_there(client):
    names = ("best_of", "echo", "ignore_eos", "logit_bias", "logprobs", "min_p", "n", "presence_penalty", "repeat_penalty",
             "repetition_penalty", "seed", "stop", "stream", "stream_options", "suffix", "top_k", "top_p", "user")
    answer = client.completions.create(prompt="The sea", max_tokens=2, **GREEDY, extra_body=dict.fromkeys(names))
    assert answer.choices[0].logprobs is None
    names = ("max_tokens", "logprobs", "top_logprobs", "tools", "tool_choice", "response_format", "n", "stop", "logit_bias",
             "chat_template_kwargs", "add_generation_prompt", "modalities", "reasoning_effort", "metadata")
    assert chat(client, max_tokens=None, max_completion_tokens=2, extra_body=dict.fromkeys(names)).choices[0].message.content


def test_errors_are_those_of_openai(openai, client, server, locked):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, model="another")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, "word " * 3000)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="text")
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.001))
    wrong = openai.OpenAI(base_url=locked.url + "/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()
    for key in locked.keys:
        assert openai.OpenAI(base_url=locked.url + "/v1", api_key=key).models.list().data
    away = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        away.models.list()
    assert server.client.get("/health")["status"] == "ready"


def test_a_full_queue_is_a_rate_limit_with_a_time(openai, locked):
    client = openai.OpenAI(base_url=locked.url + "/v1", api_key=locked.keys[0], max_retries=0, timeout=120)
    refused = []

    def ask():
        try:
            client.completions.create(model=client.models.list().data[0].id, prompt="a", max_tokens=60,
                                      extra_body={"ignore_eos": True})
        except openai.RateLimitError as error:
            refused.append(int(error.response.headers["retry-after"]))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 5 <= len(refused) <= 7 and min(refused) >= 1


def test_completions(client):
    alone = run_alone("The sea", "-n", 10)
    answer = client.completions.create(prompt="The sea", max_tokens=10, **GREEDY)
    assert answer.choices[0].text == alone["text"]
    assert client.completions.create(prompt=alone["prompt_ids"], max_tokens=10, **GREEDY).choices[0].text == alone["text"]
    assert client.completions.create(prompt=[alone["prompt_ids"]], max_tokens=10, **GREEDY).choices[0].text == alone["text"]
    several = client.completions.create(prompt=["The sea", "A river", ""], max_tokens=5, n=2, **GREEDY)
    assert [choice.index for choice in several.choices] == list(range(6))
    assert several.choices[0].text == several.choices[1].text
    assert several.choices[2].text == run_alone("A river", "-n", 5)["text"]
    text = "".join(chunk.choices[0].text for chunk in
                   client.completions.create(prompt="The sea", max_tokens=10, stream=True, **GREEDY))
    assert text == alone["text"]


def test_completions_echo_what_score_measures(client, tmp_path):
    ids = run_alone("The sea is calm, the sun is warm.", "-n", 0)["prompt_ids"]
    path = tmp_path / "ids.json"
    path.write_text(json.dumps(ids), encoding="utf-8")
    score = run_json("score", model(), "--ids", "-f", path, "--bucket", 1, "--context", 1024)[0]
    for tokens in (0, 1):
        answer = client.completions.create(prompt=ids, max_tokens=tokens, echo=True, logprobs=2, **GREEDY)
        found = answer.choices[0].logprobs
        assert len(found.tokens) == len(ids) + tokens
        assert "".join(found.tokens) == answer.choices[0].text
        assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
        for i in range(1, len(ids)):
            assert found.token_logprobs[i] == pytest.approx(-score["buckets"][i - 1]["nll"], rel=1e-9, abs=1e-12)
            assert found.top_logprobs[i][found.tokens[i]] == found.token_logprobs[i]
        for token, offset in zip(found.tokens, found.text_offset):
            assert answer.choices[0].text.encode()[offset:].decode().startswith(token)
        assert answer.usage.completion_tokens == tokens
    # Of a text the token that begins it is scored from, but is not in the text.
    answer = client.completions.create(prompt="The sea is calm, the sun is warm.", max_tokens=0, echo=True, logprobs=0, **GREEDY)
    assert answer.choices[0].text == "The sea is calm, the sun is warm."
    assert answer.choices[0].logprobs.token_logprobs[1:] == found.token_logprobs[1:len(ids)]


def test_responses_go_on_from_one_another(openai, client):
    first = client.responses.create(model=MODEL, input="Name a colour.", temperature=0, max_output_tokens=12)
    assert first.output_text == chat(client).choices[0].message.content
    assert first.status == "incomplete" and first.incomplete_details.reason == "max_output_tokens"
    assert first.usage.output_tokens == 12
    second = client.responses.create(model=MODEL, input="And another.", previous_response_id=first.id, temperature=0,
                                     max_output_tokens=12, metadata={"who": "tests"})
    whole = client.chat.completions.create(
        messages=[{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": first.output_text},
                  {"role": "user", "content": "And another."}], max_tokens=12, **GREEDY)
    assert second.output_text == whole.choices[0].message.content
    assert second.previous_response_id == first.id and second.metadata == {"who": "tests"}
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=MODEL, input="Go on.", previous_response_id=first.id)
    # A response keeps its whole conversation.
    assert client.responses.create(model=MODEL, input="Go on.", previous_response_id=second.id, max_output_tokens=4,
                                   instructions="Be brief.").output_text
    unkept = client.responses.create(model=MODEL, input="Name a colour.", store=False, max_output_tokens=4)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_responses_stream(client):
    whole = client.responses.create(model=MODEL, input="Name a colour.", temperature=0, max_output_tokens=12)
    with client.responses.stream(model=MODEL, input="Name a colour.", temperature=0, max_output_tokens=12) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.incomplete"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text


def test_raw_answers_have_the_headers_of_prefixes(client):
    raw = client.chat.completions.with_raw_response.create(messages=[{"role": "user", "content": "Name a colour."}], max_tokens=2,
                                                           **GREEDY)
    assert "tokens" in raw.headers["x-kvass-prefix"]
    assert raw.parse().choices[0].message.content


def test_many_at_once_are_answered_as_one_after_the_other(openai, server, client):
    questions = [f"Count from {i}." for i in range(12)]
    expected = [chat(client, question, seed=3, temperature=0.8).choices[0].message.content for question in questions]

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", timeout=120) as one:
            async def ask(question):
                answer = await one.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": question}], seed=3, temperature=0.8, max_tokens=12)
                return answer.choices[0].message.content
            return await asyncio.gather(*map(ask, reversed(questions)))

    assert asyncio.run(ask_all()) == expected[::-1]


def test_a_stream_that_is_closed_ends_its_text(server, client):
    stream = client.completions.create(prompt="The sea", max_tokens=900, stream=True, extra_body={"ignore_eos": True}, **GREEDY)
    for _, _ in zip(range(3), stream):
        pass
    stream.close()
    for _ in range(100):
        _, _, text = server.client.raw("GET", "/metrics")
        if b"kvass_texts_running 0" in text:
            break
        time.sleep(0.1)
    assert b"kvass_texts_running 0" in text
    assert int(text.split(b"\nkvass_texts_cancelled_total ")[1].split()[0]) >= 1


def transcribe(speech, server, recording, **options):
    with open(recording[0], "rb") as file:
        return speech.transcriptions.create(model=server.speech, file=file, language="en", **options)


def test_transcriptions_in_every_format(speech, server, recording):
    answer = transcribe(speech, server, recording)
    for word in recording[1]:
        assert word.lower() in answer.text.lower()
    assert transcribe(speech, server, recording, response_format="text").rstrip("\n") == answer.text
    assert transcribe(speech, server, recording, response_format="vtt").startswith("WEBVTT\n")
    srt = transcribe(speech, server, recording, response_format="srt")
    assert not recording[1] or srt.startswith("1\n00:00:0")
    verbose = transcribe(speech, server, recording, response_format="verbose_json")
    assert verbose.text == answer.text and float(verbose.duration) > 1 and verbose.language in ("en", "english")
    assert "".join(segment.text for segment in verbose.segments).strip() == answer.text
    assert verbose.words is None
    for before, after in zip(verbose.segments, verbose.segments[1:]):
        assert before.start < before.end <= after.start + 0.1


def test_transcriptions_have_times_of_words(speech, server, recording):
    answer = transcribe(speech, server, recording, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert "".join(word.word for word in answer.words).replace(" ", "") == answer.text.replace(" ", "")
    assert answer.segments is not None
    for word in answer.words:
        assert 0 <= word.start <= word.end <= float(answer.duration) + 0.1
    words = transcribe(speech, server, recording, response_format="verbose_json", timestamp_granularities=["word"])
    assert words.words == answer.words and words.segments is None


def test_transcriptions_stream(speech, server, recording):
    whole = transcribe(speech, server, recording).text
    events = list(transcribe(speech, server, recording, stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text == whole
    assert "".join(event.delta for event in events[:-1]).strip() == whole


def test_translations(speech, server, recording):
    with open(recording[0], "rb") as file:
        assert isinstance(speech.translations.create(model=server.speech, file=file).text, str)


def test_recordings_are_refused_by_what_is_wrong(openai, speech, server, recording):
    for options in ({"response_format": "xml"}, {"temperature": 7}, {"extra_body": {"mood": "calm"}},
                    {"timestamp_granularities": ["word"]}, {"response_format": "srt", "stream": True}):
        with pytest.raises(openai.BadRequestError):
            transcribe(speech, server, recording, **options)
    with pytest.raises(openai.BadRequestError):
        speech.transcriptions.create(model=server.speech, file=("a.wav", b"not a recording"))
    with pytest.raises(openai.BadRequestError):
        speech.transcriptions.create(model=server.speech, file=("a.wav", b""))
