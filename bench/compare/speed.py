"""Tokens a second of a prompt, of generation at depths, and of sequences that generate together.

gg is greedy generation, in which kvass asks for the argmax alone; llama.cpp's beside it is that of tg, as it computes
all logits of every token.

Shares: what a row reads (generation) or multiplies (prompts) is counted by `kvass bench`; its limit is measured around the
run, for kvass in its own process around each row, for llama.cpp by the reads around its run and, for prompts, by the fastest
loop of integer multiply-adds that kvass measured. A batch's share is of the reads, too, although multiply-adds may bind it.
"""
import json

from turns import median, number, output_of, print_table, ratio, spread


def llama_bench(args, depth):
    """llama-bench: prompts and generation at one depth; it generates with one sequence only."""
    command = [args.program("llama-bench"), "-m", args.model, "-t", str(args.threads), "-fa", "1", "-p", args.prompt,
               "-n", args.generate, "-d", str(depth), "-r", "1", "-o", "json"]
    return [((f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}", depth, 1), {"tps": row["avg_ts"]})
            for row in json.loads(output_of(command))]


def llama_batches(args, depth):
    """llama-batched-bench: a process for each number of sequences, so that each has the context it needs and no more."""
    tokens = max(depth, 1)  # it has no prompt of none
    measured = []
    for count in args.batches:
        for generate in args.generates:
            context = count * -(-(tokens + generate) // 256) * 256
            command = [args.program("llama-batched-bench"), "-m", args.model, "-t", str(args.threads), "-fa", "on",
                       "-c", str(context), "-npp", str(tokens), "-ntg", str(generate), "-npl", str(count),
                       "--output-format", "jsonl"]
            measured += [((f"tg{generate}", depth, count), {"tps": json.loads(line)["speed_tg"]})
                         for line in output_of(command).splitlines() if line.startswith("{")]
    return measured


def kvass_bench(args, math, depth, prompt, batches):
    greedy = args.generate if batches == "1" else "0"
    command = [args.kvass, "bench", args.model, "-p", prompt, "-n", args.generate, "-g", greedy, "--text", args.text,
               "-d", str(depth), "-b", batches, "-t", str(args.threads), "-r", "1", "--json", "--math", math,
               *args.kvass_args.split()]
    measured = []
    for row in json.loads(output_of(command)):
        limit = row["multiply_adds_per_s" if row["test"].startswith("pp") else "read_bytes_per_s"]
        measured.append(((row["test"], row["depth"], row["batch"]), {
            "tps": row["tps"], "share": row["limit_share"], "limit": limit,
            "per_token": row["limit_share"] * limit / row["tps"],  # bytes (a batch: its part of a step's), or multiply-adds
        }))
    return measured


def add_llama_shares(test, by_program):
    """Of {program: [run, ...]}: gives each run of llama.cpp its share, where a run of kvass tells the work."""
    runs = [run for name, list_of in by_program.items() if name != "llama.cpp" for run in list_of]
    if not runs:
        return
    work = median([run["per_token"] for run in runs])
    loop = max(run["limit"] for run in runs)
    for run in by_program.get("llama.cpp", []):
        run["share"] = run["tps"] * work / (loop if test.startswith("pp") else run["read"])


def rows_of(found):
    """[{"test", "depth", "batch", "programs": {name: {"tps", "runs", "ratio", "share"}}}] with medians."""
    rows = []
    for (test, depth, batch), by_program in sorted(found.items(), key=lambda item: (item[0][1], item[0][2])):
        if test.startswith("gg") and (generated := found.get((test.replace("gg", "tg"), depth, batch), {}).get("llama.cpp")):
            by_program = {"llama.cpp": [dict(run) for run in generated], **by_program}
        add_llama_shares(test, by_program)
        llama = median([run["tps"] for run in by_program.get("llama.cpp", [])])
        programs = {}
        for name, runs in by_program.items():
            tps = [run["tps"] for run in runs]
            programs[name] = {"tps": median(tps), "runs": tps, "ratio": ratio(median(tps), llama),
                              "share": median([run["share"] for run in runs if "share" in run])}
        rows.append({"test": test, "depth": depth, "batch": batch, "programs": programs})
    return rows


def print_rows(title, rows, names):
    others = [name for name in names if name != "llama.cpp"]
    table = [("test", "depth", "batch", *(f"{name} t/s" for name in names), *(f"{name} ratio" for name in others),
              *(f"{name} share" for name in names))]
    for row in rows:
        by = row["programs"]
        table.append((row["test"], str(row["depth"]), str(row["batch"]),
                      *(spread(by[name]["runs"]) if name in by else "-" for name in names),
                      *(number(by[name]["ratio"] if name in by else None) for name in others),
                      *(number(by[name]["share"] if name in by else None) for name in names)))
    print_table(title, table)


def measure(args, turns, what, depths, llama, prompt, batches):
    """A depth is a turn: it is filled once for all its rows."""
    found = {}
    for depth in depths:
        runners = {"llama.cpp": lambda: llama(args, depth)}
        for math in args.maths:
            runners[f"kvass {math}"] = lambda math=math: kvass_bench(args, math, depth, prompt, batches)
        found.update(turns.take(f"{what} at {depth}", runners))
    return rows_of(found)


def measure_speed(args, turns):
    """Prompts and generation of one sequence."""
    rows = measure(args, turns, "speed", args.depths, llama_bench, args.prompt, "1")
    if not args.json:
        print_rows(f"tokens/s: median (lowest..highest) of {args.rounds} rounds, ratio to llama.cpp, share of the limit", rows,
                   ["llama.cpp", *(f"kvass {math}" for math in args.maths)])
    return rows


def measure_batches(args, turns):
    """Sequences that generate together, and what the most of them gain over the fewest."""
    rows = measure(args, turns, "batches", args.batch_depths, llama_batches, "0", args.batch)
    few, many = min(args.batches), max(args.batches)
    one = {(row["test"], row["depth"]): row["programs"] for row in rows if row["batch"] == few}
    gains = [{"test": row["test"], "depth": row["depth"],
              "programs": {name: ratio(by["tps"], one[row["test"], row["depth"]][name]["tps"])
                           for name, by in row["programs"].items()}}
             for row in rows if row["batch"] == many != few]
    if not args.json:
        names = ["llama.cpp", *(f"kvass {math}" for math in args.maths)]
        print_rows(f"tokens/s of sequences together: median (lowest..highest) of {args.rounds} rounds, ratio to llama.cpp, "
                   "share of a read", rows, names)
        if gains:
            print_table(f"tokens/s of {many} sequences over those of {few}",
                        [("test", "depth", *names),
                         *((gain["test"], str(gain["depth"]), *(number(gain["programs"][name]) for name in names))
                           for gain in gains)])
    return {"rows": rows, "gains": gains}
