#!/usr/bin/env python3
"""kvass side by side with llama.cpp, by turns, on one GGUF file. Started by llama_cpp.sh, which builds llama.cpp."""
import argparse
import glob
import json
import os
import subprocess
import sys

from speed import measure_batches, measure_speed
from start import measure_start
from turns import Turns, fail, median, print_table, spread

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARTS = {
    "speed": "tokens/s of prompts and of generation at depths",
    "batch": "tokens/s of sequences that generate together",
    "start": "seconds from exec to the first token, with a short and with a long prompt",
    "memory": "the most memory that a process has resident",
}


def numbers(text):
    values = [int(part) for part in text.split(",")]
    if min(values) < 0:
        raise ValueError(text)
    return values


def positive(text):
    values = numbers(text)
    if min(values) < 1:
        raise ValueError(text)
    return values


def parse():
    parser = argparse.ArgumentParser(
        prog="bench/compare/llama_cpp.sh", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="kvass side by side with llama.cpp: same machine, same file, same threads, by turns.",
        epilog="Parts: " + "\n       ".join(f"{name:7} {what}" for name, what in PARTS.items()) +
        "\n\nLLAMA_PROGRAMS=FOLDER uses the programs of llama.cpp in it and builds none."
        "\nThe cache folder is $KVASS_CACHE, else $XDG_CACHE_HOME/kvass, else ~/.cache/kvass. Example:"
        "\n  bench/compare/llama_cpp.sh -p 128,512,2048 -d 0,4096,16384,30000 --math a16,a8 -r 5")
    parser.add_argument("model", nargs="?", metavar="MODEL",
                        help="a GGUF file; without it, Gemma 3 270M from the cache folder (scripts/fetch-model.sh)")
    add = parser.add_argument
    add("--only", metavar="PARTS", default=",".join(PARTS), help="comma-separated: %(default)s")
    add("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads: %(default)s")
    add("-p", "--prompt", metavar="LIST", default="512", help="prompt tokens, comma-separated: %(default)s")
    add("-n", "--generate", metavar="LIST", default="64", help="tokens to generate: %(default)s")
    add("-d", "--depth", metavar="LIST", default="0", help="tokens in the cache before the clock starts: %(default)s")
    add("-b", "--batch", metavar="LIST", default="1,8", help="sequences that generate together: %(default)s")
    add("--batch-depth", metavar="LIST", default="0", help="their depths: %(default)s")
    add("-r", "--rounds", type=int, default=3, help="runs of each program, by turns: %(default)s")
    add("--math", metavar="LIST", default="a16,a8", help="kvass runs once a turn with each: %(default)s")
    add("--context", type=int, default=4096, help="of the parts start and memory: %(default)s tokens")
    add("--first-prompt", metavar="TOKENS", type=int, default=2000, help="the long prompt of the part start: %(default)s")
    add("--memory-prompt", metavar="TOKENS", type=int, default=512, help="the prompt of the part memory: %(default)s")
    add("--memory-tokens", metavar="TOKENS", type=int, default=32, help="tokens it generates: %(default)s")
    add("--text", metavar="FILE", help="what kvass reads and goes on with: kvass's own documentation")
    add("--kvass", metavar="PROGRAM", default=os.path.join(ROOT, "build", "release", "kvass"), help="%(default)s")
    add("--kvass-args", metavar='"FLAGS"', default="", help='more flags for kvass, such as "--chunk 512"')
    add("--json", action="store_true", help="one JSON object with every run instead of tables")
    add("--cache", help=argparse.SUPPRESS)  # where llama_cpp.sh has put what it built
    add("--programs", help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        args.depths, args.batches, args.batch_depths = numbers(args.depth), positive(args.batch), numbers(args.batch_depth)
        numbers(args.prompt)
        args.generates = positive(args.generate)
    except ValueError as error:
        parser.error(f"expected whole numbers between commas: {error}")
    args.parts = args.only.split(",")
    unknown = sorted(set(args.parts) - set(PARTS))
    if unknown:
        parser.error(f"--only: expected some of {', '.join(PARTS)}, got {unknown[0]}")
    if args.threads < 1 or args.rounds < 1:
        parser.error("expected at least one thread and one round")
    args.maths = args.math.split(",")
    if set(args.maths) - {"a16", "a8", "f32"}:
        parser.error(f"--math: expected some of a16, a8, f32, got {args.math}")
    args.program = lambda name: os.path.join(args.programs, name)
    return args


def cpu_name():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return os.uname().machine


def main():
    args = parse()
    if not args.programs:  # llama_cpp.sh asks whether the flags are right before it builds
        return
    if not args.model:
        args.model = subprocess.run([os.path.join(ROOT, "scripts", "fetch-model.sh"), "gemma3-270m"],
                                    stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if not os.access(args.kvass, os.X_OK):
        print(f"compare: no program {args.kvass} (make build): tokens/s of llama.cpp alone", file=sys.stderr)
        args.maths = []
        args.parts = [part for part in args.parts if part in ("speed", "batch")]
    if not args.text:  # prose of some length
        args.text = os.path.join(args.cache, "text.md")
        with open(args.text, "w") as file:
            for name in ("README.md", "HACKING.md", *sorted(glob.glob("docs/*.md", root_dir=ROOT))):
                with open(os.path.join(ROOT, name)) as page:
                    file.write(page.read())
    turns = Turns(os.path.join(args.cache, "read_bandwidth"), args.threads, args.rounds)
    result = {"model": args.model, "cpu": cpu_name(), "threads": args.threads, "rounds": args.rounds}
    if not args.json:
        print(f"{args.model}, {args.threads} threads of {result['cpu']}, {args.rounds} rounds by turns")
    if "speed" in args.parts:
        result["speed"] = measure_speed(args, turns)
    if "batch" in args.parts:
        result["batch"] = measure_batches(args, turns)
    if "start" in args.parts or "memory" in args.parts:
        result.update(measure_start(args, turns))
    result["reads_gb_per_s"] = turns.reads
    result["highest_load"] = turns.load
    if args.json:
        print(json.dumps(result))
    elif turns.reads:
        print_table("plain reads around the runs, GB/s: median (lowest..highest)",
                    [(name, spread(samples)) for name, samples in turns.reads.items()])
        if turns.load > args.threads + 1:
            print(f"\nother work ran beside: load up to {turns.load:.1f}; programs that spin at barriers lose most by it")
    if not turns.reads:
        fail("nothing was measured")


if __name__ == "__main__":
    main()
