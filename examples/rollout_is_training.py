#!/usr/bin/env python3
"""Rollout = training: the log-probabilities of a rollout, token by token, and those of training, the whole text at once.

    rollout_is_training.py MODEL [--tokens 64] [--prompt TEXT]

Policy-gradient methods divide one by the other; where they differ by rounding, the ratio is not 1 and the gradient is off.
With kvass the two are the same bits, whatever the chunks, and the importance ratios are exactly 1.
"""

import argparse

import numpy as np

import kvass


def rollout(engine, prompt, tokens, seed):
    """A sampled continuation and the log-probability of each of its tokens when it was drawn."""
    sequence = engine.sequence(context=len(prompt) + tokens + 1)
    random = np.random.default_rng(seed)
    sequence.prefill(prompt)
    ids, logprobs = [], []
    for _ in range(tokens):
        logits = sequence.logits()
        token = int((logits + random.gumbel(size=logits.shape)).argmax())
        ids.append(token)
        logprobs.append(sequence.logprob(token))
        sequence.step(token)
    return ids, np.array(logprobs)


def training(engine, prompt, ids, chunk):
    """The same log-probabilities of the whole text, in chunks, as a training step computes them."""
    text = prompt + ids
    sequence = engine.sequence(context=len(text) + 1, chunk=chunk)
    return -sequence.score(text)[len(prompt) - 1 :]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", default="The sea was")
    options = parser.parse_args()

    engine = kvass.Engine(options.model)
    prompt = engine.encode(options.prompt)
    ids, drawn = rollout(engine, prompt, options.tokens, seed=1)
    print("chunk  training's log-probability  largest |ratio - 1|  same bits as the rollout")
    for chunk in (1, 7, 32):
        trained = training(engine, prompt, ids, chunk)
        ratios = np.exp(trained - drawn)
        same = trained.tobytes() == drawn.tobytes()
        print(f"{chunk:5}  {trained.sum():26.17g}  {np.abs(ratios - 1).max():19.1e}  {'yes' if same else 'no'}")
        assert same and (ratios == 1.0).all()



if __name__ == "__main__":
    main()
