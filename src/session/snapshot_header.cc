#include "session/snapshot_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/field_count.h"
#include "kvass/version.h"

namespace kvass {
namespace {

constexpr size_t kMagicBytes = sizeof kSnapshotMagic - 1;
constexpr size_t kHashBytes = 16;
constexpr size_t kMaxUndecodedBytes = 3;

class Writer {
 public:
  template <class T>
  void number(T value) {
    if constexpr (std::is_same_v<T, float>) {
      number(std::bit_cast<uint32_t>(value));
    } else if constexpr (std::is_same_v<T, LogitBias>) {
      number(value.id);
      number(value.bias);
    } else {
      for (size_t i = 0; i < sizeof(T); ++i)
        bytes_.push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i)));
    }
  }
  void hash(const Hash128& hash) {
    number(hash.low);
    number(hash.high);
  }
  // An enumeration, or a bool, as 32 bits.
  template <class T>
  void choice(T value, uint32_t) {
    number(static_cast<uint32_t>(value));
  }
  template <class T>
  void list(const std::vector<T>& items) {
    number(uint64_t{items.size()});
    for (const T item : items) number(item);
    align(8);
  }
  void text(std::string_view text) {
    number(uint64_t{text.size()});
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    align(8);
  }
  void texts(const std::vector<std::string>& list) {
    number(uint64_t{list.size()});
    for (const std::string& one : list) text(one);
  }
  void padding() { number(uint32_t{0}); }
  void raw(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
  void align(size_t alignment, size_t after = 0) {
    while ((bytes_.size() + after) % alignment != 0) bytes_.push_back(0);
  }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// Reads as far as there is something to read; afterwards `ok` says whether everything was there.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  template <class T>
  void number(T& value) {
    if constexpr (std::is_same_v<T, float>) {
      uint32_t bits = 0;
      number(bits);
      value = std::bit_cast<float>(bits);
    } else if constexpr (std::is_same_v<T, LogitBias>) {
      number(value.id);
      number(value.bias);
    } else {
      uint64_t bits = 0;
      if (!take(sizeof(T))) return;
      for (size_t i = 0; i < sizeof(T); ++i) bits |= uint64_t{bytes_[at_ - sizeof(T) + i]} << (8 * i);
      value = static_cast<T>(bits);
    }
  }
  template <class T>
  T number() {
    T value{};
    number(value);
    return value;
  }
  Hash128 hash() {
    Hash128 hash;
    number(hash.low);
    number(hash.high);
    return hash;
  }
  // An enumeration of `count` values, or a bool with 2.
  template <class T>
  void choice(T& value, uint32_t count) {
    const auto number = this->number<uint32_t>();
    if (number < count) {
      value = static_cast<T>(number);
    } else {
      ok_ = false;
    }
  }
  template <class T>
  void list(std::vector<T>& items) {
    const auto count = number<uint64_t>();
    if (!fits(count, sizeof(T))) return;
    items.resize(static_cast<size_t>(count));
    for (T& item : items) number(item);
    align(8);
  }
  void text(std::string& text) {
    const auto count = number<uint64_t>();
    if (!fits(count, 1)) return;
    text.assign(reinterpret_cast<const char*>(bytes_.data()) + at_, static_cast<size_t>(count));
    at_ += static_cast<size_t>(count);
    align(8);
  }
  void texts(std::vector<std::string>& list) {
    const auto count = number<uint64_t>();
    for (uint64_t i = 0; i < count && fits(count - i, sizeof(uint64_t)); ++i) text(list.emplace_back());
  }
  void padding() { (void)number<uint32_t>(); }
  // Whether `count` items of at least `bytes` can still come; otherwise nothing more is read.
  bool fits(uint64_t count, size_t bytes) {
    if (!ok_ || count > (bytes_.size() - at_) / bytes) ok_ = false;
    return ok_;
  }
  void align(size_t alignment) { (void)take((alignment - at_ % alignment) % alignment); }
  bool ok() const { return ok_; }

 private:
  bool take(size_t count) {
    if (!ok_ || count > bytes_.size() - at_) {
      ok_ = false;
      return false;
    }
    at_ += count;
    return true;
  }

  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

// The fields after the fixed part, in the order of the file: `file` is a Writer and `info` const, or a Reader and not.
// A field of one of these structs that is not written down here stops the build.
static_assert(kFieldCount<SnapshotInfo> == 11 && kFieldCount<StreamState> == 8 && kFieldCount<ChatState> == 12);
static_assert(kFieldCount<CacheOptions> == 9, "all but checkpoints");
static_assert(kFieldCount<CrossFill> == 2 && kFieldCount<SampleOptions> == 8);
template <class Info, class File>
void transfer_fields(Info& info, File& file) {
  file.choice(info.math, 3);
  file.choice(info.caches.dtype, 4);
  file.choice(info.caches.sinks, 2);
  file.choice(info.caches.sink_positions, 3);
  file.number(info.caches.context);
  file.number(info.caches.chunk);
  file.number(info.caches.sink_tokens);
  file.number(info.caches.sink_window);
  file.number(info.caches.rotary_offset);
  file.number(info.length);
  file.list(info.first_held);
  file.number(info.cross.rows);
  file.list(info.cross.filled);

  auto& state = info.state;
  static_assert(sizeof state.sampling.top_k == 4 && sizeof state.sampling.repeat_last_n == 4);
  file.number(state.sampling.temperature);
  file.number(state.sampling.top_k);
  file.number(state.sampling.top_p);
  file.number(state.sampling.min_p);
  file.number(state.sampling.repeat_penalty);
  file.number(state.sampling.repeat_last_n);
  file.number(state.sampling.seed);
  file.choice(state.ignore_eos, 2);
  file.padding();
  file.list(state.recent);
  file.list(state.pending);
  file.text(state.undecoded);
  file.text(state.held);
  file.texts(state.stops);
  file.list(state.sampling.logit_bias);

  auto& chat = state.chat;
  file.text(chat.chat_template);
  file.text(chat.system);
  file.text(chat.tools);
  file.text(chat.variables);
  file.text(chat.now);
  file.texts(chat.messages);
  file.list(chat.answer);
  file.list(chat.turn_ends);
  file.number(chat.turns);
  file.text(chat.text);
  file.list(chat.ids);
  file.list(chat.ends);
}

// What every writer keeps to: a conversation has pending tokens where its last answer is missing, and only there.
bool is_meant(const StreamState& state) {
  const ChatState& chat = state.chat;
  const bool conversation = !chat.chat_template.empty(), open = chat.messages.size() % 2 != 0;
  if (conversation ? open == state.pending.empty() : open) return false;
  if (!open && !chat.answer.empty()) return false;
  const auto in_text = [&](int64_t end) { return end >= -1 && end <= static_cast<int64_t>(chat.text.size()); };
  return chat.turns >= 0 && chat.turn_ends.size() == chat.messages.size() / 2 && chat.ends.size() == chat.ids.size() &&
         std::all_of(chat.ends.begin(), chat.ends.end(), in_text);
}

}  // namespace

std::vector<uint8_t> write_snapshot_header(const SnapshotInfo& info, const Hash128& body) {
  Writer out;
  out.raw(std::string_view(kSnapshotMagic, kMagicBytes));
  out.number(info.version);
  out.number(info.numerics);
  out.number(uint64_t{0});  // the header's size
  out.number(uint64_t{info.body_bytes});
  out.hash(body);
  out.hash(info.fingerprint);

  transfer_fields(info, out);
  out.align(kSnapshotAlignment, kHashBytes);
  const uint64_t size = out.bytes().size() + kHashBytes;
  for (size_t i = 0; i < 8; ++i) out.bytes()[16 + i] = static_cast<uint8_t>(size >> (8 * i));
  out.hash(hash_bytes(out.bytes()));
  return std::move(out.bytes());
}

Result<SnapshotHeader> read_snapshot_header(std::span<const uint8_t> file, const std::string& name) {
  const size_t known = std::min(file.size(), kMagicBytes);
  if (known == 0 || std::memcmp(file.data(), kSnapshotMagic, known) != 0) {
    return bad_input(name, "a kvass snapshot", "another kind of file");
  }
  if (file.size() < kSnapshotFixedBytes + kHashBytes) {
    return bad_input(name, "the header of a snapshot",
                     "a file cut off after " + std::to_string(file.size()) + " bytes");
  }
  Reader in(file.subspan(kMagicBytes));
  SnapshotHeader header;
  SnapshotInfo& info = header.info;
  in.number(info.version);
  if (info.version != kSnapshotVersion) {
    return unsupported(name, "snapshot version " + std::to_string(kSnapshotVersion), std::to_string(info.version));
  }
  in.number(info.numerics);
  const auto header_bytes = in.number<uint64_t>();
  if (header_bytes % kSnapshotAlignment != 0 || header_bytes < kSnapshotFixedBytes + kHashBytes ||
      header_bytes > file.size()) {
    return bad_input(name, "a header of " + std::to_string(header_bytes) + " bytes",
                     "a file of " + std::to_string(file.size()) + " (cut off or damaged)");
  }
  const std::span<const uint8_t> bytes = file.first(static_cast<size_t>(header_bytes));
  const std::span<const uint8_t> content = bytes.first(bytes.size() - kHashBytes);
  const Hash128 stored = Reader(bytes.last(kHashBytes)).hash(), computed = hash_bytes(content);
  if (stored != computed) {
    return bad_input(name, "a header with the checksum " + hash_text(stored), hash_text(computed) + " (damaged)");
  }
  if (info.numerics != static_cast<uint32_t>(kNumericsVersion)) {
    return unsupported(name, "numerics version " + std::to_string(kNumericsVersion), std::to_string(info.numerics));
  }

  // Its writer meant what follows; fields that no writer has are still an error, not a state.
  in = Reader(content.subspan(kMagicBytes));
  (void)in.number<uint64_t>();  // versions
  (void)in.number<uint64_t>();
  info.header_bytes = bytes.size();
  info.body_bytes = static_cast<size_t>(in.number<uint64_t>());
  header.body = in.hash();
  info.fingerprint = in.hash();
  transfer_fields(info, in);
  const StreamState& state = info.state;
  const bool meant = in.ok() && info.length >= 0 && is_meant(state) && state.undecoded.size() <= kMaxUndecodedBytes &&
                     validate(state.sampling).ok() &&
                     state.recent.size() <= static_cast<size_t>(state.sampling.repeat_last_n);
  if (!meant) return bad_input(name, "fields of a snapshot", "others, under a valid checksum");
  return header;
}

}  // namespace kvass
