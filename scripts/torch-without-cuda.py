#!/usr/bin/env python3
"""Lets a CUDA build of PyTorch run on a CPU without CUDA's gigabytes of libraries. Each missing library is replaced by one
that defines the symbols PyTorch needs, as functions that abort. The runtime (libcudart) comes from its own package,
because it is called when PyTorch is imported. Run by the Python of a virtual environment that has only PyTorch."""

import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile

# The names are those of NVIDIA's libraries.
SYMBOL = re.compile(r"^(cusparse|cublas|cudnn|nccl|cufft|nvrtc|nvshmem|cuFile|cusolver|cu[A-Z]|nvJitLink|cupti)")
LIBRARY = re.compile(r"^lib(cu|nccl|nv)")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    folder = pathlib.Path(sysconfig.get_paths()["platlib"]) / "torch" / "lib"
    needed, symbols = set(), set()
    for library in folder.glob("*.so"):
        needed.update(re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-d", str(library))))
        for line in output("nm", "-D", "--undefined-only", str(library)).splitlines():
            name = line.split()[-1].split("@")[0]
            if SYMBOL.match(name):
                symbols.add(name)
    missing = sorted(n for n in needed if LIBRARY.match(n) and not n.startswith("libcudart") and not (folder / n).exists())
    if not missing:
        print(f"{folder}: nothing to stand in for")
        return 1
    with tempfile.TemporaryDirectory() as work:
        source = pathlib.Path(work) / "stand_in.c"
        functions = (f"void {name}(void) {{ abort(); }}\n" for name in sorted(symbols))
        source.write_text("#include <stdlib.h>\n" + "".join(functions))
        for name in missing:
            output("cc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source))
    print(f"{len(missing)} libraries of CUDA stand empty: {' '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
