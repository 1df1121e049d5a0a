#include "audio/container.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace kvass {
namespace {

// An integer of `size` bytes.
uint64_t integer(std::span<const uint8_t> bytes, size_t at, size_t size, bool big_endian) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | bytes[at + (big_endian ? i : size - 1 - i)];
  return value;
}

std::string_view text(std::span<const uint8_t> bytes, size_t at, size_t size) {
  return {reinterpret_cast<const char*>(bytes.data()) + at, size};
}

// Sizes that programs write into a header before they know it: 0, the largest, or about the largest with a sign.
bool is_unknown(uint64_t size) {
  constexpr uint64_t kPage = 4096;
  const auto just_below = [&](uint64_t end) { return size <= end && size >= end - kPage; };
  return size == 0 || just_below(uint64_t{1} << 32) || just_below(uint64_t{1} << 31) || size >= uint64_t{1} << 62;
}

SampleBytes sample_bytes(uint64_t declared, uint64_t at, uint64_t file_bytes) {
  SampleBytes found;
  if (!is_unknown(declared)) found.declared = declared;
  found.available = file_bytes > at ? file_bytes - at : 0;
  return found;
}

// Whether the first four bytes can be a chunk's name.
bool is_name(std::span<const uint8_t> head) {
  return std::all_of(head.begin(), head.begin() + 4, [](uint8_t c) { return c >= 0x20 && c < 0x7f; });
}

// Whether a chunk that ends within the file begins here.
bool is_chunk(const ReadBytes& read, uint64_t at, uint64_t file_bytes, bool big_endian) {
  std::array<uint8_t, 8> head{};
  if (!read(at, head)) return false;
  return is_name(head) && integer(head, 4, 4, big_endian) <= file_bytes - at - head.size();
}

// Chunks, each a name and a size, from byte 12 on. `rf64`: sizes beyond 32 bits stand in the chunk ds64.
std::optional<SampleBytes> in_chunks(const ReadBytes& read, uint64_t file_bytes, bool big_endian, bool rf64) {
  constexpr uint64_t kIn64 = 0xffffffff;
  uint64_t data64 = 0;
  std::array<uint8_t, 24> head{};
  const auto chunk = std::span(head).first(8);
  for (uint64_t at = 12; read(at, chunk);) {
    if (!is_name(chunk)) return std::nullopt;
    const uint64_t size = integer(chunk, 4, 4, big_endian);
    const std::string_view name = text(chunk, 0, 4);
    if (name == "data" || name == "SSND" || name == "BODY") {
      const uint64_t begin = at + chunk.size();
      SampleBytes found = sample_bytes(rf64 && size == kIn64 ? data64 : size, begin, file_bytes);
      if (size == 0 && is_chunk(read, begin, file_bytes, big_endian)) found.available = 0;
      if (size == 0 && found.available > 0) found.zero_at = at + 4;
      return found;
    }
    if (rf64 && name == "ds64" && read(at, head)) data64 = integer(head, 16, 8, false);
    at += chunk.size() + size + (size & 1);
  }
  return std::nullopt;
}

// The same with names of 16 bytes, sizes of 8 that count the head, and chunks at multiples of 8.
std::optional<SampleBytes> in_w64(const ReadBytes& read, uint64_t file_bytes) {
  std::array<uint8_t, 24> head{};
  for (uint64_t at = 40; read(at, head);) {
    const uint64_t size = integer(head, 16, 8, false);
    const uint64_t inside = size < head.size() ? 0 : size - head.size();
    if (text(head, 0, 4) == "data") return sample_bytes(inside, at + head.size(), file_bytes);
    if (size < head.size() || size > file_bytes) return std::nullopt;
    at += (size + 7) / 8 * 8;
  }
  return std::nullopt;
}

}  // namespace

std::optional<SampleBytes> find_sample_bytes(const ReadBytes& read, uint64_t file_bytes) {
  std::array<uint8_t, 12> start{};
  if (!read(0, start)) return std::nullopt;
  const std::string_view name = text(start, 0, 4);
  if (name == "RIFF" || name == "RF64") return in_chunks(read, file_bytes, /*big_endian=*/false, name == "RF64");
  if (name == "RIFX" || name == "FORM") return in_chunks(read, file_bytes, /*big_endian=*/true, false);
  if (name == "riff") return in_w64(read, file_bytes);
  if (name == ".snd") return sample_bytes(integer(start, 8, 4, true), integer(start, 4, 4, true), file_bytes);
  return std::nullopt;
}

}  // namespace kvass
