"""Whole processes: from exec to the first token on stdout, and the most memory that was resident.

The files are in the page cache: every program runs once before the clock does. Each run is a process of its own, with a
context of --context tokens and f16 caches; the prompt is the same text for all. kvass runs from the GGUF file and from a .kvp
that `kvass export` made of it. llama.cpp is its llama-completion without the warm-up run and without fitting parameters to
the memory, as it is and with the flags that may start sooner or take less memory; ratios are to the best of these. Its
llama-simple starts beside them with a short prompt: it takes no more context than it needs and has no flag for it, nor for
threads, and would echo a long prompt before the first token.
"""
import json
import os
import re
import subprocess
import tempfile
import time

from turns import fail, median, number, output_of, print_table, ratio, spread

SIMPLE = "llama-simple"
LLAMA = {  # llama-completion's flags that change what loading costs
    "llama.cpp": [],
    "llama.cpp --no-repack": ["--no-repack"],
    "llama.cpp -lm none": ["-lm", "none"],
}
LLAMA_PROMPT = re.compile(r"prompt eval time =\s*([0-9.]+) ms /\s*([0-9]+) tokens")
KVASS_PROMPT = re.compile(r"\(([0-9]+) prompt \+ .*prefill ([0-9.]+) tokens/s")


def run_process(command):
    """One run: seconds to the first byte of stdout, the largest resident set in bytes, and what it said on stderr."""
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        first = os.read(process.stdout.fileno(), 1)
        seconds = time.perf_counter() - begin
        while os.read(process.stdout.fileno(), 1 << 16):
            pass
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)  # this child's own figures
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if process.returncode != 0 or not first:
        last = (said.strip().splitlines() or ["no message"])[-1]
        fail(f"{os.path.basename(command[0])}: exit code {process.returncode}, {'a' if first else 'no'} token: {last}")
    return {"first": seconds, "peak": usage.ru_maxrss * 1024, "said": said}


class Programs:
    """The command lines of all programs."""

    def __init__(self, args, kvp):
        self.args = args
        self.names = list(LLAMA)  # llama-simple apart
        self.files = {"GGUF": args.model, ".kvp": kvp}
        self.names += [f"kvass {math}, {file}" for file in self.files for math in args.maths]

    def command(self, name, prompt, tokens):
        args = self.args
        if name == SIMPLE:
            with open(prompt) as file:
                return [args.program("llama-simple"), "-m", args.model, "-n", str(tokens), file.read()]
        if name in LLAMA:
            return [args.program("llama-completion"), "-m", args.model, "-f", prompt, "-n", str(tokens), "-t",
                    str(args.threads), "-c", str(args.context), "-fa", "on", "--temp", "0", "--ignore-eos", "-no-cnv",
                    "--no-display-prompt", "--no-warmup", "--fit", "off", "--perf", *LLAMA[name]]
        math, file = name.removeprefix("kvass ").split(", ")
        return [args.kvass, "run", self.files[file], "-f", prompt, "-n", str(tokens), "-t", str(args.threads), "--context",
                str(args.context), "--kv", "f16", "--ignore-eos", "--math", math, *args.kvass_args.split()]

    def run(self, name, prompt, tokens):
        """As run_process, with "loaded": seconds of the prompt alone, as the program itself says."""
        path, length = prompt
        run = run_process(self.command(name, path, tokens))
        if not name.startswith("kvass"):
            found = LLAMA_PROMPT.search(run["said"])
            seconds, count = (float(found[1]) / 1e3, int(found[2])) if found else (0, 0)
        else:
            found = KVASS_PROMPT.search(run["said"])
            count = int(found[1]) if found else 0
            seconds = count / float(found[2]) if found else 0
        if count != length:
            fail(f"{name}: expected that it says how long the prompt of {length} tokens took, got {count} tokens")
        return {"first": run["first"], "peak": run["peak"], "loaded": seconds}


def write_prompt(args, folder, tokens):
    """(path, tokens) of a text of at least so many tokens, as few more as whole words allow."""
    words = "the sea was calm and the boat lay still while we spoke of the long way home".split()

    def text(length):
        return " ".join(words[i % len(words)] for i in range(length))

    def count(length):
        return len(json.loads(output_of([args.kvass, "tokenize", args.model, "--bos", "--json"], text(length))))

    low, high = 1, tokens  # words; each is a token or more
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle) < tokens else (low, middle)
    path = os.path.join(folder, f"{tokens}.txt")
    with open(path, "w") as file:
        file.write(text(low))
    return path, count(low)


def summarise(found, key, scale):
    """{program: {"runs", "median", "ratio"}} of one figure; the ratio is to the best of llama.cpp."""
    runs = {name: [run[key] * scale for run in list_of] for name, list_of in found.items()}
    best = min(median(values) for name, values in runs.items() if not name.startswith("kvass"))
    return {name: {"runs": values, "median": median(values), "ratio": ratio(median(values), best)}
            for name, values in runs.items()}


def print_figures(title, columns, digits):
    """columns: {head: {program: figures}}; the first column has every program."""
    rows = [("program", *(text for head in columns for text in (head, "ratio")))]
    for name in next(iter(columns.values())):
        row = [name]
        for by_program in columns.values():
            figures = by_program.get(name, {"runs": [], "ratio": None})
            row += [spread(figures["runs"], digits), number(figures["ratio"])]
        rows.append(row)
    print_table(title, rows)


def measure_first(args, turns, programs, short, long):
    """Load to first token with a short prompt, and time to first token with a long one."""
    def both(name):
        return [("short", programs.run(name, short, 1)), ("long", programs.run(name, long, 1))]

    runners = {SIMPLE: lambda: [("short", programs.run(SIMPLE, short, 1))]}
    runners |= {name: lambda name=name: both(name) for name in programs.names}
    found = turns.take("start", runners)
    figures = {"load_to_first_token_s": summarise(found["short"], "first", 1),
               "first_token_s": summarise(found["long"], "first", 1),
               "first_token_loaded_s": summarise(found["long"], "loaded", 1)}
    if not args.json:
        print_figures(f"seconds: median (lowest..highest) of {args.rounds} rounds, ratio to the best of llama.cpp", {
            f"exec to first token, prompt of {short[1]}": figures["load_to_first_token_s"],
            f"prompt of {long[1]}": figures["first_token_s"],
            "that prompt once loaded": figures["first_token_loaded_s"]}, 3)
    return {"short_prompt": short[1], "prompt": long[1], **figures}


def measure_memory(args, turns, programs, prompt):
    """The largest resident set: file pages that are mapped are counted where they were touched."""
    found = turns.take("memory", {name: lambda name=name: [("peak", programs.run(name, prompt, args.memory_tokens))]
                                  for name in programs.names})
    figures = summarise(found["peak"], "peak", 2.0 ** -20)
    if not args.json:
        print_figures(f"MiB: median (lowest..highest) of {args.rounds} rounds, ratio to the best of llama.cpp", {
            f"peak memory, prompt of {prompt[1]}, {args.memory_tokens} tokens, context {args.context}": figures}, 1)
    return {"prompt": prompt[1], "tokens": args.memory_tokens, "context": args.context, "peak_mib": figures}


def measure_start(args, turns):
    """The parts "start" and "memory" of a run, by their names."""
    with tempfile.TemporaryDirectory(dir=args.cache) as folder:
        kvp = os.path.join(folder, "model.kvp")
        output_of([args.kvass, "export", args.model, "-o", kvp, "--context", str(args.context)])
        programs = Programs(args, kvp)
        short = write_prompt(args, folder, 4)
        for name in (SIMPLE, *programs.names):
            programs.run(name, short, 1)
        result = {}
        if "start" in args.parts:
            long = write_prompt(args, folder, args.first_prompt)
            result["start"] = measure_first(args, turns, programs, short, long)
        if "memory" in args.parts:
            result["memory"] = measure_memory(args, turns, programs, write_prompt(args, folder, args.memory_prompt))
    return result
