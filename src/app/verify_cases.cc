// The ways in which `kvass verify` runs its text, and the text.
#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include "app/verify.h"
#include "base/cpu.h"
#include "base/new_file.h"
#include "base/os_error.h"
#include "ops/device_kernels.h"
#include "session/snapshot.h"

namespace kvass {
namespace {

constexpr int64_t kPlannedChunk = 256;
constexpr int64_t kHeadRows = 16;
constexpr int64_t kSinkTokens = 4;
constexpr int64_t kSlowLogits = 16;  // of the scalar kernels: logits of every so many positions

int64_t tokens_of(const VerifyInput& input) { return static_cast<int64_t>(input.ids.size()); }

// One way to run the text through a session of its own.
struct Form {
  bool sinks = false;
  int64_t chunk = kPlannedChunk;  // planned
  int64_t steps = 0;              // tokens of each step; 0: the planned chunk
  int threads = 0;                // 0: the input's
};

// A window that the text outruns eight times. In a cache that is planned for the text as one chunk nothing wraps: it is
// flat, with the same sinks and the same visible keys.
CacheOptions caches_of(const VerifyInput& input, const Form& form) {
  CacheOptions caches;
  caches.context = tokens_of(input);
  caches.chunk = std::min(form.chunk, tokens_of(input));
  caches.dtype = input.kv;
  if (!form.sinks) return caches;
  caches.sinks = true;
  caches.sink_tokens = kSinkTokens;
  caches.sink_window = std::max<int64_t>(1, tokens_of(input) / 8);
  caches.context = std::max(caches.context, caches.sink_tokens + caches.sink_window);
  return caches;
}

Result<std::unique_ptr<Session>> session_of(const std::shared_ptr<const Engine>& engine, int64_t rows,
                                            int64_t sequences, int threads) {
  SessionOptions options;
  options.rows = rows;
  options.head_rows = std::min(rows, kHeadRows);
  options.sequences = sequences;
  options.threads = threads;
  return Session::create(engine, options);
}

Status run_form(const VerifyInput& input, VerifyRecorder& recorder, const std::shared_ptr<const Engine>& engine,
                const Form& form) {
  const CacheOptions caches = caches_of(input, form);
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Sequence> sequence, Sequence::create(engine, caches));
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                         session_of(engine, caches.chunk, 1, form.threads > 0 ? form.threads : input.threads));
  const size_t step = static_cast<size_t>(form.steps > 0 ? form.steps : caches.chunk);
  const std::span<const int32_t> ids(input.ids);
  for (size_t at = 0; at < ids.size(); at += step) {
    const Run run{sequence.get(), sequence->length(), ids.subspan(at, std::min(step, ids.size() - at))};
    KVASS_RETURN_IF_ERROR(recorder.step(*session, std::span(&run, 1)));
  }
  return {};
}

// The text between three other streams, which differ from it in text, layout and where they are: steps in which one
// prefills while others decode, in all combinations of a few lengths. A stream that is full begins again.
Status run_batch(const VerifyInput& input, VerifyRecorder& recorder, bool sinks) {
  constexpr size_t kStreams = 4, kSubject = 2;
  constexpr std::array<int64_t, 6> kMine = {33, 1, 7, 64, 1, 2};
  constexpr std::array<int64_t, 5> kOthers = {1, 1, 40, 1, 17};
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (size_t i = 0; i < kStreams; ++i) {
    const bool like_subject = i % 2 == kSubject % 2;
    const CacheOptions caches = caches_of(input, {.sinks = like_subject == sinks, .chunk = 64});
    KVASS_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, Sequence::create(input.engine, caches));
    sequences.push_back(std::move(sequence));
  }
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                         session_of(input.engine, 64 * kStreams, kStreams, input.threads));
  std::vector<int32_t> reversed(input.ids.rbegin(), input.ids.rend());
  const int64_t tokens = tokens_of(input);
  std::vector<Run> runs(kStreams);
  for (size_t step = 0; sequences[kSubject]->length() < tokens; ++step) {
    for (size_t i = 0; i < kStreams; ++i) {
      Sequence& sequence = *sequences[i];
      if (sequence.length() == tokens) KVASS_RETURN_IF_ERROR(sequence.clear());
      const int64_t count = i == kSubject ? kMine[step % kMine.size()] : kOthers[(step + i) % kOthers.size()];
      const int64_t start = sequence.length(), most = std::min<int64_t>(sequence.plan().chunk, tokens - start);
      runs[i] = {&sequence, start,
                 std::span(i == kSubject ? input.ids : reversed)
                     .subspan(static_cast<size_t>(start), static_cast<size_t>(std::min(count, most)))};
    }
    KVASS_RETURN_IF_ERROR(recorder.step(*session, runs, kSubject));
  }
  return {};
}

// The text with detours: other tokens are run and taken back, a few of them from what the rings still hold, many from a
// checkpoint in the middle of the text.
Status run_detours(const VerifyInput& input, VerifyRecorder& recorder, bool sinks) {
  constexpr size_t kStep = 100, kShort = 20;
  CacheOptions caches = caches_of(input, {.sinks = sinks, .chunk = kStep});
  caches.checkpoints = 1;
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Sequence> sequence, Sequence::create(input.engine, caches));
  KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                         session_of(input.engine, caches.chunk, 1, input.threads));
  const std::span<const int32_t> ids(input.ids);
  const size_t step = std::min(kStep, ids.size());
  const std::vector<int32_t> reversed(input.ids.rbegin(), input.ids.rend());
  const auto detour = [&](size_t tokens) -> Status {
    const int64_t back = sequence->length();
    for (size_t at = 0; at < tokens; at += step) {
      const auto other = std::span(reversed).subspan(at, std::min(step, tokens - at));
      const Run run{sequence.get(), sequence->length(), other};
      KVASS_RETURN_IF_ERROR(session->step({std::span(&run, 1)}).status());
    }
    return sequence->rewind(back);
  };
  bool checkpoint = false;
  for (size_t at = 0; at < ids.size();) {
    const size_t left = ids.size() - at;
    KVASS_RETURN_IF_ERROR(detour(std::min(kShort, left)));
    if (!checkpoint && at >= ids.size() / 2) {
      KVASS_RETURN_IF_ERROR(sequence->checkpoint());
      KVASS_RETURN_IF_ERROR(detour(left));
      checkpoint = true;
    }
    const Run run{sequence.get(), sequence->length(), ids.subspan(at, std::min(step, left))};
    KVASS_RETURN_IF_ERROR(recorder.step(*session, std::span(&run, 1)));
    at += run.tokens.size();
  }
  return {};
}

// The text in four parts. Each is run by a sequence of its own, on another number of threads than the one before, and
// goes on from the file in which that one was saved.
Status run_saved_on(const VerifyInput& input, VerifyRecorder& recorder, bool sinks,
                    const std::array<std::shared_ptr<const Engine>, 2>& engines) {
  constexpr size_t kParts = 4;
  const CacheOptions caches = caches_of(input, {.sinks = sinks});
  KVASS_ASSIGN_OR_RETURN(const std::string name, random_name());
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  if (error) return os_error("TMPDIR", "a folder for files that are soon gone", error.value());
  UnfinishedFile file((folder / ("kvass_verify_" + name)).string());
  file.arm();  // gone in the end
  const std::span<const int32_t> ids(input.ids);
  const size_t step = static_cast<size_t>(caches.chunk), part = (ids.size() + kParts - 1) / kParts;
  for (size_t begin = 0, i = 0; begin < ids.size(); begin += part, ++i) {
    const size_t end = std::min(begin + part, ids.size());
    KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Sequence> sequence, Sequence::create(engines[i % 2], caches));
    KVASS_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                           session_of(engines[i % 2], caches.chunk, 1, 1 + static_cast<int>(i % 2)));
    if (i > 0) {
      KVASS_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::open(file.path()));
      KVASS_RETURN_IF_ERROR(snapshot.restore(*sequence));
    }
    for (size_t at = begin; at < end; at += step) {
      const Run run{sequence.get(), sequence->length(), ids.subspan(at, std::min(step, end - at))};
      KVASS_RETURN_IF_ERROR(recorder.step(*session, std::span(&run, 1)));
    }
    KVASS_RETURN_IF_ERROR(save_snapshot(*sequence, {}, file.path()));
  }
  return {};
}

Status run_saved(const VerifyInput& input, VerifyRecorder& recorder, bool sinks) {
  return run_saved_on(input, recorder, sinks, {input.engine, input.engine});
}

// Every other part on the device.
Status run_moved(const VerifyInput& input, VerifyRecorder& recorder, bool sinks) {
  return run_saved_on(input, recorder, sinks, {input.engine, input.on_device});
}

// Sentences of a few words, chosen by a counter that is mixed as in SplitMix64.
std::string made_up_text(int64_t sentences) {
  constexpr std::array kWho = {"The keeper", "A river", "My sister", "An old clock", "The harbour", "Nobody"};
  constexpr std::array kDoes = {"remembers", "follows", "counts", "repairs", "forgets", "describes", "crosses"};
  constexpr std::array kWhat = {"the second bridge", "seven stones", "every letter", "a map of the coast", "the rain"};
  constexpr std::array kWhen = {"before noon", "in 1847", "while the sea is calm", "twice a year", "without a word"};
  std::string text;
  uint64_t state = 0;
  const auto pick = [&](const auto& list) {
    uint64_t x = state += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return list[(x ^ (x >> 31)) % list.size()];
  };
  for (int64_t i = 0; i < sentences; ++i) {
    const std::array<const char*, 4> words = {pick(kWho), pick(kDoes), pick(kWhat), pick(kWhen)};
    for (size_t w = 0; w < words.size(); ++w) text += std::string(w == 0 ? "" : " ") + words[w];
    text += i % 5 == 4 ? ".\n" : ". ";
  }
  return text;
}

}  // namespace

void set_engine(const std::shared_ptr<const Engine>& engine, VerifyInput& input) {
  input.engine = engine;
  if (engine->device()) {
    input.engine = engine->with_isa(engine->isa());
    input.on_device = engine;
    return;
  }
  for (const Device device : {Device::cuda, Device::rocm}) {
    const Result<const DeviceKernels*> kernels = device_kernels(device);
    if (input.on_device || !kernels.ok()) continue;
    if (kernels.value()->runtime->name == "emulated") continue;  // slow: only where it is asked for
    Result<std::shared_ptr<const Engine>> there = engine->on_device(*kernels.value());
    if (there.ok()) input.on_device = std::move(there).value();
  }
}

std::vector<VerifyCase> verify_cases(const VerifyInput& input) {
  const int64_t tokens = tokens_of(input);
  std::vector<VerifyCase> cases;
  const auto add = [&](std::string name, const std::string& reference, const Form& form) {
    cases.push_back({std::move(name), reference, [form](const VerifyInput& in, VerifyRecorder& recorder) {
                       return run_form(in, recorder, in.engine, form);
                     }});
  };
  const auto add_group = [&](bool sinks, const std::string& prefix, const std::string& reference) {
    add(reference, "", {.sinks = sinks, .chunk = tokens});
    for (const int64_t chunk : {1, 7, 64, 100}) {
      add(prefix + "chunks of " + std::to_string(chunk), reference, {.sinks = sinks, .chunk = chunk});
    }
    add(prefix + "chunks as planned (" + std::to_string(std::min(kPlannedChunk, tokens)) + ")", reference,
        {.sinks = sinks});
    using RunText = Status (*)(const VerifyInput&, VerifyRecorder&, bool sinks);
    const auto add_run = [&](const char* name, RunText run) {
      cases.push_back({prefix + name, reference, [run, sinks](const VerifyInput& in, VerifyRecorder& recorder) {
                         return run(in, recorder, sinks);
                       }});
    };
    add_run("in a batch of 4", run_batch);
    add_run("after rewind and re-play", run_detours);
    add_run("after save and resume", run_saved);
    if (!input.on_device) return;
    const std::string device = prefix + "on " + std::string(device_name(input.on_device->device()->device)) + ", ";
    const auto add_form = [&](const std::string& name, const Form& form) {
      cases.push_back({device + name, reference, [form](const VerifyInput& in, VerifyRecorder& recorder) {
                         return run_form(in, recorder, in.on_device, form);
                       }});
    };
    const auto add_there = [&](const char* name, RunText run) {
      cases.push_back({device + name, reference, [run, sinks](const VerifyInput& in, VerifyRecorder& recorder) {
                         VerifyInput there = in;
                         there.engine = in.on_device;
                         return run(there, recorder, sinks);
                       }});
    };
    add_form("one prefill", {.sinks = sinks, .chunk = tokens});
    for (const int64_t chunk : {1, 7, 100}) {
      add_form("chunks of " + std::to_string(chunk), {.sinks = sinks, .chunk = chunk});
    }
    add_there("in a batch of 4", run_batch);
    add_there("after rewind and re-play", run_detours);
    add_run("moved to the device and back, by save and resume", run_moved);
  };
  const std::string flat = "one prefill, flat cache";
  add_group(false, "", flat);
  add("token by token, in the planned cache", flat, {.steps = 1});
  for (const int threads : {1, 2, 3, 8}) {
    add(std::to_string(threads) + (threads == 1 ? " thread" : " threads"), flat, {.threads = threads});
  }
  for (const Isa isa : kIsas) {
    if (!isa_available(isa, detect_cpu_features())) continue;
    const bool slow = isa == Isa::scalar;
    cases.push_back({"instruction set " + std::string(isa_name(isa)) +
                         (slow ? " (logits of every " + std::to_string(kSlowLogits) + "th position)" : ""),
                     flat, [isa, slow](const VerifyInput& in, VerifyRecorder& recorder) {
                       if (slow) recorder.take_logits_of_every(kSlowLogits);
                       return run_form(in, recorder, in.engine->with_isa(isa), {});
                     }});
  }
  const CacheOptions sinks = caches_of(input, {.sinks = true});
  const std::string prefix =
      "sinks " + std::to_string(sinks.sink_tokens) + "," + std::to_string(sinks.sink_window) + ": ";
  add_group(true, prefix, prefix + "one prefill, flat cache");
  return cases;
}

Result<std::vector<int32_t>> verify_text(const Tokenizer& tokenizer, int64_t tokens) {
  if (tokens < kLeastVerifyTokens || tokens > kMostVerifyTokens) {
    return bad_input("text to verify",
                     std::to_string(kLeastVerifyTokens) + " to " + std::to_string(kMostVerifyTokens) + " tokens",
                     std::to_string(tokens));
  }
  std::vector<int32_t> ids;
  for (int64_t sentences = tokens / 8 + 8; static_cast<int64_t>(ids.size()) < tokens; sentences *= 2) {
    ids = tokenizer.encode(made_up_text(sentences), {.bos = tokenizer.add_bos(), .parse_special = false});
    if (ids.empty()) return bad_input("built-in text", "tokens of this model", "none");
  }
  ids.resize(static_cast<size_t>(tokens));
  return ids;
}

}  // namespace kvass
