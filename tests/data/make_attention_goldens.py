#!/usr/bin/env python3
"""Writes attention_options.json: attention with packed documents, first positions, chunks and windows to both sides, and the
gradients of sum(dout * out) + sum(dlse * lse), in float64 by PyTorch's matmul, softmax and autograd over a mask that is written
out key by key from the definition in kvass/ops.h. Inputs are `number` below, which tests compute themselves."""

import json
from pathlib import Path

import torch


def number(index, seed):
    """Exact in float32, between -1 and 1."""
    return ((index * 7919 + seed * 104729) % 4093) / 2048 - 1 if index >= 0 else 0.0


def tensor(shape, seed):
    count = 1
    for size in shape:
        count *= size
    return torch.tensor([number(i, seed) for i in range(count)], dtype=torch.float64).reshape(shape)


def sees(options, query, key, first):
    """Whether the query at a position sees a key; `first`: where the sequence begins."""
    if options["causal"] and key > query:
        return False
    window, sinks = options["window"], options["sinks"]
    if window and not (query - key < window or key - first < sinks):
        return False
    if key < first:
        return False
    if options["window_right"] is not None and key - query > options["window_right"]:
        return False
    chunk = options["attention_chunk"]
    return not chunk or (key - first) // chunk == (query - first) // chunk


def mask_of(case, batch, rows, keys):
    options = case["options"]
    mask = torch.zeros(batch, rows, keys, dtype=torch.bool)
    if not options["cu_seqlens_q"]:
        for b in range(batch):
            first = options["first_position"][b] if options["first_position"] else 0
            for i in range(rows):
                for j in range(keys):
                    mask[b, i, j] = sees(options, keys - rows + i, j, first)
        return mask
    of_q = options["cu_seqlens_q"]
    of_k = options["cu_seqlens_k"] or of_q
    for n in range(len(of_q) - 1):
        q_rows = [(at // rows, at % rows) for at in range(of_q[n], of_q[n + 1])]
        k_rows = [(at // keys, at % keys) for at in range(of_k[n], of_k[n + 1])]
        for i, (b, row) in enumerate(q_rows):
            for j, (b_k, key) in enumerate(k_rows):
                assert b == b_k
                mask[b, row, key] = sees(options, len(k_rows) - len(q_rows) + i, j, 0)
    return mask


def attend(case):
    sizes, options = case["sizes"], case["options"]
    batch, heads, kv_heads, rows, keys, width = (sizes[name] for name in ("B", "Hq", "Hkv", "Sq", "Skv", "D"))
    q = tensor((batch, heads, rows, width), 1).requires_grad_()
    k = tensor((batch, kv_heads, keys, width), 2).requires_grad_()
    v = tensor((batch, kv_heads, keys, width), 3).requires_grad_()
    mask = mask_of(case, batch, rows, keys)[:, None]
    repeat = heads // kv_heads
    scores = q @ k.repeat_interleave(repeat, 1).transpose(2, 3) * width**-0.5
    if options["softcap"]:
        scores = options["softcap"] * torch.tanh(scores / options["softcap"])
    scores = scores.masked_fill(~mask, float("-inf"))
    if options["sink_logits"]:
        logits = torch.tensor(options["sink_logits"], dtype=torch.float64)[None, :, None, None].expand(batch, heads, rows, 1)
        scores = torch.cat([scores, logits], 3)
    lse = scores.logsumexp(3)
    weights = torch.where(lse.isfinite()[..., None], (scores - lse.clamp(min=-1e300)[..., None]).exp(), 0.0)[..., :keys]
    out = weights @ v.repeat_interleave(repeat, 1)
    finite = torch.where(lse.isfinite(), lse, 0.0)
    dout, dlse = tensor(out.shape, 4), tensor(lse.shape, 5)
    dq, dk, dv = torch.autograd.grad((out * dout).sum() + (finite * dlse).sum(), (q, k, v))
    case["rows_without_keys"] = (~mask.any(3)).nonzero()[:, [0, 2]].tolist()
    for name, value in {"out": out, "lse": finite, "dq": dq, "dk": dk, "dv": dv}.items():
        case[name] = [round(x, 9) + 0.0 for x in value.flatten().tolist()]
    return case


def case(name, sizes, **options):
    every = dict(causal=True, window=0, sinks=0, softcap=0.0, window_right=None, attention_chunk=0, first_position=[],
                 cu_seqlens_q=[], cu_seqlens_k=[], sink_logits=[])  # fmt: skip
    return {"name": name, "sizes": dict(zip(("B", "Hq", "Hkv", "Sq", "Skv", "D"), sizes)), "options": {**every, **options}}


CASES = [
    case("first positions", (3, 2, 1, 5, 9, 8), first_position=[0, 3, 7]),
    case("first positions beyond rows", (2, 2, 2, 6, 6, 4), first_position=[4, 6]),
    case("first positions, window and sinks", (2, 4, 2, 4, 12, 4), first_position=[2, 5], window=3, sinks=2),
    case("chunks", (1, 2, 1, 11, 11, 8), attention_chunk=4),
    case("chunks after a cache", (2, 2, 1, 3, 10, 4), attention_chunk=4),
    case("chunks from first positions", (2, 2, 2, 9, 9, 4), attention_chunk=3, first_position=[1, 5]),
    case("chunks of every key", (1, 2, 1, 7, 7, 4), attention_chunk=3, causal=False),
    case("a window to both sides", (1, 2, 1, 10, 10, 8), causal=False, window=3, window_right=2),
    case("a window to the right alone", (1, 2, 2, 9, 9, 4), causal=False, window_right=0),
    case("both sides, sinks, cap and sink logits", (1, 4, 2, 8, 12, 4), causal=False, window=2, window_right=1, sinks=2, softcap=1.5,
         sink_logits=[0.25, -0.5, 1.0, 0.0]),  # fmt: skip
    case("documents", (1, 2, 1, 12, 12, 4), cu_seqlens_q=[0, 5, 6, 12]),
    case("documents in two batch rows, one of them empty", (2, 2, 1, 6, 6, 4), cu_seqlens_q=[0, 4, 6, 6, 12]),
    case("documents with caches", (1, 2, 2, 6, 13, 4), cu_seqlens_q=[0, 2, 6], cu_seqlens_k=[0, 5, 13]),
    case("documents, windows and sinks", (1, 2, 1, 14, 14, 4), cu_seqlens_q=[0, 8, 14], window=3, sinks=1),
    case("documents to both sides", (1, 2, 1, 10, 10, 4), cu_seqlens_q=[0, 7, 10], causal=False, window=3, window_right=1),
    case("documents in chunks", (1, 2, 1, 13, 13, 4), cu_seqlens_q=[0, 7, 13], attention_chunk=4),
]

if __name__ == "__main__":
    path = Path(__file__).with_name("attention_options.json")
    cases = ",\n".join(json.dumps(attend(one), separators=(",", ":")) for one in CASES)
    path.write_text(f'{{"cases":[\n{cases}\n]}}\n', encoding="utf-8")
