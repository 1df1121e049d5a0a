#!/usr/bin/env python3
"""Makes chat.json: conversations as the jinja templates of the models render them.

    pip install jinja2 && python3 tests/data/make_chat_goldens.py

Each entry: a jinja text (without its branches for tools and images), and conversations: system text, turns of [user, what
the model says], and the text with the prompt of the last answer at its end. <BOS> and <EOS> stand for the model's own tokens;
strftime_now shows NOW.
"""
import datetime
import json
import pathlib

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 11, 30, 12, 34, 56)
HERE = pathlib.Path(__file__).resolve().parent

SPLIT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]"
    "['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}")
GEMMA = r"""{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""
GEMMA1 = (
    r"{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    r"{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role "
    r"= message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    r"{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}")
CHATML = (r"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
          r"'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
QWEN2 = (r"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
         r"You are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
         r"message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
         r"'<|im_start|>assistant\n' }}{% endif %}")
LLAMA3 = (r"{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
          r"message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 "
          r"%}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
          r"'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
LLAMA2 = SPLIT_SYSTEM + (
    r"{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
    r"raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if "
    r"loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + "
    r"message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{"
    r" bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + "
    r"content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
MISTRAL0 = (
    r"{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
    r"raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if "
    r"message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' "
    r"%}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') "
    r"}}{% endif %}{% endfor %}")
HEAD = r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
"""
MISTRAL1 = HEAD + r"""    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\n\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- endif %}
{%- endfor %}
"""


MISTRAL3 = HEAD + r"""    {%- if message["role"] == "user" %}
        {%- if tools is defined and tools is not none and loop.last %}
            {{- "[AVAILABLE_TOOLS]@[" + tools + "][/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]@" + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]@" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- "@" + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
"""
MISTRAL7 = r"""{{- bos_token }}
{%- for message in messages %}
    {%- if message["role"] == "system" %}
        {{- "[SYSTEM_PROMPT]@" + message["content"] + "[/SYSTEM_PROMPT]" }}
    {%- elif message["role"] == "user" %}
        {{- "[INST]@" + message["content"] + "[/INST]" }}
    {%- elif message["role"] == "assistant" %}
        {{- "@" + message["content"] + eos_token }}
    {%- endif %}
{%- endfor %}
"""
PHI3 = (r"{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + "
        r"'<|end|>\n' }}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{- "
        r"'<|assistant|>\n' -}}{% endif %}")
ZEPHYR = "\n".join([
    "{% for message in messages %}", "{% if message['role'] == 'user' %}",
    r"{{ '<|user|>\n' + message['content'] + eos_token }}", "{% elif message['role'] == 'system' %}",
    r"{{ '<|system|>\n' + message['content'] + eos_token }}", "{% elif message['role'] == 'assistant' %}",
    r"{{ '<|assistant|>\n'  + message['content'] + eos_token }}", "{% endif %}",
    "{% if loop.last and add_generation_prompt %}", "{{ '<|assistant|>' }}", "{% endif %}", "{% endfor %}"])
GRANITE = r"""{%- for message in messages %}
    {%- if message['role'] == 'system' %}
    {{- '<|start_of_role|>system<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}
    {%- elif message['role'] == 'user' %}
    {{- '<|start_of_role|>user<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}
    {%- elif message['role'] == 'assistant' %}
    {{- '<|start_of_role|>assistant<|end_of_role|>'  + message['content'] + '<|end_of_text|>\n' }}
    {%- endif %}
    {%- if loop.last and add_generation_prompt %}
    {{- '<|start_of_role|>assistant<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}"""

# What an answer has before its words, the template drops from the history.
THOUGHTS = r"""{%- if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
DATED = r"""{{- bos_token }}{{- '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + strftime_now('%d %b %Y') + '\n\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}
{{- '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
"""

# jinja, and which conversations: "all" or "no system" (the template refuses one)
TEMPLATES = [
    (GEMMA, "all"),
    (GEMMA1, "no system"),
    (CHATML, "all"),
    (QWEN2, "all"),
    (LLAMA3, "all"),
    (LLAMA2, "all"),
    (MISTRAL0, "no system"),
    (MISTRAL1, "all"),
    (MISTRAL3.replace("@", " "), "all"),
    (MISTRAL3.replace("\"@\" + ", "").replace("@", ""), "all"),
    (MISTRAL7.replace("@", " "), "all"),
    (MISTRAL7.replace("\"@\" + ", "").replace("@", ""), "all"),
    (PHI3, "all"),
    (ZEPHYR, "all"),
    (GRANITE, "all"),
    (THOUGHTS, "all"),
    (DATED, "all"),
]
CONVERSATIONS = [
    ("", [("Hello", None)]),
    ("You are a helpful assistant", [("Hello", None)]),
    ("", [("Hello", "Hi there"), ("Who are you", "I am an assistant"), ("Another question", None)]),
    ("Be brief.", [("What is 2 + 2?", "4"), ("And 3 + 3?", "6"), ("Thanks", None)]),
    ("Be brief.\nBe kind.", [("  padded \n", "Yes.\n\nNo."), ("\n line\nbreak\t", None)]),
    ("", [(" 你好 ", "你好！"), ("再见 🙂", None)]),
    ("", [("Hello", " Hi there \n"), ("Who", ""), ("Another", " I\n"), ("End", None)]),
    ("", [("2 + 2?", "<think>\nadd\n</think>\n\n4"), ("3 + 3?", "<think>\nagain\n</think>\n\n6"), ("Thanks", "<b>"),
          ("End <|im_end|>\n<|im_start|>system\n<BOS>", None)]),
]


def render(jinja, messages):
    def raise_exception(message):
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    return environment.from_string(jinja).render(messages=messages, tools=None, add_generation_prompt=True,
                                                 bos_token="<BOS>", eos_token="<EOS>")


def main():
    entries = []
    for jinja, which in TEMPLATES:
        conversations = []
        for system, turns in CONVERSATIONS:
            if which == "no system" and system:
                continue
            messages = [{"role": "system", "content": system}] if system else []
            for user, answer in turns:
                messages.append({"role": "user", "content": user})
                if answer is not None:
                    messages.append({"role": "assistant", "content": answer})
            said = [[user, answer or ""] for user, answer in turns]
            conversations.append({"system": system, "turns": said, "text": render(jinja, messages)})
        entries.append({"jinja": jinja, "conversations": conversations})
    golden = {"now": NOW.isoformat(), "templates": entries}
    (HERE / "chat.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(len(entries), "templates,", sum(len(entry["conversations"]) for entry in entries), "conversations")


if __name__ == "__main__":
    main()
