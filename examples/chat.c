/* A conversation, a line of stdin a turn: chat_c MODEL [SYSTEM] [JINJA] [TOKENS]. */
#include <kvass/kvass.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print(void* user, const char* bytes, size_t count) {
  (void)user;
  return fwrite(bytes, 1, count, stdout) == count && fflush(stdout) == 0;
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  kvass_chat_options options = {.struct_size = sizeof options};
  options.system_text = argc > 2 ? argv[2] : NULL;
  options.chat_template = argc > 3 ? argv[3] : NULL;
  options.max_tokens = argc > 4 ? atoll(argv[4]) : 0;
  kvass_model* model = NULL;
  kvass_chat* chat = NULL;
  kvass_code code = kvass_load(argv[1], NULL, &model);
  if (code == KVASS_OK) code = kvass_chat_open(model, &options, NULL, &chat);
  char line[4096];
  while (code == KVASS_OK && fgets(line, sizeof line, stdin) != NULL) {
    code = kvass_chat_answer(chat, line, strcspn(line, "\n"), print, NULL, NULL);
    printf("\n");
  }
  if (code != KVASS_OK) fprintf(stderr, "%s\n", kvass_message());
  kvass_chat_free(chat);
  kvass_free(model);
  return code == KVASS_OK ? 0 : 1;
}
