// Visitors over the fields of a program's parts, of the rows of fields.inc: for code that must not forget one.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/field_count.h"
#include "program/program.h"

namespace kvass {

// When the fingerprint has a field: fields.inc.
enum class Hashed : uint8_t { always, not_default, encoder, branches, never };

struct Field {
  std::string_view name;  // as in src/kvp/schema.fbs
  Hashed hashed;
};

// visit(field, a.member, b.member) for every field of two objects; `b` is often a new one, which has the defaults.
#define KVASS_VISIT_(member, name, hashed) visit(Field{#name, Hashed::hashed}, a.member, b.member);
#define KVASS_COUNT_(member, name, hashed) +1

template <class Visit>
void for_each_field(const Value& a, const Value& b, Visit&& visit) {
#define KVASS_VALUE_FIELD KVASS_VISIT_
#include "program/fields.inc"
}
template <class Visit>
void for_each_field(const Weight& a, const Weight& b, Visit&& visit) {
#define KVASS_WEIGHT_FIELD KVASS_VISIT_
#include "program/fields.inc"
}
template <class Visit>
void for_each_field(const CacheState& a, const CacheState& b, Visit&& visit) {
#define KVASS_STATE_FIELD KVASS_VISIT_
#include "program/fields.inc"
}
template <class Visit>
void for_each_field(const CrossState& a, const CrossState& b, Visit&& visit) {
#define KVASS_CROSS_FIELD KVASS_VISIT_
#include "program/fields.inc"
}
template <class Visit>
void for_each_field(const RotaryParams& a, const RotaryParams& b, Visit&& visit) {
#define KVASS_ROTARY_FIELD KVASS_VISIT_
#include "program/fields.inc"
}
template <class Visit>
void for_each_field(const Op& a, const Op& b, Visit&& visit) {
#define KVASS_OP_FIELD KVASS_VISIT_
#include "program/fields.inc"
}
template <class Visit>
void for_each_field(const Branch& a, const Branch& b, Visit&& visit) {
#define KVASS_BRANCH_FIELD KVASS_VISIT_
#include "program/fields.inc"
}
template <class Visit>
void for_each_field(const Part& a, const Part& b, Visit&& visit) {
#define KVASS_PART_FIELD KVASS_VISIT_
#include "program/fields.inc"
}

// A field without a row stops the build here.
#define KVASS_VALUE_FIELD KVASS_COUNT_
static_assert(kFieldCount<Value> == 0
#include "program/fields.inc"
);
#define KVASS_WEIGHT_FIELD KVASS_COUNT_
static_assert(kFieldCount<Weight> == 0
#include "program/fields.inc"
);
#define KVASS_STATE_FIELD KVASS_COUNT_
static_assert(kFieldCount<CacheState> == 0
#include "program/fields.inc"
);
#define KVASS_CROSS_FIELD KVASS_COUNT_
static_assert(kFieldCount<CrossState> == 0
#include "program/fields.inc"
);
#define KVASS_ROTARY_FIELD KVASS_COUNT_
static_assert(kFieldCount<RotaryParams> - 1 + kFieldCount<YarnParams> == 0
#include "program/fields.inc"
);
#define KVASS_OP_FIELD KVASS_COUNT_
static_assert(kFieldCount<Op> == 0
#include "program/fields.inc"
);
#define KVASS_BRANCH_FIELD KVASS_COUNT_
static_assert(kFieldCount<Branch> == 0
#include "program/fields.inc"
);
#define KVASS_PART_FIELD KVASS_COUNT_
static_assert(kFieldCount<Part> == 0
#include "program/fields.inc"
);
#undef KVASS_VISIT_
#undef KVASS_COUNT_

// Those of a program itself are few, and each has a form of its own: code that walks them asserts this.
inline constexpr size_t kProgramFields = 11;
static_assert(kFieldCount<Program> == kProgramFields && kFieldCount<SourceShape> == 3);

}  // namespace kvass
