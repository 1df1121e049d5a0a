// Every command and the C API with a call of the system or of the allocator that fails: the n-th one of its kind, once
// or from then on (faults.h). Whatever fails, the program
//
//   - ends, and by itself: no signal, no hang;
//   - exits with 0 only if it has written all that it writes undisturbed, bit for bit; otherwise with 1 and one line on
//     stderr, and what it has written to stdout is a beginning of that;
//   - leaves each file as it was or complete, and no temporary one.
//
// The short form takes a sample of the calls; KVASS_LONG=1 takes every n (of commands that measure, about 20), and
// KVASS_FAULT_CALLS=<n> about n of each kind. What the parser allocates is the same for every command; only one of them
// begins there. KVASS_FAULT_STATS=<file> adds the counts to it.
#include "faults.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sndfile.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "effort.h"
#include "goldens.h"
#include "session/snapshot.h"
#include "tiny_model.h"
#include "tiny_speech.h"

namespace kvass::testing {
namespace {

using faults::FaultState;
using faults::Kind;
using faults::kKindNames;
using faults::kKinds;

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}
void write_file(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

class Folder {
 public:
  Folder() {
    std::string form = (std::filesystem::temp_directory_path() / "kvass_faults_XXXXXX").string();
    path_ = ::mkdtemp(form.data()) != nullptr ? form : ".";
  }
  ~Folder() {
    if (path_ != ".") std::filesystem::remove_all(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// The counts that the library shares with a program that runs under it.
class Shared {
 public:
  explicit Shared(const std::string& path) : path_(path) {
    write_file(path, std::string(sizeof(FaultState), '\0'));
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    data_ = static_cast<FaultState*>(::mmap(nullptr, sizeof(FaultState), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    ::close(file);
  }
  ~Shared() { ::munmap(data_, sizeof(FaultState)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  FaultState& state() { return *data_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  FaultState* data_ = nullptr;
};

// What is run, in a folder of its own.
struct Job {
  std::string name;
  std::vector<std::string> command;
  std::string input;                            // on stdin
  std::map<std::string, std::string> before{};  // files of the folder before it runs
  std::vector<std::string> outputs{};           // files that it makes or replaces there
  bool embedded = false;                        // a host of the C API
  bool parses = false;                          // the commands' parser is tried with this job, for all of them
  bool measures = false;                        // stdout has times, which differ from run to run
};

struct Fault {
  Kind kind{};
  uint64_t call = 0;  // 0: none
  bool ever = false;
};

constexpr int kCrashed = 1000;  // + the signal
constexpr int kHung = 2000;

struct Ended {
  int code = 0;
  std::string out, err;
  std::map<std::string, std::string> files;
  FaultState counts{};
};

int wait_for(pid_t child) {
  const int timeout = effort(20, 120) * 1000;
  const int file = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  pollfd ended{file, POLLIN, 0};
  const bool hung = ::poll(&ended, 1, timeout) == 0;
  ::close(file);
  if (hung) ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  return hung ? kHung : WIFEXITED(status) ? WEXITSTATUS(status) : kCrashed + WTERMSIG(status);
}

// The environment of the child: this one's, with the library in front of the sanitizer's if there is one.
std::vector<std::string> environment_for(const Fault& fault, const std::string& state) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) all.emplace_back(*entry);
  all.emplace_back("LD_PRELOAD=" KVASS_FAULTS_LIBRARY);
  all.push_back(std::string("KVASS_FAULT=") + kKindNames[static_cast<int>(fault.kind)] + "," +
                std::to_string(fault.call) + "," + (fault.ever ? "ever," : "once,") + state);
  if (kSanitized) all.emplace_back("ASAN_OPTIONS=verify_asan_link_order=0:allocator_may_return_null=1:detect_leaks=0");
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

Ended run(const Job& job, const Fault& fault) {
  const Folder folder;
  const std::string work = folder.file("work");
  std::filesystem::create_directory(work);
  for (const auto& [name, bytes] : job.before) write_file(work + "/" + name, bytes);
  write_file(folder.file("in"), job.input);
  Shared shared(folder.file("state"));
  std::vector<std::string> environment = environment_for(fault, shared.path());
  std::vector<std::string> command = job.command;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, folder.file("in").c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, folder.file("out").c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, folder.file("err").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_addchdir_np(&actions, work.c_str());
  pid_t child = -1;
  Ended ended;
  const int error = ::posix_spawn(&child, command[0].c_str(), &actions, nullptr, pointers(command).data(),
                                  pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  ended.code = error == 0 ? wait_for(child) : 127;
  ended.out = read_file(folder.file("out"));
  ended.err = read_file(folder.file("err"));
  ended.counts = shared.state();
  for (const auto& entry : std::filesystem::directory_iterator(work)) {
    ended.files[entry.path().filename().string()] = read_file(entry.path().string());
  }
  return ended;
}

enum class Verdict { right, crash, hang, wrong_exit, leftover };
constexpr const char* kVerdicts[] = {"right", "crash", "hang", "wrong exit", "leftover"};

// Where a host of the C API has reported a failure: "<code>: <message>", of a code that fits.
bool reported_by_host(const std::string& err, const Fault& fault) {
  std::istringstream lines(err);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const bool memory = fault.kind == Kind::memory || fault.kind == Kind::map;
    if (!line.starts_with("3: ") && (memory || !line.starts_with("6: "))) return false;
  }
  return count >= 1 && (count == 1 || fault.ever);
}

// One line more than the command writes undisturbed, at most: the last one, which says what has failed.
bool reported(const Job& job, const Fault& fault, const Ended& undisturbed, const Ended& ended) {
  if (job.embedded) return reported_by_host(ended.err, fault);
  const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  if (ended.err.empty() || ended.err.back() != '\n' || lines(ended.err) > lines(undisturbed.err) + 1) return false;
  const size_t end = ended.err.rfind('\n', ended.err.size() - 2);
  return ended.err.substr(end == std::string::npos ? 0 : end + 1).starts_with("kvass: ");
}

// A stream that ended early is saved as it was then, which is not as it would have been.
bool is_whole_snapshot(const std::string& bytes) {
  return Snapshot::parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "").ok();
}

Verdict judge(const Job& job, const Fault& fault, const Ended& undisturbed, const Ended& ended) {
  if (ended.code == kHung) return Verdict::hang;
  if (ended.code >= kCrashed) return Verdict::crash;
  for (const auto& [name, bytes] : ended.files) {
    const bool known = job.before.contains(name) || std::count(job.outputs.begin(), job.outputs.end(), name) > 0;
    if (!known) return Verdict::leftover;
    const auto before = job.before.find(name);
    const bool old = before != job.before.end() && before->second == bytes;
    const auto made = undisturbed.files.find(name);
    const bool complete = made != undisturbed.files.end() && made->second == bytes;
    if (!old && !complete && !is_whole_snapshot(bytes)) return Verdict::leftover;
  }
  if (ended.code == 0) {
    const bool complete =
        (ended.out == undisturbed.out || (job.measures && !ended.out.empty())) && ended.files == undisturbed.files;
    return complete ? Verdict::right : Verdict::wrong_exit;
  }
  const bool told = ended.code == 1 && reported(job, fault, undisturbed, ended) &&
                    (job.measures || undisturbed.out.starts_with(ended.out));
  return told && ended.counts.failed > 0 ? Verdict::right : Verdict::wrong_exit;
}

std::string describe(const Job& job, const Fault& fault, const Ended& ended, Verdict verdict) {
  std::string files;
  for (const auto& [name, bytes] : ended.files) files += " " + name + "(" + std::to_string(bytes.size()) + ")";
  return job.name + ": " + kVerdicts[static_cast<int>(verdict)] + " at " + kKindNames[static_cast<int>(fault.kind)] +
         " " + std::to_string(fault.call) + (fault.ever ? " ever" : " once") + ": code " + std::to_string(ended.code) +
         ", stderr '" + ended.err.substr(0, 300) + "', stdout '" + ended.out.substr(0, 80) + "', files" + files;
}

// The calls of a kind to fail, from `first` on: all of them, or about `most`, the first ones among them.
std::vector<uint64_t> chosen(uint64_t first, uint64_t calls, uint64_t most) {
  std::vector<uint64_t> all;
  const uint64_t step = most == 0 ? 1 : std::max<uint64_t>(1, (calls - first) / most);
  for (uint64_t call = first; call <= calls; call += call < first + 3 ? 1 : step) all.push_back(call);
  if (calls > 0 && all.back() != calls) all.push_back(calls);
  return all;
}

// Calls differ a little from run to run where threads share work: a fault beyond the last call does not happen.
class Trial {
 public:
  Trial(const Job& job, uint64_t most) : job_(job), undisturbed_(run(job, {})) {
    for (int kind = 0; kind < kKinds; ++kind) {
      for (const bool ever : {false, true}) {
        const bool skips = kind == static_cast<int>(Kind::memory) && !job.parses;
        const uint64_t first = skips ? undisturbed_.counts.before_opening + 1 : 1;
        for (const uint64_t call : chosen(first, undisturbed_.counts.calls[kind], most)) {
          faults_.push_back({static_cast<Kind>(kind), call, ever});
        }
      }
    }
  }

  void run_all() {
    EXPECT_EQ(undisturbed_.code, 0) << undisturbed_.err;
    for (const std::string& name : job_.outputs) EXPECT_TRUE(undisturbed_.files.contains(name)) << name;
    std::vector<std::thread> workers;
    for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) {
      workers.emplace_back([this] {
        for (size_t at = next_++; at < faults_.size(); at = next_++) try_one(faults_[at]);
      });
    }
    for (std::thread& worker : workers) worker.join();
    report();
  }

 private:
  void try_one(const Fault& fault) {
    const Ended ended = run(job_, fault);
    const Verdict verdict = judge(job_, fault, undisturbed_, ended);
    const std::lock_guard lock(mutex_);
    ++count_[static_cast<size_t>(verdict)];
    if (ended.counts.failed > 0) ++injected_;
    if (verdict == Verdict::right) return;
    ADD_FAILURE() << describe(job_, fault, ended, verdict);
  }
  void report() const {
    std::ostringstream text;
    text << job_.name << ": " << faults_.size() << " runs, " << injected_ << " with a failed call";
    for (size_t i = 1; i < std::size(kVerdicts); ++i) text << ", " << count_[i] << " " << kVerdicts[i];
    if (const char* path = std::getenv("KVASS_FAULT_STATS")) std::ofstream(path, std::ios::app) << text.str() << "\n";
    std::cout << text.str() << std::endl;
  }

  const Job& job_;
  Ended undisturbed_;
  std::vector<Fault> faults_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  size_t injected_ = 0;
  size_t count_[std::size(kVerdicts)] = {};
};

// The files that jobs read.
struct Inputs {
  Folder folder;
  std::string gguf = folder.file("tiny.gguf"), kvp = folder.file("tiny.kvp"), snapshot = folder.file("tiny.kvsnap"),
              text = folder.file("text.txt"), prompts = folder.file("prompts.txt"), config = folder.file("run.yaml"),
              talk = folder.file("talk.jinja"), conversation = folder.file("talk.kvsnap"),
              speech = folder.file("speech"), audio = folder.file("sweep.wav");

  Inputs() {
    EXPECT_TRUE(TinyModel().writer().write(gguf).ok());
    TinySpeech().write_ct2(speech);
    write_file(text, "ab cd ef gh ij kl mn op qr st uv wx yz");
    write_file(prompts, "ab\ncd ef\n");
    write_file(talk, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:");
    write_file(config, "model: " + gguf + "\nprompt: ab cd\ntokens: 6\nquiet: true\n");
    write_sweep();
    kvp = made_by({"export", gguf, "-o", "out", "--max-context-len", "64", "--input-len", "16"}, "tiny.kvp");
    snapshot = made_by({"run", gguf, "-p", "ab cd", "-n", "6", "--ignore-eos", "--save", "out", "-q"}, "tiny.kvsnap");
    conversation =
        made_by({"chat", gguf, "--template-file", talk, "-n", "4", "--save", "out", "-q"}, "talk.kvsnap", "ab\n");
  }

 private:
  std::string made_by(std::vector<std::string> arguments, const std::string& name,
                      const std::string& input = "") const {
    arguments.insert(arguments.begin(), KVASS_CLI_PATH);
    const Ended ended = run({"", arguments, input, {}, {}}, {});
    EXPECT_EQ(ended.code, 0) << ended.err;
    write_file(folder.file(name), ended.files.contains("out") ? ended.files.at("out") : "");
    return folder.file(name);
  }
  void write_sweep() const {
    SF_INFO info{};
    info.samplerate = 16000;
    info.channels = 1;
    info.format = SF_FORMAT_WAV | SF_FORMAT_PCM_16;
    SNDFILE* const file = sf_open(audio.c_str(), SFM_WRITE, &info);
    std::vector<float> samples(8000);
    for (size_t i = 0; i < samples.size(); ++i) {
      samples[i] = 0.4f * std::sin(0.0004f * static_cast<float>(i) * static_cast<float>(i));
    }
    sf_writef_float(file, samples.data(), static_cast<sf_count_t>(samples.size()));
    sf_close(file);
  }
};

std::vector<Job> jobs(const Inputs& in) {
  std::vector<Job> all;
  const auto add = [&](const char* name, std::vector<std::string> arguments, std::string input = "",
                       std::map<std::string, std::string> before = {}, std::vector<std::string> outputs = {}) {
    arguments.insert(arguments.begin(), KVASS_CLI_PATH);
    all.push_back({name, std::move(arguments), std::move(input), std::move(before), std::move(outputs)});
  };
  const std::string old = read_file(in.snapshot);
  add("inspect", {"inspect", in.gguf, "--json"});
  add("tokenize", {"tokenize", in.gguf, "--json"}, "ab cd");
  add("plan", {"plan", in.gguf, "--json"});
  add("run", {"run", in.gguf, "-p", "ab cd", "-n", "6", "--ignore-eos", "-t", "2", "-q"});
  add("run_program", {"run", in.kvp, "-f", "-", "-n", "6", "--ignore-eos", "-t", "2", "-q", "--check"}, "ab cd");
  add("run_config", {"run", "--config", in.config, "--ignore-eos"});
  add("prompts", {"run", in.gguf, "--prompts", in.prompts, "--sequences", "2", "-n", "4", "--ignore-eos", "-q"});
  add("save", {"run", in.gguf, "-p", "ab cd ef", "-n", "6", "--ignore-eos", "--save", "s", "-q"}, "", {}, {"s"});
  add("resume", {"run", in.gguf, "--resume", "s", "-n", "4", "--ignore-eos", "--save", "s", "-q"}, "", {{"s", old}},
      {"s"});
  add("chat",
      {"chat", in.gguf, "--template-file", in.talk, "--template-var", "now=2026-01-01T00:00:00", "-n", "4", "--save",
       "c", "-q"},
      "ab\ncd\n", {}, {"c"});
  add("export", {"export", in.gguf, "-o", "m", "--max-context-len", "64", "--input-len", "16", "--json"}, "",
      {{"m", read_file(in.kvp).substr(0, 100)}}, {"m"});
  add("export_speech", {"export", in.speech, "-o", "m", "--json"}, "", {}, {"m"});
  add("score", {"score", in.gguf, "-f", in.text, "-t", "2"});
  add("verify", {"verify", in.gguf, "--json", "--tokens", "20"});
  add("transcribe",
      {"transcribe", in.audio, "--model", in.speech, "--temperature-increment-on-fallback", "0", "-t", "2",
       "--no-speech-threshold", "none", "--output-format", "all", "--output-dir", ".", "-q"},
      "", {{"sweep.srt", "old"}}, {"sweep.json", "sweep.srt", "sweep.tsv", "sweep.txt", "sweep.vtt"});
  add("print_prompt", {"chat", in.gguf, "--template-file", in.talk, "--print-prompt", "--json"}, "ab\n");
  add("resume_chat", {"chat", in.gguf, "--resume", "c", "-n", "4", "--save", "c", "-q"}, "ab\n",
      {{"c", read_file(in.conversation)}}, {"c"});
  add("convert", {"convert", in.gguf, "-o", "m", "--weights", "q8_0", "--json"}, "", {}, {"m"});
  add("diff", {"inspect", "--diff", in.gguf, in.gguf});
  add("clean", {"inspect", "s", "--clean"}, "", {{"s", old}, {"s.tmp-0123456789abcdef0123456789abcdef", "half"}},
      {"s"});
  add("bench", {"bench", in.gguf, "-p", "8", "-n", "2", "-r", "1", "-t", "1"});
  add("doctor", {"doctor"});
  add("completions", {"completions", "bash"});
  add("help", {"run", "--help"});
  for (Job& job : all) {
    job.parses = job.name == "run";
    job.measures = job.name == "bench" || job.name == "doctor";
  }
  all.push_back({"c_api", {KVASS_FAULTS_HOST, in.gguf, "s", in.speech, in.audio}, "", {}, {"s"}, true, true});
  return all;
}

class Faults : public ::testing::TestWithParam<const char*> {
 protected:
  static const Inputs& inputs() {
    static const Inputs made;
    return made;
  }
};

TEST_P(Faults, EndInAnErrorOrInNothing) {
  const std::vector<Job> all = jobs(inputs());
  const auto job = std::find_if(all.begin(), all.end(), [](const Job& each) { return each.name == GetParam(); });
  ASSERT_NE(job, all.end());
  if (job->measures && !long_tests()) GTEST_SKIP() << "its runs take a second each";
  const char* const wanted = std::getenv("KVASS_FAULT_CALLS");
  const uint64_t most = wanted != nullptr ? std::stoull(wanted) : effort(8, 2);
  Trial(*job, !long_tests() ? most : job->measures ? 20 : 0).run_all();
}

INSTANTIATE_TEST_SUITE_P(Jobs, Faults,
                         ::testing::Values("inspect", "tokenize", "plan", "run", "run_program", "run_config", "prompts",
                                           "save", "resume", "chat", "export", "export_speech", "score", "verify",
                                           "transcribe", "print_prompt", "resume_chat", "convert", "diff", "clean",
                                           "bench", "doctor", "completions", "help", "c_api"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace kvass::testing
