#!/usr/bin/env python3
"""Checks which folders of src/ include which others, that only src/model knows a model's name, and that only
src/base/platform.cc calls the system.

Tests, benchmarks and fuzzers are next to the code they test and may include anything; nothing else may.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# folder -> what it may include besides itself, base/ and kvass/ (a folder, or a path prefix inside one).
ALLOWED = {
    "base": [],
    "device": [],
    "kernels": ["cache", "device"],  # tiles.h: the memory layout of keys
    "cache": [],
    "file": [],
    "audio": [],
    "text": ["file"],
    "program": [],
    "ops": ["kernels", "cache", "device"],
    "plan": ["program", "cache"],
    "model": ["program", "ops/linear", "file"],
    "kvp": ["program", "plan", "ops/linear", "text"],
    "exec": ["program", "plan", "cache", "ops", "kernels", "device"],
    "session": ["exec", "program", "plan", "cache", "ops", "kernels", "device"],
    "app": ["session", "model", "kvp", "text", "audio", "file", "program", "plan", "cache", "ops", "device"],
    "api": ["app", "session", "ops/sample", "text", "audio"],  # the code of include/kvass
    "net": ["app"],
    "serve": ["app", "session", "ops/sample", "text", "audio"],
    "cli": ["app", "net", "serve"],
}
# An operator of programs is a leaf: it sees the program and the step, and nothing includes it.
OPERATOR = re.compile(r"^src/ops/[^/]+/op(_device)?\.cc$")
OPERATOR_ALSO = ["exec", "program", "plan"]
# The C API is written on the public headers alone, though it shares a folder with what it must not see.
PUBLIC_ONLY = re.compile(r"^src/api/c_[^/]*\.(cc|h)$")
# So is the Python binding, which may also include its own headers.
BINDING = ["kvass"]
FREE = re.compile(r"(^|_)(test|bench|fuzz)\.cc$|^test_.*\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
MODEL_NAME = re.compile(r"gemma|whisper|qwen|mistral", re.IGNORECASE)
SYSTEM = re.compile(r"^\s*#\s*include\s+<(sys/.*|unistd|fcntl|sched|signal|csignal|pthread|poll|dirent|dlfcn|cpuid|termios)(\.h)?>")
SYSTEM_ALLOWED = re.compile(r"^src/(base/platform\.cc|cli/.*|serve/(http_server|listen|systemd)\.(cc|h))$")
COMMENT = re.compile(r"//.*")
OPERATOR_ROW = re.compile(r"^KVASS_OP\((\w+), (devices|cpu),", re.MULTILINE)
DEVICE_OP = re.compile(r"\bdevice_op_(\w+)\s*=")
# Lists of values in model files; some are models' names.
NAMES_ALLOWED = {"src/text/pre_tokenizers.inc", "src/text/vocabulary_kinds.inc"}


def may_include(folder, included, also=()):
    prefixes = [folder, "base", "kvass", *ALLOWED[folder], *also]
    return any(included.startswith(prefix + "/") for prefix in prefixes)


def problems_of(path, folder):
    where = path.relative_to(ROOT)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = INCLUDE.match(line)
        if found and "/" not in found[1]:
            yield f'{where}:{number}: "{found[1]}": write the path from src/'
        elif found and PUBLIC_ONLY.match(str(where)) and not found[1].startswith(("kvass/", "api/c_")):
            yield f"{where}:{number}: the C API may include public headers only, not {found[1]}"
        elif found and not may_include(folder, found[1], OPERATOR_ALSO if OPERATOR.match(str(where)) else ()):
            yield f"{where}:{number}: {folder}/ may not include {found[1]}"
        if SYSTEM.match(line) and not SYSTEM_ALLOWED.match(str(where)):
            yield f"{where}:{number}: only base/platform.cc calls the system: {line.strip()}"
        if folder != "model" and str(where) not in NAMES_ALLOWED and not found and MODEL_NAME.search(COMMENT.sub("", line)):
            yield f"{where}:{number}: only model/ knows a model's name: {line.strip()}"


def operator_problems():
    """An operator has a device run exactly where its row of the list says so."""
    rows = dict(OPERATOR_ROW.findall((ROOT / "src/program/ops.inc").read_text(encoding="utf-8")))
    on_devices = set()
    for path in (ROOT / "src/ops").glob("*/op_device.cc"):
        on_devices.update(DEVICE_OP.findall(path.read_text(encoding="utf-8")))
    for name, where in rows.items():
        if (where == "devices") != (name in on_devices):
            yield f"src/program/ops.inc: {name}: {where}, but {'a' if name in on_devices else 'no'} device_op_{name} in src/ops"


def main():
    problems = list(operator_problems())
    files = 0
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in (".h", ".cc", ".cu", ".inc") or FREE.search(path.name):
            continue
        folder = path.relative_to(ROOT / "src").parts[0]
        files += 1
        if folder not in ALLOWED:
            problems.append(f"src/{folder}: not in the table of scripts/check-includes.py")
            continue
        problems.extend(problems_of(path, folder))
    for path in sorted((ROOT / "python").glob("*")):
        if path.suffix not in (".h", ".cc"):
            continue
        files += 1
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = INCLUDE.match(line)
            if found and "/" in found[1] and not any(found[1] == allowed or found[1].startswith(allowed + "/") for allowed in BINDING):
                problems.append(f"{path.relative_to(ROOT)}:{number}: python/ may not include {found[1]}")
    for path in sorted((ROOT / "include").rglob("*.h")):
        files += 1
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = INCLUDE.match(line)
            if found and not found[1].startswith("kvass/"):
                problems.append(f"{path.relative_to(ROOT)}:{number}: a public header may not include {found[1]}")
    for problem in problems:
        print(problem)
    print(f"{files} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
