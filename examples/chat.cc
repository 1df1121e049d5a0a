// A conversation, a line of stdin a turn: chat MODEL [SYSTEM] [JINJA] [TOKENS].
#include <kvass/chat.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

static kvass::Status run(int argc, char** argv) {
  KVASS_ASSIGN_OR_RETURN(const kvass::Model model, kvass::Model::load(argv[1]));
  kvass::ChatOptions options;
  if (argc > 2) options.system = argv[2];
  if (argc > 3) options.chat_template = argv[3];
  if (argc > 4) options.max_tokens = std::atoll(argv[4]);
  KVASS_ASSIGN_OR_RETURN(kvass::Chat chat, kvass::Chat::open(model, options));
  const auto print = [](std::string_view text) { return bool(std::cout << text << std::flush); };
  for (std::string line; std::getline(std::cin, line);) {
    KVASS_RETURN_IF_ERROR(chat.answer(line, print).status());
    std::cout << "\n";
  }
  return {};
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const kvass::Status status = run(argc, argv);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
