// The part `greedy`: the head, but of each row only the largest logit and its index. It follows from `head`, so a
// program need not bring it: it is added to whatever has none (files of versions before it), and is no part of what a
// model is (its fingerprint).
//
// Where the head ends in the linear that gives the logits, that is an `argmax_linear`; otherwise all logits are made
// and an `argmax` follows.
#pragma once

#include "program/program.h"

namespace kvass {

// Adds `greedy` as the last part, over values of its own, unless the program has one. The program is sound.
void add_greedy(Program& program);

// The program as it was before add_greedy.
Program without_greedy(Program program);

}  // namespace kvass
