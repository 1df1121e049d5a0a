#!/usr/bin/env python3
"""Makes jinja.json: templates of our own as jinja2 renders them in the sandbox and with the settings of transformers.

    pip install jinja2 && python3 tests/data/make_jinja_goldens.py

Each case: the template and either `expected` (its text) or `refused` (it raises; the wording is not binding). All share
the variables of the file. The cases are the blocks of jinja_cases.txt, separated by lines of ====.
"""
import json
import pathlib

import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent
VARIABLES = {
    "s": "Hello, Wörld 😀 <b>", "l": [3, 1, 2], "d": {"b": 1, "a": [1, 2.5, None, True], "items": 7}, "n": None,
    "f": 2.5, "i": 7, "e": "", "m": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "x": 1}],
    "nested": {"k": {"z": 'q\n"x"'}},
}


class Generation(jinja2.ext.Extension):
    """`{% generation %}` prints its body, in a scope of its own."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    cases = []
    for text in (HERE / "jinja_cases.txt").read_text().split("\n====\n"):
        case = {"template": text}
        try:
            case["expected"] = environment.from_string(text).render(**VARIABLES)
        except Exception as error:  # whatever Python raises is a refusal
            case["refused"] = f"{type(error).__name__}: {error}"
        cases.append(case)
    file = {"variables": VARIABLES, "cases": cases}
    (HERE / "jinja.json").write_text(json.dumps(file, ensure_ascii=False, indent=1) + "\n")


main()
