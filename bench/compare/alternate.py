#!/usr/bin/env python3
"""Runs llama-bench and `kvass bench` by turns on one file and prints medians and ratios.

Turns, not one after the other: a machine's speed drifts. Its read bandwidth is sampled around every run, because decoding
is bound by it; a run beside a low sample says little. The limits are those that `kvass bench` measures in its own process:
of a prompt, a loop of multiply-adds; of generation, a plain read of the weights, keys and values. llama-bench generates
with one sequence only.
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
    """Adds tokens/s to tests[(test, depth, batch)], for tests of prompts and of generation alike."""
    command = [args.llama_bench, "-m", args.model, "-t", str(args.threads), "-fa", "1", "-p", args.prompt,
               "-n", args.generate, "-d", args.depth, "-r", "1", "-o", "json"]
    for row in json.loads(output_of(command)):
        name = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        tests.setdefault((name, row["n_depth"], 1), {}).setdefault("llama.cpp", []).append(row["avg_ts"])


def run_kvass(args, tests):
    command = [args.kvass, "bench", args.model, "-p", args.prompt, "-n", args.generate, "-d", args.depth,
               "-b", args.batch, "-t", str(args.threads), "-r", "1", "--json", *args.kvass_args.split()]
    for row in json.loads(output_of(command)):
        test = tests.setdefault((row["test"], row["depth"], row["batch"]), {})
        test.setdefault("kvass", []).append(row["tps"])
        test.setdefault("limit", []).append(row["tps"] / row["limit_share"])  # tokens/s at the machine's limit


def cell(values):
    if not values:
        return "-"
    return f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


def share(values, limits):
    return f"{statistics.median(values) / statistics.median(limits):.2f}" if values and limits else "-"


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
    parser.add_argument("--batch", required=True)
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

    rows = [("test", "depth", "batch", "llama.cpp t/s", "kvass t/s", "kvass / llama.cpp", "of the limit: llama.cpp", "kvass")]
    for (name, depth, batch), by in sorted(tests.items(), key=lambda item: (item[0][1], item[0][0], item[0][2])):
        llama, kvass, limit = by.get("llama.cpp"), by.get("kvass"), by.get("limit")
        ratio = f"{statistics.median(kvass) / statistics.median(llama):.2f}" if llama and kvass else "-"
        rows.append((name, str(depth), str(batch), cell(llama), cell(kvass), ratio, share(llama, limit),
                     share(kvass, limit)))
    rows.append(("reads", "GB/s", "", cell(bandwidth["llama.cpp"]), cell(bandwidth.get("kvass")), "", "", ""))
    print(f"median (lowest..highest) of {args.rounds} rounds by turns, {args.threads} threads, {args.model}")
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
