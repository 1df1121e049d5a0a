#!/usr/bin/env python3
"""Attention on a GPU beside PyTorch's scaled_dot_product_attention, on the same tensors.

Decode: 32 query heads, 8 KV heads, D = 128, bf16, 32k keys, batch 1 and 32: microseconds, GB/s of keys and values, and their
share of the card's bandwidth (clock and bus, as PyTorch reports them). Prefill: 4k causal: TFLOP/s of visible pairs. Needs
kvass built with KVASS_CUDA and a PyTorch with CUDA; says SKIPPED where there is no GPU.

    KVASS_BACKEND=attention=cuda_fast python bench/compare/attention_gpu.py
"""
import os
import sys

import torch

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
CALLS, REPETITIONS = 20, 15


def microseconds(call):
    """The best of the repetitions, by the device's events."""
    for _ in range(3):
        call()
    best = float("inf")
    for _ in range(REPETITIONS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(CALLS):
            call()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) * 1e3 / CALLS)
    return best


def bandwidth():
    """Bytes a second of the card's memory, or None where PyTorch does not say."""
    card = torch.cuda.get_device_properties(0)
    clock, bus = getattr(card, "memory_clock_rate", None), getattr(card, "memory_bus_width", None)
    return 2.0 * clock * 1e3 * bus / 8 if clock and bus else None


def measure(batch, rows, keys):
    import kvass

    shapes = (HEADS, rows), (KV_HEADS, keys), (KV_HEADS, keys)
    q, k, v = (torch.randn(batch, h, n, HEAD_DIM, device="cuda", dtype=torch.bfloat16) for h, n in shapes)
    out = torch.empty_like(q)
    causal = rows > 1

    def torch_call():
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

    def kvass_call():
        return kvass.attention(q, k, v, out=out)

    error = (kvass_call().float() - torch_call().float()).abs().max().item()
    pairs = batch * HEADS * (rows * (rows + 1) // 2 if causal else keys)
    row = {"batch": batch, "rows": rows, "keys": keys, "max_difference": error}
    for name, call in (("torch", torch_call), ("kvass", kvass_call)):
        us = microseconds(call)
        row[name + "_us"] = us
        if causal:
            row[name + "_tflops"] = 4e-6 * pairs * HEAD_DIM / us
        else:
            gbs = 4e-3 * batch * KV_HEADS * keys * HEAD_DIM / us
            row[name + "_gbs"] = gbs
            if bandwidth():
                row[name + "_share"] = gbs * 1e9 / bandwidth()
    return row


def main():
    if not torch.cuda.is_available():
        print("SKIPPED: no GPU")
        return 0
    print(torch.cuda.get_device_name(0), "PyTorch", torch.__version__, "KVASS_BACKEND:", os.environ.get("KVASS_BACKEND", ""))
    for batch, rows, keys in ((1, 1, 32768), (32, 1, 32768), (1, 4096, 4096)):
        print({key: round(x, 4) if isinstance(x, float) else x for key, x in measure(batch, rows, keys).items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
