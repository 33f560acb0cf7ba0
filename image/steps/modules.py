"""Keeps the modules that the lists name, with what they depend on, and unpacks them; removes the others.

    modules.py MODULES_FOLDER ROOT_LIST INITRD_LIST
"""

import lzma
import pathlib
import sys

folder, root_list, initrd_list = map(pathlib.Path, sys.argv[1:])
kernel = folder / "kernel"


def words(path):
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def name(path):
    return path.name.split(".ko")[0].replace("-", "_")


modules = {name(path): path for path in kernel.rglob("*.ko*")}
prefixes = [word for line in words(root_list) for word in line.split()]


def wanted(path):
    relative = str(path.relative_to(kernel)).split(".ko")[0]
    return any(relative.startswith(p) if p.endswith("/") else relative == p for p in prefixes)


keep = {n for n, path in modules.items() if wanted(path)}
keep |= {n for n in (line.split()[0].replace("-", "_") for line in words(initrd_list)) if n in modules}
for prefix in prefixes:
    if not any(str(p.relative_to(kernel)).startswith(prefix) for p in modules.values()):
        print(f"  no module is called {prefix}", file=sys.stderr)


def needs(path):
    """The names in `depends=` of a module's own description."""
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    start = data.find(b"\0depends=")
    if start < 0:
        return []
    text = data[start + 9 : data.index(b"\0", start + 9)].decode()
    return [n.replace("-", "_") for n in text.split(",") if n]


queue = list(keep)
while queue:
    for needed in needs(modules[queue.pop()]):
        if needed in modules and needed not in keep:
            keep.add(needed)
            queue.append(needed)

for n, path in modules.items():
    if n not in keep:
        path.unlink()
    elif path.suffix == ".xz":
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
for path in sorted(kernel.rglob("*"), reverse=True):
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
