"""Copies the modules of a list, with what they depend on, into one folder, and writes the order to load them in.

    modules_order.py MODULES_FOLDER LIST TARGET_FOLDER
"""

import pathlib
import shutil
import sys

folder, listing, target = map(pathlib.Path, sys.argv[1:])
depends = {}
for line in (folder / "modules.dep").read_text().splitlines():
    path, needed = line.split(":")
    depends[pathlib.Path(path).stem.replace("-", "_")] = (path, [pathlib.Path(n).stem.replace("-", "_") for n in needed.split()])

order, options = [], {}


def visit(name):
    path, needed = depends[name]
    for other in needed:
        visit(other)
    if name not in order:
        order.append(name)
        shutil.copyfile(folder / path, target / (name + ".ko"))


for line in listing.read_text().splitlines():
    words = line.split("#")[0].split()
    if not words:
        continue
    name = words[0].replace("-", "_")
    if name not in depends:
        # Built into this kernel, or of another one.
        print(f"  the kernel has no module {words[0]}", file=sys.stderr)
        continue
    options[name] = " ".join(words[1:])
    visit(name)
(target / "order").write_text("".join(f"{name}.ko {options.get(name, '')}".rstrip() + "\n" for name in order))
