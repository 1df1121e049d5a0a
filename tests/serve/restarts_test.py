"""Many clients at a server that is killed and started again: every answer that came is the one that `kvass run` and
`kvass chat` give alone, byte for byte, and no turn of a session whose answer came is lost.

Clients send their requests in random order: prompts as text and as token ids, chats, sessions of several turns; greedy and
sampled; whole and as streams, some of which the client leaves in the middle. What was cut by a kill is sent again. The
sizes are KVASS_CLIENTS, KVASS_REQUESTS (of each client) and KVASS_KILLS; KVASS_LONG=1 makes them large. KVASS_SEED
repeats a run's requests; their timing is another every time.

    KVASS_PROGRAM=build/release/kvass KVASS_MODEL=model.gguf python3 tests/serve/restarts_test.py
"""
import collections
import concurrent.futures
import os
import pathlib
import random
import re
import sys
import tempfile
import threading
import time
import unittest

from kvass_server import TEMPLATE, Gone, HttpError, Server, missing, model, run_json

LONG = os.environ.get("KVASS_LONG", "0") not in ("", "0")
CLIENTS = int(os.environ.get("KVASS_CLIENTS", 32 if LONG else 4))
REQUESTS = int(os.environ.get("KVASS_REQUESTS", 20 if LONG else 5))
KILLS = int(os.environ.get("KVASS_KILLS", 10 if LONG else 2))
CONTEXT = 1024
PATIENCE = 1800.0 if LONG else 600.0  # seconds for all requests together

# Texts with beginnings in common, so that answers go on from one another's prefixes. The first one is longer than the windows
# of layers that have some; others begin as it does and part from it somewhere.
OPENINGS = [
    "".join(f"On day {i} the sea was calm. " for i in range(80)),
    "Once upon a time, in a small town by the sea, there lived a keeper of the light. " * 6,
    "A list of the rivers of Europe, from the longest to the shortest:\n",
    "",
]
ENDINGS = ["The keeper said", "The Rhine", "1 2 3 4", "Grüße aus Köln: ", "«Où est la mer ?» 海は", "def main():\n    ",
           "x"]
SYSTEMS = ["", "Be brief.", "You are the keeper of a lighthouse. " * 8]


class Lost(AssertionError):
    pass


def chat_text(messages):
    """What the template makes of a conversation, without the token that begins every text."""
    roles = {"assistant": "model"}
    return "".join(f"<start_of_turn>{roles.get(one['role'], one['role'])}\n{one['content']}<end_of_turn>\n"
                   for one in messages) + "<start_of_turn>model\n"


def make_request(draw, number):
    sampling = {"temperature": 0}
    if draw.random() < 0.6:
        sampling = {"temperature": draw.choice([0.7, 1.0, 1.4]), "top_p": draw.choice([0.9, 0.95, 1.0]),
                    "top_k": draw.choice([0, 40]), "seed": draw.randrange(1, 1 << 31)}
    kind = draw.choice(["text", "ids", "chat", "session"])
    request = {"kind": kind, "sampling": sampling, "tokens": draw.choice([1, 8, 24, 48]), "number": number, "leave": None,
               "stream": draw.random() < 0.5}
    if kind == "session":
        request["tokens"] = draw.choice([4, 12])
        request["system"] = draw.choice(SYSTEMS)
        request["turns"] = [draw.choice(ENDINGS).strip() + f" {i}" for i in range(draw.randint(2, 4))]
        # Before some turns the client begins one that it leaves.
        request["leave"] = {i for i in range(len(request["turns"])) if draw.random() < 0.25}
        request["reset"] = {i for i in range(len(request["turns"])) if draw.random() < 0.25}
    else:
        opening = draw.choice(OPENINGS)
        if draw.random() < 0.3:
            opening = opening[:draw.randrange(len(opening) + 1)]
        request["text"] = opening + draw.choice(ENDINGS)
        if request["stream"] and draw.random() < 0.25:
            request["leave"] = draw.randint(1, 6)  # after so many events
    return request


class Run:
    """The clients, the server that they share and what they were answered."""

    def __init__(self, server, seed):
        self.server = server
        self.seed = seed
        self.lock = threading.Lock()
        self.finished = 0
        self.changed = threading.Condition(self.lock)
        self.answers = []  # (request, what came)
        self.sessions = {}  # id: (turns, length) as the server has acknowledged
        self.counts = collections.Counter()
        self.errors = []
        self.deadline = time.monotonic() + PATIENCE
        self.ids = {}

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def tried(self, call):
        """(True, what a call gives); (False, None) where the server was away, busy or about to end."""
        try:
            return True, call(self.server.client)
        except Gone:
            self.count("cut")
        except HttpError as error:
            if error.status not in (429, 503):
                raise
            self.count(f"status {error.status}")
        time.sleep(0.05 + 0.1 * random.random())
        return False, None

    def again(self, call):
        """Calls until it is answered."""
        while True:
            if time.monotonic() > self.deadline or self.errors:
                raise TimeoutError("the requests took too long" if not self.errors else "another client failed")
            answered, answer = self.tried(call)
            if answered:
                return answer

    # A text.

    def body(self, request):
        body = dict(request["sampling"], max_tokens=request["tokens"])
        if request["kind"] == "chat":
            return "/v1/chat/completions", dict(body, messages=[{"role": "user", "content": request["text"]}])
        prompt = self.ids[request["text"]] if request["kind"] == "ids" else request["text"]
        return "/v1/completions", dict(body, prompt=prompt)

    def text(self, request):
        path, body = self.body(request)
        if not request["stream"]:
            answer = self.again(lambda client: client.post(path, body))
            choice = answer["choices"][0]
            usage = answer["usage"]
            return {"text": choice["text"] if "text" in choice else choice["message"]["content"],
                    "prompt_tokens": usage["prompt_tokens"], "cached": usage["prompt_tokens_details"]["cached_tokens"]}
        body = dict(body, stream=True, stream_options={"include_usage": True})

        def stream(client):
            text, usage, finish = "", None, None
            for i, event in enumerate(client.stream(path, body)):
                if request["leave"] is not None and i >= request["leave"]:
                    self.count("left")
                    return None
                if event == "[DONE]":
                    break
                if "error" in event:  # cut by a server that ends
                    raise Gone(str(event["error"]))
                usage = event["usage"] or usage
                for choice in event["choices"]:
                    text += choice["text"] if "text" in choice else choice["delta"].get("content") or ""
                    finish = choice["finish_reason"] or finish
            assert finish in ("stop", "length") and usage, (finish, usage)
            return {"text": text, "prompt_tokens": usage["prompt_tokens"],
                    "cached": usage["prompt_tokens_details"]["cached_tokens"]}

        return self.again(stream)

    # A session.

    def back(self, name, turns, length):
        """To the last turn whose answer came; it must be there, and as long as it was."""
        def rewind(client):
            try:
                return client.post(f"/v1/sessions/{name}/rewind", {"turns": turns})
            except HttpError as error:
                if error.status in (404, 409):
                    raise Lost(f"{name}: {turns} turns were acknowledged; {error}") from error
                raise
        now = self.again(rewind)
        if now["turns"] != turns or (length is not None and now["length"] != length):
            raise Lost(f"{name}: {turns} turns and {length} tokens were acknowledged, got {now}")

    def turn(self, name, content, request, leave):
        """The answer; None where it was cut or left."""
        path = f"/v1/sessions/{name}/messages"
        body = {"content": content, "max_tokens": request["tokens"]}

        def take(client):
            if not request["stream"] and not leave:
                answer = client.post(path, body)
                return answer["content"], answer["session"]
            text, state = "", None
            for i, event in enumerate(client.stream(path, dict(body, stream=True))):
                if leave and i >= 1:
                    self.count("left")
                    return None
                if event == "[DONE]":
                    break
                if "error" in event:
                    raise Gone(str(event["error"]))
                text += event["choices"][0]["delta"].get("content", "")
                state = event.get("session", state)
            assert state is not None
            return text, state

        return self.tried(take)[1]

    def session(self, request):
        name = f"s{request['number']}"
        create = dict(request["sampling"], id=name, system=request["system"])

        def made(client):
            try:
                return client.post("/v1/sessions", create)
            except HttpError as error:
                if error.status != 409:  # it was made, and the answer did not come
                    raise
                return client.get(f"/v1/sessions/{name}")

        layout = self.again(made)["layout"]
        turns, length, answers = 0, None, []
        with self.lock:
            self.sessions[name] = (turns, length)
        for i, content in enumerate(request["turns"]):
            if i in request["leave"]:
                self.turn(name, content, request, leave=True)
                self.back(name, turns, length)
            if i in request["reset"] and i > 0:  # a turn that is answered, and taken back
                self.turn(name, content, request, leave=False)
                self.back(name, turns, length)
            while True:
                answer = self.turn(name, content, request, leave=False)
                if answer is not None:
                    break
                if time.monotonic() > self.deadline or self.errors:
                    raise TimeoutError("the requests took too long" if not self.errors else "another client failed")
                self.back(name, turns, length)
            answers.append(answer[0])
            if answer[1]["turns"] != turns + 1:
                raise Lost(f"{name}: expected {turns + 1} turns after an answer, got {answer[1]}")
            if not answer[1]["saved"]:
                raise Lost(f"{name}: the turn is not saved: {answer[1]}")
            turns, length = answer[1]["turns"], answer[1]["length"]
            with self.lock:
                self.sessions[name] = (turns, length)
        return {"answers": answers, "layout": layout}

    # All of them.

    def client(self, requests):
        for request in requests:
            try:
                answer = self.session(request) if request["kind"] == "session" else self.text(request)
            except BaseException as error:  # pylint: disable=broad-except
                with self.lock:
                    self.errors.append((request, error))
                    self.changed.notify_all()
                return
            with self.lock:
                if answer is not None:
                    self.answers.append((request, answer))
                self.finished += 1
                self.changed.notify_all()

    def kill_at(self, marks, draw):
        """Kills and starts the server as soon as that many requests are finished, for each of the marks."""
        for mark in marks:
            with self.lock:
                while self.finished < mark and not self.errors:
                    if not self.changed.wait(timeout=max(0.0, self.deadline - time.monotonic())):
                        return
                if self.errors:
                    return
            time.sleep(draw.random() * 0.3)
            try:
                self.server.kill()
                time.sleep(draw.random() * 0.2)
                self.server.start()
            except BaseException as error:  # pylint: disable=broad-except
                with self.lock:
                    self.errors.append(({"kind": "start"}, error))
                return
            self.count("kill")

    def run(self):
        draw = random.Random(self.seed)
        requests = [make_request(draw, i) for i in range(CLIENTS * REQUESTS)]
        for text in {one["text"] for one in requests if one["kind"] == "ids"}:
            self.ids[text] = run_json("tokenize", model(), "--bos", "--special", stdin=text)[0]
        parts = [requests[i::CLIENTS] for i in range(CLIENTS)]
        marks = [max(1, len(requests) * (i + 1) // (KILLS + 2)) for i in range(KILLS)]
        threads = [threading.Thread(target=self.client, args=(part,)) for part in parts]
        threads.append(threading.Thread(target=self.kill_at, args=(marks, draw)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            request, error = self.errors[0]
            raise AssertionError(f"seed {self.seed}: {request}: {error!r}; server log: {self.server.log()[-2000:]}") from error


def sampling_flags(sampling):
    flags = ["--temp", sampling["temperature"]]
    for name, flag in (("top_p", "--top-p"), ("top_k", "--top-k"), ("seed", "--seed")):
        if name in sampling:
            flags += [flag, sampling[name]]
    return flags


def alone(request, answer, template):
    """What is not as the command line has it; None where everything is."""
    flags = sampling_flags(request["sampling"]) + ["-t", 1, "-n", request["tokens"], "-q"]
    if request["kind"] == "session":
        sinks, window = re.fullmatch(r"sinks (\d+) \+ window (\d+)", answer["layout"]).groups()
        lines = run_json("chat", model(), "--template-file", template, "--attention-sink", f"{sinks},{window}",
                         "--system", request["system"], *flags, stdin="\n".join(request["turns"]) + "\n")
        expected, got = [line["text"] for line in lines], answer["answers"]
    else:
        text = request["text"]
        if request["kind"] == "chat":
            text = chat_text([{"role": "user", "content": text}])
        line = run_json("run", model(), "-p", text, "--context", CONTEXT, *flags)[0]
        expected, got = (line["text"], len(line["prompt_ids"])), (answer["text"], answer["prompt_tokens"])
    return None if expected == got else f"{request}: expected {expected!r}, got {got!r} ({answer.get('cached')} cached)"


@unittest.skipIf(missing(), missing())
class Restarts(unittest.TestCase):
    def test_answers_are_the_same_and_nothing_acknowledged_is_lost(self):
        seed = int(os.environ.get("KVASS_SEED") or random.randrange(1 << 31))
        print(f"seed {seed}: {CLIENTS} clients, {REQUESTS} requests each, {KILLS} kills", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="kvass-state-") as folder:
            template = pathlib.Path(folder) / "template.jinja"
            template.write_text(TEMPLATE, encoding="utf-8")
            with Server("--context", CONTEXT, "--sequences", 4, "--sessions", 3, "--state", f"{folder}/state", "--queue", 512,
                        name="restarts") as server:
                run = Run(server, seed)
                begin = time.monotonic()
                run.run()
                took = time.monotonic() - begin
                self.assertEqual(run.counts["kill"], KILLS)

                # Once more, so that all sessions have to come from the disk.
                server.kill()
                server.start()
                listed = {one["id"] for one in server.client.get("/v1/sessions")["data"]}
                self.assertEqual(listed, set(run.sessions))
                for name, (turns, length) in run.sessions.items():
                    now = server.client.get(f"/v1/sessions/{name}")
                    self.assertEqual((now["turns"], now["length"]), (turns, length), f"seed {seed}: {name}")
                self.assertEqual(server.stop(), 0, server.log())

            with concurrent.futures.ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
                wrong = [one for one in pool.map(lambda pair: alone(*pair, template), run.answers) if one]
            cached = sum(answer.get("cached", 0) > 8 for _, answer in run.answers)
            print(f"{len(run.answers)} answers in {took:.0f} s, {len(run.sessions)} of them sessions, {cached} went on from a "
                  f"prefix; {dict(run.counts)}", file=sys.stderr)
            self.assertEqual(wrong, [], f"seed {seed}")


if __name__ == "__main__":
    unittest.main()
