#!/usr/bin/env python3
"""Messages below src/cli name fields (`Struct.field`), never flags, commands or functions, and every field they name can
be translated.

A field must be a member of a struct in a header, and have a row in the table of the command line (src/cli/fields.h) and
in that of Python (python/fields.cc), unless its struct is the server's, which the program alone has. A row with a flag
must be declared by some command, through the table alone.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

FREE = re.compile(r"(^|_)(test|bench|fuzz)\.cc$|^test_.*\.h$")
COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|("(?:[^"\\\n]|\\.)*")', re.S)
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
FLAG = re.compile(r"(?<![\w-])--[a-z]")
FOREIGN = re.compile(r"`kvass |\b[A-Z]\w+::\w")  # a command, a function of C++: other callers have other ones
FIELD = re.compile(r"(?<![\w./-])([A-Z][a-z0-9]+[A-Z]\w*)\.([a-z]\w*)")
STRUCT = re.compile(r"\bstruct (\w+)[^;{]*\{")
ROW = re.compile(r'\{"(\w+\.\w+)",\s*"([^"]*)"')
DECLARED = re.compile(r"\badd_(?:option|flag)\(\s*\"([^\"]*)\"")

# Flags of a command's own that have the name of a field's flag elsewhere.
OWN = {("inspect.cc", "--check"), ("verify.cc", "--tokens")}


def literals(path):
    """(line, text) of each string literal; comments are none."""
    text = path.read_text(encoding="utf-8")
    blank = COMMENT.sub(lambda m: m[0] if m[1] else re.sub(r"[^\n]", " ", m[0]), text)
    for number, line in enumerate(blank.splitlines(), 1):
        if line.lstrip().startswith("#include"):
            continue
        for found in LITERAL.finditer(line):
            yield number, found[1]


def members():
    """{struct: text of its body} of all headers."""
    found = {}
    for path in [*(ROOT / "include").rglob("*.h"), *(ROOT / "src").rglob("*.h")]:
        text = COMMENT.sub(lambda m: m[1] or "", path.read_text(encoding="utf-8"))
        for struct in STRUCT.finditer(text):
            depth, at = 1, struct.end()
            while depth > 0 and at < len(text):
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
            found[struct[1]] = found.get(struct[1], "") + text[struct.end() : at]
    return found


def has_member(body, field):
    return re.search(rf"\b{field}\b\s*(=|;|,|\{{)", body) is not None


def main():
    problems = []
    structs = members()
    flags = dict(ROW.findall((ROOT / "src/cli/fields.h").read_text(encoding="utf-8")))
    keywords = dict(ROW.findall((ROOT / "python/fields.cc").read_text(encoding="utf-8")))
    named = {}
    library = [p for top in ("src", "include") for p in sorted((ROOT / top).rglob("*")) if p.suffix in (".h", ".cc", ".cu")]
    for path in library:
        where = path.relative_to(ROOT)
        if FREE.search(path.name) or where.parts[:2] == ("src", "cli"):
            continue
        for number, text in literals(path):
            if FOREIGN.search(text):
                problems.append(f"{where}:{number}: words of one front-end: {text}; say what it does")
            if FLAG.search(text):
                problems.append(f"{where}:{number}: a flag of the command line: {text}; name the field, `Struct.field`")
            for struct, field in FIELD.findall(text):
                named.setdefault(f"{struct}.{field}", f"{where}:{number}")
    servers = {name for path in (ROOT / "src/serve").glob("*.h") for name in STRUCT.findall(path.read_text(encoding="utf-8"))}
    for field, where in named.items():
        if field not in flags:
            problems.append(f"{where}: {field}: no row in src/cli/fields.h")
        if field not in keywords and field.split(".")[0] not in servers:
            problems.append(f"{where}: {field}: no row in python/fields.cc")
    for field in {**named, **flags, **keywords}:
        struct, member = field.split(".")
        if struct not in structs or not has_member(structs[struct], member):
            problems.append(f"{named.get(field, 'the tables')}: {field}: no such field in a header")

    commands = [path for path in sorted((ROOT / "src/cli").glob("*.cc")) if not re.search(r"(test|fuzz)\.cc$", path.name)]
    text = {path: path.read_text(encoding="utf-8") for path in commands}
    used = set(re.findall(r'\bflags_of\(\s*"(\w+\.\w+)"', "\n".join(text.values())))
    names = {name for row in flags.values() for name in row.split(",") if name.startswith("--")}
    for field, row in flags.items():
        if row and field not in used:
            problems.append(f"src/cli/fields.h: {field}: no command declares {row} through flags_of")
    for path, content in text.items():
        for declared in DECLARED.findall(content):
            for name in declared.split(","):
                if name in names and (path.name, name) not in OWN:
                    problems.append(f"{path.relative_to(ROOT)}: {name}: declare it through flags_of")
    for problem in problems:
        print(problem)
    print(f"{len(named)} fields in messages, {len(flags)} rows for flags, {len(keywords)} for keywords")
    if not named:
        print("no message names a field: the script has gone blind")
    return 1 if problems or not named else 0


if __name__ == "__main__":
    sys.exit(main())
