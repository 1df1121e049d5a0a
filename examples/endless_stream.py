#!/usr/bin/env python3
"""A stream without end in a cache of constant size, with a picture of the cache.

    endless_stream.py MODEL [--tokens 600] [--sinks 4] [--window 124] [--prompt TEXT] [--picture cache.png]

Each row of the picture is a moment of the stream, each column a slot of one layer's cache; its colour is the age of the
token that lies there. The sinks at the left stay for ever; the ring is overwritten from left to right, and nothing moves.
"""

import argparse

import numpy as np

import kvass


def ages(layout, length):
    """int64 [slots]: how many tokens ago each slot was written; -1 while it is empty."""
    positions = layout.positions(length)
    return np.where(positions >= 0, length - 1 - positions, -1)


def draw(rows, lengths, sinks, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    picture = np.ma.masked_less(np.array(rows), 0)
    image = axes.imshow(picture, aspect="auto", cmap="viridis_r", norm="symlog", interpolation="nearest",
                        extent=(0, picture.shape[1], lengths[-1], lengths[0]))  # fmt: skip
    axes.axvline(sinks, color="white", linewidth=1)
    axes.set_xlabel(f"slot: {sinks} sinks, then the ring")
    axes.set_ylabel("tokens so far")
    figure.colorbar(image, label="age, tokens")
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--window", type=int, default=124)
    parser.add_argument("--prompt", default="Once upon a time")
    parser.add_argument("--picture", default="cache.png")
    options = parser.parse_args()

    engine = kvass.Engine(options.model)
    sequence = engine.sequence(attention_sink=(options.sinks, options.window), chunk=32)
    allocated = sequence.cache_bytes
    # The layer with sinks; a model may have sliding layers beside it, which keep a ring of their own.
    layout = next(layer.layout for layer in sequence.plan.layers if layer.layout.sink == options.sinks)
    rows, lengths = [], []
    sequence.prefill(options.prompt)
    while len(sequence) < options.tokens:
        for piece in sequence.generate(max_tokens=8, ignore_eos=True, temperature=0.8, top_p=0.95, seed=1):
            print(piece, end="", flush=True)
        rows.append(ages(layout, len(sequence)))
        lengths.append(len(sequence))
    print()
    assert sequence.cache_bytes == allocated
    print(f"{len(sequence)} tokens through {layout.slots} slots, {allocated} bytes of cache before the first and now")
    draw(rows, lengths, layout.sink, options.picture)


if __name__ == "__main__":
    main()
