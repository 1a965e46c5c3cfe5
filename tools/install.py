#!/usr/bin/python3
"""Installs the quire command, the kernel that it boots, the library and its headers, the malloc: install.py --prefix DIR.

DESTDIR in the environment goes before every path, as packagers expect.
"""
import argparse
import glob
import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = """#!/usr/bin/python3
import sys

sys.path.insert(0, %(lib)r)
from quire.cli import main  # noqa: E402 (the path must be set first)

sys.exit(main(%(lib)r, sys.argv[1:]))
"""


def put(source, target, mode=0o644):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(source, target)
    os.chmod(target, mode)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--prefix", default="/usr/local")
    args = parser.parse_args()
    build = os.path.join(ROOT, args.build)
    prefix = os.path.abspath(args.prefix)
    top = os.environ.get("DESTDIR", "") + prefix
    for name in ("quire-kernel.elf", "libquire.a", "libquire-malloc.so"):
        if not os.path.exists(os.path.join(build, name)):
            sys.exit("%s is not built" % name)
    put(os.path.join(build, "quire-kernel.elf"), top + "/lib/quire/quire-kernel.elf")
    put(os.path.join(build, "libquire.a"), top + "/lib/libquire.a")
    put(os.path.join(build, "libquire-malloc.so"), top + "/lib/libquire-malloc.so", 0o755)
    for path in glob.glob(os.path.join(ROOT, "tools", "quire", "*.py")):
        put(path, top + "/lib/quire/quire/" + os.path.basename(path))
    for path in glob.glob(os.path.join(ROOT, "include", "quire", "*.h")):
        put(path, top + "/include/quire/" + os.path.basename(path))
    script = top + "/bin/quire"
    os.makedirs(os.path.dirname(script), exist_ok=True)
    with open(script, "w", encoding="utf-8") as f:
        f.write(SCRIPT % {"lib": prefix + "/lib/quire"})
    os.chmod(script, 0o755)
    print("installed %s, %s/lib/quire, %s/lib/libquire.a, %s/include/quire" % (script, top, top, top))
    return 0


if __name__ == "__main__":
    sys.exit(main())
