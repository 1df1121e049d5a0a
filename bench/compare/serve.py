#!/usr/bin/env python3
"""kvass serve beside llama-server under load, by turns: one file, as many threads, as many parallel sequences.

The client is one process with one thread. Prompts are read from a text and differ from their first words on, so that no
server has seen one before; texts are greedy and go on after an end token, so that all are equally long. Each program is
started anew in every round and for every part, and answers one request before the clock starts.

streams: N clients at a time. Tokens/s are all tokens that came over the time from the first request to the last token. The
    time to the first token is from the request; the time between tokens is between events that bring text.
gap: a client decodes while another sends a long prompt. The longest time between two tokens of the first, while the second
    waits for its token.
chat: a conversation of turns over /v1/chat/completions, longer than the windows of the model's layers. What its last turn
    evaluates: the prompt's tokens without cached ones (kvass), timings.prompt_n (llama-server); `own` are the tokens that the
    turn has added to the conversation. The last token of the answer before was chosen and not yet run: it is one more.
resume: kvass alone. Many sessions on disk, each with a turn. The time to the first token of a further turn in one that has
    to come from the disk, and in the same one again when it is in memory.
"""
import argparse
import asyncio
import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

from turns import fail, median, number, print_table, ratio

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARTS = ("streams", "gap", "chat", "resume")
TEMPLATE = """{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else \
message['role'] }}
{{ message['content'] }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


def parse():
    parser = argparse.ArgumentParser(description="kvass serve beside llama-server, by turns.")
    add = parser.add_argument
    add("model", help="a GGUF file")
    add("--kvass", default=os.path.join(ROOT, "build", "release", "kvass"), help="%(default)s")
    add("--llama-server", help="without it kvass is measured alone; llama_cpp.sh --server prints where it has built one")
    add("--only", default=",".join(PARTS), help="parts, comma-separated: %(default)s")
    add("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads: %(default)s")
    add("-r", "--rounds", type=int, default=3, help="runs of each program, by turns: %(default)s")
    add("--streams", default="8,64", help="clients at a time, comma-separated: %(default)s")
    add("--prompt", type=int, default=64, help="words of a stream's prompt: %(default)s")
    add("--tokens", type=int, default=128, help="tokens of a stream: %(default)s")
    add("--target-ms", type=int, default=100, help="kvass's --target-ms: %(default)s")
    add("--long-prompt", type=int, default=4000, help="tokens of the prompt of the part gap: %(default)s")
    add("--turns", type=int, default=20, help="of the part chat: %(default)s")
    add("--sessions", type=int, default=1000, help="of the part resume: %(default)s")
    add("--text", help="prose for prompts: kvass's documentation")
    add("--kvass-args", default="", help='more flags for kvass, such as "--math a8"')
    add("--llama-args", default="", help="more flags for llama-server")
    add("--json", action="store_true", help="one JSON object with every run instead of tables")
    args = parser.parse_args()
    args.parts = args.only.split(",")
    unknown = sorted(set(args.parts) - set(PARTS))
    if unknown:
        parser.error(f"--only: expected some of {', '.join(PARTS)}, got {unknown[0]}")
    args.counts = [int(count) for count in args.streams.split(",")]
    return args


class Words:
    """Pieces of prose that begin differently, the same ones for every program."""

    def __init__(self, path):
        text = ""
        pages = [path] if path else [f"{ROOT}/README.md", f"{ROOT}/HACKING.md", *sorted(glob.glob(f"{ROOT}/docs/*.md"))]
        for page in pages:
            with open(page, encoding="utf-8") as file:
                text += file.read()
        self.words = re.findall(r"[A-Za-z][A-Za-z'-]*", text)
        if len(self.words) < 1000:
            fail("--text: expected at least 1,000 words")
        self.draw = random.Random(1)

    def piece(self, count):
        words = self.draw.choices(self.words, k=8)
        at = self.draw.randrange(len(self.words))
        return " ".join(words + (self.words[at:] + self.words * (count // len(self.words) + 1))[:count])


class Failed(Exception):
    pass


async def request(url, path, body, on_event=None):
    """The answer's JSON; of a stream its last event that is one, and on_event gets each with its time."""
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24)
    try:
        data = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: {parts.hostname}:{parts.port}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n")
        writer.write(head.encode() + data)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        fields = {}
        while (line := (await reader.readline()).strip()):
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        buffer, last = b"", None
        while True:
            if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
                size = int(await reader.readline(), 16)
                chunk = await reader.readexactly(size)
                await reader.readline()
            else:
                chunk = await reader.read(1 << 20)
            now = time.perf_counter()
            if not chunk:
                break
            buffer += chunk
            if on_event is None or status >= 300:
                continue
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    last = json.loads(line[6:])
                    on_event(now, last)
        if status >= 300:
            raise Failed(f"{path}: status {status}: {buffer[:300].decode(errors='replace')}")
        return last if on_event is not None else json.loads(buffer)
    finally:
        writer.close()


def has_text(event):
    for choice in event.get("choices", []):
        if choice.get("text") or (choice.get("delta") or {}).get("content"):
            return True
    return False


async def stream(url, path, body):
    """The times of the request and of its tokens, and the last event."""
    times = [time.perf_counter()]
    def on_event(now, event):
        if has_text(event):
            times.append(now)
    last = await request(url, path, dict(body, stream=True), on_event)
    if len(times) < 2:
        raise Failed(f"{path}: no token came")
    return times, last


def completion(prompt, tokens, **more):
    return {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **more}


def quantile(values, at):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(at * len(ordered)))] if ordered else None


class Server:
    """One of the programs, with `parallel` sequences of `context` tokens."""

    def __init__(self, args, name, parallel, context, folder, sessions=None):
        template = os.path.join(folder, "template.jinja")
        with open(template, "w", encoding="utf-8") as file:
            file.write(TEMPLATE)
        self.name = name
        self.log = open(os.path.join(folder, f"{name}.log"), "ab+")
        if name == "kvass":
            command = [args.kvass, "serve", args.model, "--port", "0", "--json", "-q", "-t", str(args.threads),
                       "--context", str(context), "--sequences", str(parallel),
                       "--prefixes", str(min(parallel, 8)), "--template-file", template,
                       "--target-ms", str(args.target_ms), *args.kvass_args.split()]
            command += ["--sessions", str(sessions[0]), "--state", sessions[1]] if sessions else ["--sessions", "0"]
        else:
            self.port = free_port()
            command = [args.llama_server, "-m", args.model, "--host", "127.0.0.1", "--port", str(self.port),
                       "-t", str(args.threads), "-np", str(parallel), "-c", str(parallel * context), "-fa", "on",
                       "--jinja", "--chat-template-file", template, "--no-webui", *args.llama_args.split()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE if name == "kvass" else self.log, stderr=self.log)
        if name == "kvass":
            line = self.process.stdout.readline()
            if not line:
                self.fail("it did not start")
            self.url = json.loads(line)["url"]
        else:
            self.url = f"http://127.0.0.1:{self.port}"
            for _ in range(600):
                if self.process.poll() is not None:
                    self.fail("it did not start")
                try:
                    asyncio.run(request(self.url, "/v1/completions", completion("The", 1)))
                    break
                except (OSError, Failed, asyncio.IncompleteReadError):
                    time.sleep(0.1)
        asyncio.run(request(self.url, "/v1/completions", completion("The sea", 4)))

    def fail(self, what):
        self.log.seek(0)
        last = self.log.read().decode(errors="replace").strip().splitlines()[-3:]
        fail(f"{self.name}: {what}: {' / '.join(last)}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def free_port():
    import socket
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# Each part: (what it needs of a server, what it measures) for one run of one program.


async def streams(server, prompts, tokens):
    found = await asyncio.gather(*(stream(server.url, "/v1/completions", completion(prompt, tokens)) for prompt in prompts))
    begin = min(times[0] for times, _ in found)
    end = max(times[-1] for times, _ in found)
    first = [times[1] - times[0] for times, _ in found]
    between = [b - a for times, _ in found for a, b in zip(times[1:], times[2:])]
    return {"tokens_per_s": tokens * len(prompts) / (end - begin),
            "first_p50": quantile(first, 0.5), "first_p95": quantile(first, 0.95),
            "between_p50": quantile(between, 0.5), "between_p95": quantile(between, 0.95), "between_most": max(between)}


async def gap(server, words, long_prompt):
    times, sent = [], []
    enough = asyncio.Event()

    def on_event(now, event):
        if has_text(event):
            times.append(now)
            if len(times) == 32:
                enough.set()

    body = dict(completion(words.piece(16), 4096), stream=True)
    decoding = asyncio.ensure_future(request(server.url, "/v1/completions", body, on_event))
    waits = asyncio.ensure_future(enough.wait())
    await asyncio.wait({decoding, waits}, return_when=asyncio.FIRST_COMPLETED)
    if not enough.is_set():
        raise Failed(f"gap: the decoding client ended early: {decoding.exception() if decoding.done() else None}")
    begin = time.perf_counter()
    answered, _ = await stream(server.url, "/v1/completions", completion(long_prompt, 1))
    sent.append(answered[1])
    await asyncio.sleep(1.0)
    decoding.cancel()
    try:
        await decoding
    except (asyncio.CancelledError, OSError):
        pass
    before = [b - a for a, b in zip(times, times[1:]) if b < begin]
    during = [b - a for a, b in zip(times, times[1:]) if b >= begin and a <= sent[0]]
    return {"before_p50": quantile(before, 0.5), "gap": max(during), "during_p50": quantile(during, 0.5),
            "long_first": sent[0] - begin}


async def tokens_of(server, text):
    answer = await request(server.url, "/tokenize", {"content": text})
    return answer["tokens"]


async def chat(server, contents):
    messages, rows, before = [], [], 0
    for content in contents:
        messages.append({"role": "user", "content": content})
        begin = time.perf_counter()
        answer = await request(server.url, "/v1/chat/completions", {"messages": messages, "max_tokens": 48, "temperature": 0})
        usage = answer["usage"]
        if "timings" in answer:
            evaluated = answer["timings"]["prompt_n"]
        else:
            evaluated = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
        rows.append({"prompt": usage["prompt_tokens"], "own": usage["prompt_tokens"] - before, "evaluated": evaluated,
                     "seconds": time.perf_counter() - begin})
        before = usage["total_tokens"]
        messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
    return {"turns": rows, **{f"last_{key}": rows[-1][key] for key in ("prompt", "own", "evaluated")}}


async def make_sessions(server, count, words):
    for i in range(count):
        await request(server.url, "/v1/sessions", {"id": f"s{i}", "temperature": 0})
        await request(server.url, f"/v1/sessions/s{i}/messages", {"content": words.piece(48), "max_tokens": 8})


async def resume(server, names):
    disk, memory = [], []
    for name in names:
        for found in (disk, memory):
            times, _ = await stream(server.url, f"/v1/sessions/{name}/messages", {"content": "And then?", "max_tokens": 8})
            found.append(times[1] - times[0])
    return {"disk_p50": quantile(disk, 0.5), "disk_p95": quantile(disk, 0.95), "memory_p50": quantile(memory, 0.5),
            "memory_p95": quantile(memory, 0.95)}


def measure(args, names, what, run):
    """{name: [what run(name) measured, ...]}: the programs by turns, round after round."""
    found = {name: [] for name in names}
    for turn in range(args.rounds):
        for name in names:
            found[name].append(run(name))
            load = os.getloadavg()[0]
            args.load = max(args.load, load)
            print(f"{what}: round {turn + 1} of {args.rounds}: {name}, load {load:.2f}", file=sys.stderr)
    return found


def middle(runs, key, scale=1.0, digits=1):
    values = [one[key] * scale for one in runs if one.get(key) is not None]
    return number(median(values), digits)


def main():
    args = parse()
    args.load = 0.0
    if not os.access(args.kvass, os.X_OK):
        fail(f"no program {args.kvass} (make build)")
    names = ["kvass"] + (["llama-server"] if args.llama_server else [])
    words = Words(args.text)
    result = {"model": args.model, "threads": args.threads, "rounds": args.rounds, "target_ms": args.target_ms}
    if not args.json:
        print(f"{args.model}, {args.threads} threads, {args.rounds} rounds by turns")
    with tempfile.TemporaryDirectory(prefix="kvass-compare-") as folder:
        if "streams" in args.parts:
            rows = [["clients", "", "tokens/s", "first p50 ms", "p95", "between p50 ms", "p95", "most"]]
            for count in args.counts:
                prompts = [words.piece(args.prompt) for _ in range(count)]

                def run(name, prompts=prompts, count=count):
                    with Server(args, name, count, 512, folder) as server:
                        return asyncio.run(streams(server, prompts, args.tokens))

                found = result[f"streams {count}"] = measure(args, names, f"{count} streams", run)
                for name in names:
                    rows.append([str(count), name, middle(found[name], "tokens_per_s"),
                                 *(middle(found[name], key, 1000.0) for key in
                                   ("first_p50", "first_p95", "between_p50", "between_p95", "between_most"))])
                if len(names) == 2:
                    speed = [median([one["tokens_per_s"] for one in found[name]]) for name in names]
                    rows.append([str(count), "ratio", number(ratio(*speed)), "", "", "", "", ""])
            if not args.json:
                print_table(f"streams of {args.tokens} tokens after prompts of {args.prompt} words (medians of rounds)", rows)
        if "gap" in args.parts:
            prompt = []

            def run(name):
                with Server(args, name, 2, 8192, folder) as server:
                    if not prompt:  # of exactly that many tokens, from kvass's tokenizer, for both
                        prompt.extend(asyncio.run(tokens_of(server, words.piece(args.long_prompt)))[:args.long_prompt])
                    return asyncio.run(gap(server, words, prompt))

            found = result["gap"] = measure(args, names, "gap", run)
            rows = [["", "longest gap ms", "between p50 before ms", "during ms", "first token of the long prompt s"]]
            for name in names:
                rows.append([name, middle(found[name], "gap", 1000.0), middle(found[name], "before_p50", 1000.0),
                             middle(found[name], "during_p50", 1000.0), middle(found[name], "long_first", 1.0, 2)])
            if not args.json:
                print_table(f"a client that decodes while another sends {args.long_prompt} tokens (kvass's target: "
                            f"{args.target_ms} ms)", rows)
        if "chat" in args.parts:
            contents = [words.piece(90) for _ in range(args.turns)]

            def run(name):
                with Server(args, name, 1, 8192, folder) as server:
                    return asyncio.run(chat(server, contents))

            found = result["chat"] = measure(args, names, "chat", run)
            rows = [["", f"tokens before turn {args.turns} and its own", "its own", "evaluated", "seconds"]]
            for name in names:
                last = found[name][-1]
                rows.append([name, str(last["last_prompt"]), str(last["last_own"]), str(last["last_evaluated"]),
                             number(median([one["turns"][-1]["seconds"] for one in found[name]]))])
            if not args.json:
                print_table(f"turn {args.turns} of a chat", rows)
        if "resume" in args.parts:
            state = os.path.join(folder, "state")
            with Server(args, "kvass", 1, 1024, folder, (4, state)) as server:
                asyncio.run(make_sessions(server, args.sessions, words))
            size = sum(os.path.getsize(os.path.join(path, name)) for path, _, files in os.walk(state) for name in files)

            def run(name):
                with Server(args, name, 1, 1024, folder, (4, state)) as server:
                    return asyncio.run(resume(server, [f"s{words.draw.randrange(args.sessions)}" for _ in range(20)]))

            found = result["resume"] = measure(args, ["kvass"], "resume", run)
            result["state_bytes"] = size
            if not args.json:
                rows = [["", "p50", "p95"]]
                for what, key in (("from disk", "disk"), ("in memory", "memory")):
                    rows.append([what, *(middle(found["kvass"], f"{key}_{at}", 1000.0) for at in ("p50", "p95"))])
                print_table(f"the first token of a turn in one of {args.sessions} sessions, {size / 2**20:.0f} MiB on disk, ms",
                            rows)
    result["highest_load"] = args.load
    if args.json:
        print(json.dumps(result))
    elif args.load > args.threads + 1:
        print(f"\nother work ran beside: load up to {args.load:.1f}")


if __name__ == "__main__":
    main()
