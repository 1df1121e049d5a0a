#!/usr/bin/env python3
"""Checksums of dequantised blocks of every quantised GGUF type, by gguf-py: tests/data/weights.txt.

The blocks are bytes of a counter's mixed bits (splitmix64), seeded with the type's number, so that any bits occur: scales
that are no numbers, signs without meaning. src/ops/linear/dequantise_test.cc makes the same blocks.

    pip install gguf numpy xxhash
    python tests/data/make_weight_goldens.py tests/data
"""
import pathlib
import sys

import gguf
import numpy as np
import xxhash

BLOCKS = 1000
TYPES = """Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS IQ3_S IQ3_XXS IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S
TQ2_0 TQ1_0 MXFP4 NVFP4""".split()


def random_bytes(seed, count):
    counter = np.arange(1, (count + 7) // 8 + 1, dtype=np.uint64) + np.uint64(seed << 32)
    with np.errstate(over="ignore"):
        x = counter * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x.astype("<u8").view(np.uint8)[:count]


def main():
    out = pathlib.Path(sys.argv[1])
    lines = ["# Written by make_weight_goldens.py with gguf-py: type, "
             f"XXH3-128 of {BLOCKS:,} blocks' weights as little-endian float32, any NaN as 7fc00000."]
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random_bytes(kind.value, BLOCKS * size).reshape(BLOCKS, size)
        with np.errstate(all="ignore"):
            weights = gguf.quants.dequantize(blocks, kind).astype("<f4").reshape(-1)
        bits = np.where(np.isnan(weights), np.uint32(0x7FC00000), weights.view("<u4")).astype("<u4")
        lines.append(f"{name} {xxhash.xxh3_128_hexdigest(bits.tobytes())}")
    (out / "weights.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
