#!/usr/bin/env python3
"""Decode attention of kvass and PyTorch on the same tensors, by turns. Started by attention_torch.sh.

The tensors lie in a file that both processes map. PyTorch runs in the forms people use: the queries regrouped by hand so
that those of a key head are rows of one matrix product (its best), and the plain call with enable_gqa.
"""
import argparse
import os
import subprocess
import tempfile
import time

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def compare(program, heads, kv_heads, dim, name, keys, rounds, threads):
    dtype = DTYPES[name]
    counts = [kv_heads * keys * dim, kv_heads * keys * dim, heads * dim, heads * dim]
    with tempfile.NamedTemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
        file.truncate(sum(counts) * dtype.itemsize)
        memory = torch.from_file(file.name, shared=True, size=sum(counts), dtype=dtype)
        k, v, q, out = memory.split(counts)
        torch.manual_seed(1)
        for part in (k, v, q):
            part.copy_(torch.randn(part.numel()))
        k = k.view(1, kv_heads, keys, dim)
        v = v.view(1, kv_heads, keys, dim)
        q = q.view(1, heads, 1, dim)
        out = out.view(1, heads, 1, dim)
        grouped = q.view(1, kv_heads, heads // kv_heads, dim)
        words = [program, file.name, str(heads), str(kv_heads), str(dim), name, str(keys), str(threads)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:

            def ask(word):
                other.stdin.write(word + "\n")
                other.stdin.flush()
                return int(other.stdout.readline()) * 1e-9

            def timed(call):
                begin = time.perf_counter()
                result = call()
                return time.perf_counter() - begin, result

            best = {}

            def note(key, seconds):
                best[key] = min(seconds, best.get(key, seconds))

            truth = None
            for _ in range(rounds):
                note("read", ask("read"))
                note("rows", ask("attention"))
                rows = out.clone()
                note("tiles", ask("tiles"))
                if not torch.equal(rows, out):
                    raise SystemExit("tiles and row-major tensors differ")
                seconds, truth = timed(lambda: F.scaled_dot_product_attention(grouped, k, v))
                note("grouped", seconds)
                seconds, _ = timed(lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
                note("enable_gqa", seconds)
            error = (out.float() - truth.reshape(out.shape).float()).abs().max().item()
            other.stdin.close()
    gigabytes = 2 * counts[0] * dtype.itemsize * 1e-9
    rates = {key: gigabytes / seconds for key, seconds in best.items()}
    print(f"{heads}/{kv_heads} D={dim} {name:<4} {keys} keys: read {rates['read']:.1f} GB/s, largest difference {error:.1e}")
    for key in ("tiles", "rows"):
        print(
            f"  kvass {key:<5} {rates[key]:6.2f} GB/s = {rates[key] / rates['read']:.2f} of the read; torch grouped"
            f" {rates['grouped']:6.2f} ({rates[key] / rates['grouped']:.1f}x), enable_gqa {rates['enable_gqa']:6.2f}"
            f" ({rates[key] / rates['enable_gqa']:.1f}x)",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--keys", type=int, default=32768)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    print(f"PyTorch {torch.__version__}, {flags.threads} threads, best of {flags.rounds} rounds by turns", flush=True)
    for heads, kv_heads, dim in ((32, 8, 128), (4, 1, 256)):
        for name in DTYPES:
            compare(flags.program, heads, kv_heads, dim, name, flags.keys, flags.rounds, flags.threads)


if __name__ == "__main__":
    main()
