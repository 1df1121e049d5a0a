#!/usr/bin/env python3
"""Two builds of kvass side by side, by turns: tokens/s of prompts and of generation, and seconds from exec to the first token.
A change that is to lose no speed is measured with it: bench/compare/two_builds.py BEFORE AFTER."""
import argparse
import json
import os
import subprocess
import sys

from start import run_process
from turns import median, output_of, print_table, spread

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", metavar="BEFORE", help="a kvass program")
    parser.add_argument("after", metavar="AFTER", nargs="?", default=os.path.join(ROOT, "build", "release", "kvass"), help="%(default)s")
    add = parser.add_argument
    add("-m", "--model", metavar="FILE", help="default: Gemma 3 270M from the cache folder (scripts/fetch-model.sh)")
    add("-r", "--rounds", type=int, default=7, help="runs of each program, by turns: %(default)s")
    add("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads: %(default)s")
    add("-p", "--prompt", metavar="LIST", default="512", help="prompt tokens, comma-separated: %(default)s")
    add("-n", "--generate", metavar="LIST", default="64", help="tokens to generate: %(default)s")
    add("-d", "--depth", metavar="LIST", default="0,4096", help="tokens in the cache before the clock starts: %(default)s")
    add("--flags", metavar='"FLAGS"', default="", help='more flags for both, such as "--math a8"')
    add("--json", action="store_true", help="one JSON object with every run instead of a table")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("expected at least one round")
    if not args.model:
        args.model = subprocess.run([os.path.join(ROOT, "scripts", "fetch-model.sh"), "gemma3-270m"],
                                    stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return args


def measure(args, program):
    """{what: value} of one turn."""
    common = ["-t", str(args.threads), *args.flags.split()]
    bench = [program, "bench", args.model, "-p", args.prompt, "-n", args.generate, "-d", args.depth, "-r", "1", "--json", *common]
    found = {f"{row['test']} at {row['depth']}, tokens/s": row["tps"] for row in json.loads(output_of(bench))}
    first = run_process([program, "run", args.model, "-p", "Once upon a time", "-n", "1", "--ignore-eos", *common])
    return {**found, "first token, s": first["first"]}


def main():
    args = parse()
    programs = {"before": args.before, "after": args.after}
    runs = {name: [] for name in programs}
    for program in programs.values():  # the files are in the page cache then
        run_process([program, "run", args.model, "-p", "a", "-n", "1", "--ignore-eos"])
    for turn in range(args.rounds):
        order = list(programs.items()) if turn % 2 == 0 else list(programs.items())[::-1]
        for name, program in order:
            runs[name].append(measure(args, program))
            print(f"round {turn + 1} of {args.rounds}: {name}, load {os.getloadavg()[0]:.2f}", file=sys.stderr)
    if args.json:
        print(json.dumps(runs))
        return
    rows = [("", "before", "after", "after / before")]
    for what in runs["before"][0]:
        before, after = ([run[what] for run in runs[name]] for name in programs)
        digits = 3 if what.endswith(" s") else 1
        rows.append((what, spread(before, digits), spread(after, digits), f"{median(after) / median(before):.3f}"))
    print_table(f"{args.rounds} rounds by turns, {args.threads} threads: median (lowest..highest)", rows)


if __name__ == "__main__":
    main()
