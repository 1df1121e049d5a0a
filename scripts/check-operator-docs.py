#!/usr/bin/env python3
"""Every operator of src/ops/registry.inc has a page in docs/operators with all headings, and a line in its index."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "operators"
HEADINGS = ["Contract", "Masking", "Dtypes", "Numerics", "Tests", "Source"]


def problems_of(name, index):
    page = PAGES / f"{name}.md"
    if f"]({name}.md)" not in index:
        yield f"docs/operators/README.md: no line for {name}"
    if not page.exists():
        yield f"docs/operators/{name}.md: expected a page for the operator, got none"
        return
    text = page.read_text(encoding="utf-8")
    if not text.startswith(f"# {name}\n"):
        yield f"docs/operators/{name}.md: expected the title '# {name}'"
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", text, re.MULTILINE))
    for heading in HEADINGS:
        if not sections.get(heading, "").strip():
            yield f"docs/operators/{name}.md: expected something under '## {heading}'"
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        if not (PAGES / target).exists():
            yield f"docs/operators/{name}.md: link to {target}, which is not there"


def main():
    manifest = (ROOT / "src" / "ops" / "registry.inc").read_text(encoding="utf-8")
    operators = re.findall(r"^KVASS_OPERATOR\((\w+),", manifest, re.MULTILINE)
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    problems = [problem for name in operators for problem in problems_of(name, index)]
    problems += [
        f"docs/operators/{page.name}: no such operator in src/ops/registry.inc"
        for page in sorted(PAGES.glob("*.md"))
        if page.stem != "README" and page.stem not in operators
    ]
    for problem in problems:
        print(problem)
    print(f"{len(operators)} operators, {len(problems)} problems")
    return 1 if problems or not operators else 0


if __name__ == "__main__":
    sys.exit(main())
