#include "text/jinja/budget.h"

#include <string>

#include "text/jinja/value.h"

namespace kvass::jinja {

constinit thread_local Budget* Budget::current_ = nullptr;

void Budget::out_of_steps() const { fail("the template ran for more than " + std::to_string(most_steps_) + " steps"); }
void Budget::out_of_bytes() const {
  fail("the template made more than " + std::to_string(most_bytes_) + " bytes of strings and lists");
}

}  // namespace kvass::jinja
