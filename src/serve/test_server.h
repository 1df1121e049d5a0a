// A server with a tiny model for tests, in this process.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "app/generate.h"
#include "scratch.h"
#include "serve/test_client.h"
#include "serve/test_options.h"
#include "tiny_model.h"

namespace kvass::testing {

inline std::string scratch_path(const std::string& name) {
  static const Scratch scratch;
  return scratch.file(name.c_str());
}

// A model that one can talk with.
inline const std::string& talker() {
  static const std::string path = [] {
    const std::string file = scratch_path("talker.gguf");
    EXPECT_TRUE(TinyModel().talker().write(file).ok());
    return file;
  }();
  return path;
}

class TestServer {
 public:
  explicit TestServer(const serve::ServeOptions& options = small_server()) {
    Result<std::unique_ptr<serve::Server>> opened =
        serve::Server::open(ModelFile::open(talker()).value(), options, [](const serve::ServerPlan&) {});
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    if (!opened.ok()) return;
    server_ = std::move(opened).value();
    server_->start();
  }
  std::string url() const { return server_->url(); }
  serve::Server& operator*() { return *server_; }
  serve::Server* operator->() { return server_.get(); }
  // A counter of /metrics.
  int64_t metric(const std::string& name, const std::string& headers = "") const {
    Client client(url());
    const std::string text = client.get("/metrics", headers).body;
    const size_t at = text.find("\n" + name + " ");
    return at == text.npos ? -1 : std::stoll(text.substr(at + name.size() + 2));
  }

 private:
  std::unique_ptr<serve::Server> server_;
};

}  // namespace kvass::testing
