"""Writes a folder as a cpio archive (newc) with root as owner, one time and sorted names: the same bytes every time.

    cpio.py FOLDER EPOCH > archive
"""

import os
import pathlib
import stat
import sys

folder, epoch = pathlib.Path(sys.argv[1]), int(sys.argv[2])
out = sys.stdout.buffer
number = 0


def entry(name, mode, content=b""):
    global number
    number += 1
    encoded = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, epoch, len(content), 0, 0, 0, 0, len(encoded), 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    out.write(header + b"\0" * (-len(header) % 4))
    out.write(content + b"\0" * (-len(content) % 4))


for path in sorted(folder.rglob("*")):
    name = str(path.relative_to(folder))
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        entry(name, stat.S_IFLNK | 0o777, os.readlink(path).encode())
    elif stat.S_ISDIR(mode):
        entry(name, stat.S_IFDIR | 0o755)
    else:
        entry(name, stat.S_IFREG | (0o755 if mode & 0o100 else 0o644), path.read_bytes())
# The kernel opens it before anything is mounted.
number += 1
entry("TRAILER!!!", 0)
