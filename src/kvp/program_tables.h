// The program of a .kvp file: from src/program to the tables of schema.fbs, and back.
#pragma once

#include <cstdint>
#include <span>

#include "kvp/checks.h"
#include "kvp/table.h"
#include "ops/linear/weight.h"
#include "program/program.h"

namespace kvass {

// Of a weight, beside what the program says of it.
struct WeightPlace {
  WeightType type;  // F32 of a vector
  uint32_t section;
  uint64_t offset;
};

// `places` has one for each weight of the program.
flatbuffers::Offset<fb::Program> write_program(flatbuffers::FlatBufferBuilder& fbb, const Program& program,
                                               std::span<const WeightPlace> places);

// Checks counts, names and numbers, and verifies the program. On an error `to` may be incomplete.
Status read_program(const fb::Program* from, const TableChecks& checks, Program& to);

}  // namespace kvass
