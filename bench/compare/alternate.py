#!/usr/bin/env python3
"""Runs llama-bench and `kvass bench` by turns on one file and prints medians and ratios.

Turns, not one after the other: a machine's speed drifts. Its read bandwidth is sampled around every run, because decoding
is bound by it; a run beside a low sample says little.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys


def output_of(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        sys.exit(f"{os.path.basename(command[0])}: exit code {done.returncode}: {last}")
    return done.stdout


def run_llama(args, tests):
    """-> {(test, depth): tokens/s}, for tests of prompts and of generation alike."""
    command = [args.llama_bench, "-m", args.model, "-t", str(args.threads), "-fa", "1", "-p", args.prompt,
               "-n", args.generate, "-d", args.depth, "-r", "1", "-o", "json"]
    for row in json.loads(output_of(command)):
        name = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        tests.setdefault((name, row["n_depth"]), {}).setdefault("llama.cpp", []).append(row["avg_ts"])


def run_kvass(args, tests):
    command = [args.kvass, "bench", args.model, "-p", args.prompt, "-n", args.generate, "-d", args.depth,
               "-t", str(args.threads), "-r", "1", "--json", *args.kvass_args.split()]
    for row in json.loads(output_of(command)):
        if row.get("batch", 1) == 1:
            tests.setdefault((row["test"], row["depth"]), {}).setdefault("kvass", []).append(row["tps"])


def cell(values):
    if not values:
        return "-"
    return f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--model", "--llama-bench", "--bandwidth"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--kvass", default="")
    parser.add_argument("--kvass-args", default="")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--generate", required=True)
    parser.add_argument("--depth", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()

    runners = {"llama.cpp": run_llama}
    if args.kvass:
        runners["kvass"] = run_kvass
    tests = {}
    bandwidth = {name: [] for name in runners}  # GB/s, two samples a run

    def sample():
        return float(output_of([args.bandwidth, str(args.threads)]))

    for turn in range(args.rounds):
        for name, runner in runners.items():
            before = sample()
            runner(args, tests)
            after = sample()
            bandwidth[name] += [before, after]
            print(f"round {turn + 1} of {args.rounds}: {name}, memory reads {before:.1f} GB/s before, "
                  f"{after:.1f} after, load {os.getloadavg()[0]:.2f}", file=sys.stderr)

    rows = [("test", "depth", "llama.cpp t/s", "kvass t/s", "kvass / llama.cpp")]
    for (name, depth), by in sorted(tests.items(), key=lambda item: (item[0][1], item[0][0])):
        llama, kvass = by.get("llama.cpp"), by.get("kvass")
        ratio = f"{statistics.median(kvass) / statistics.median(llama):.2f}" if llama and kvass else "-"
        rows.append((name, str(depth), cell(llama), cell(kvass), ratio))
    rows.append(("reads", "GB/s", cell(bandwidth["llama.cpp"]), cell(bandwidth.get("kvass")), ""))
    print(f"median (lowest..highest) of {args.rounds} rounds by turns, {args.threads} threads, {args.model}")
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
