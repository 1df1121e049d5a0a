#include "cli/turns.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "app/text.h"
#include "base/os_error.h"
#include "cli/command.h"
#include "cli/signals.h"

namespace kvass {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";
constexpr std::string_view kPasteBegins = "\x1b[200~", kPasteEnds = "\x1b[201~";
constexpr int kAtOnceMs = 20;  // from one line of a pasted block to the next

// While a person types: the terminal marks what is pasted, and does not show the marks.
class PasteMarks {
 public:
  explicit PasteMarks(bool wanted) {
    const char* const kind = std::getenv("TERM");
    if (!wanted || kind == nullptr || std::string_view(kind) == "dumb") return;
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHOCTL);
    on_ = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet) == 0;
    if (on_) show_stdout("\x1b[?2004h");
  }
  ~PasteMarks() {
    if (!on_) return;
    show_stdout("\x1b[?2004l");
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  PasteMarks(const PasteMarks&) = delete;

 private:
  termios before_{};
  bool on_ = false;
};

}  // namespace

Result<std::optional<std::string>> LineReader::next() {
  for (;;) {
    size_t length = buffer_.find('\n', searched_);
    searched_ = std::min(length, buffer_.size());
    if (length == std::string::npos && ended_ && !buffer_.empty()) length = buffer_.size();
    if (std::min(length, buffer_.size()) > kMostLineBytes) {
      return bad_input("stdin", "lines of at most " + std::to_string(kMostLineBytes) + " bytes", "a longer one");
    }
    if (length != std::string::npos) {
      std::string_view rest = buffer_;
      std::string line(take_line(rest));
      buffer_.erase(0, buffer_.size() - rest.size());
      searched_ = 0;
      return std::optional(std::move(line));
    }
    if (ended_) return std::optional<std::string>();

    Interrupts::wait_for_input();
    if (Interrupts::quit().load(std::memory_order_relaxed)) return std::optional<std::string>();
    char bytes[1 << 14];
    const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return os_error("stdin", "readable text", errno);
    if (count == 0) ended_ = true;
    buffer_.append(bytes, static_cast<size_t>(count));
  }
}

bool LineReader::ready() {
  if (!buffer_.empty()) return true;
  pollfd input{STDIN_FILENO, POLLIN, 0};
  return !ended_ && ::poll(&input, 1, kAtOnceMs) == 1;
}

Result<std::optional<std::string>> TurnReader::line() {
  const PasteMarks marks(terminal_);
  return lines_.next();
}

Result<std::optional<Turn>> TurnReader::next() {
  KVASS_ASSIGN_OR_RETURN(std::optional<std::string> first, line());
  if (!first) return std::optional<Turn>();
  Result<Turn> turn = Turn{*first};
  if (first->starts_with(kQuotes)) {
    turn = quoted(first->substr(kQuotes.size()));
  } else if (terminal_ && first->find(kPasteBegins) != std::string::npos) {
    turn = pasted(std::move(*first));
  } else if (terminal_ && !first->starts_with('/')) {
    turn = at_once(std::move(*first));
  }
  if (!turn.ok() && Interrupts::quit().load(std::memory_order_relaxed)) return std::optional<Turn>();
  if (!turn.ok()) return turn.status();
  return std::optional(std::move(turn.value()));
}

// The next line of a text that is not at its end, which `mark` says.
Result<std::string> TurnReader::next_of(const Turn& turn, std::string_view mark) {
  if (turn.text.size() > kMostLineBytes) {
    return bad_input("stdin", "texts of at most " + std::to_string(kMostLineBytes) + " bytes", "a longer one");
  }
  KVASS_ASSIGN_OR_RETURN(std::optional<std::string> line, lines_.next());
  if (line) return std::move(*line);
  return bad_input("stdin", "the end of a text of several lines, " + std::string(mark), "the end of the input");
}

// `line`: what stands after the quotes that begin it.
Result<Turn> TurnReader::quoted(std::string line) {
  Turn turn{"", /*block=*/true};
  for (bool first = true;; first = false) {
    if (line.ends_with(kQuotes)) {
      turn.text += line.substr(0, line.size() - kQuotes.size());
      if (turn.text.ends_with('\n')) turn.text.pop_back();  // the quotes stand on a line of their own
      return turn;
    }
    if (!first || !line.empty()) turn.text += line + '\n';
    KVASS_ASSIGN_OR_RETURN(line, next_of(turn, kQuotes));
  }
}

Result<Turn> TurnReader::pasted(std::string line) {
  Turn turn;
  bool inside = false;
  for (;;) {
    for (size_t at = 0; at != std::string::npos;) {
      at = line.find(inside ? kPasteEnds : kPasteBegins);
      turn.text += line.substr(0, at);
      if (at == std::string::npos) break;
      line.erase(0, at + kPasteBegins.size());
      inside = !inside;
    }
    if (!inside) break;
    turn.block = true;
    turn.text += '\n';
    KVASS_ASSIGN_OR_RETURN(line, next_of(turn, "of what is pasted"));
  }
  while (turn.text.ends_with('\n')) turn.text.pop_back();
  return turn;
}

Result<Turn> TurnReader::at_once(std::string line) {
  Turn turn{std::move(line)};
  while (lines_.ready()) {
    KVASS_ASSIGN_OR_RETURN(const std::optional<std::string> more, lines_.next());
    if (!more) break;
    if (more->starts_with('/') || more->starts_with(kQuotes)) {
      lines_.put_back(*more);
      break;
    }
    turn.text += '\n' + *more;
    turn.block = true;
  }
  while (turn.text.ends_with('\n')) turn.text.pop_back();
  return turn;
}

}  // namespace kvass
