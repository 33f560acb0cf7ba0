"""Puts kernel, initramfs and command line behind systemd's EFI stub, as sections of one PE file.

    uki.py STUB OUTPUT .section=FILE | .section:TEXT ...
"""

import struct
import sys

stub, output, *sections = sys.argv[1:]
image = bytearray(open(stub, "rb").read())
pe = struct.unpack_from("<I", image, 0x3C)[0]
assert image[pe : pe + 4] == b"PE\0\0", "the stub is no PE file"
count, optional_size = struct.unpack_from("<H", image, pe + 6)[0], struct.unpack_from("<H", image, pe + 20)[0]
optional = pe + 24
assert struct.unpack_from("<H", image, optional)[0] == 0x20B, "the stub is not a 64-bit PE file"
section_align, file_align = struct.unpack_from("<II", image, optional + 32)
headers_size = struct.unpack_from("<I", image, optional + 60)[0]
table = optional + optional_size


def up(value, align):
    return -(-value // align) * align


existing = [struct.unpack_from("<8sIIIIIIHHI", image, table + 40 * i) for i in range(count)]
assert table + 40 * (count + len(sections)) <= min(headers_size, min(s[4] for s in existing if s[4])), "no room for section headers"
address = up(max(s[2] + s[1] for s in existing), section_align)
image += b"\0" * (up(len(image), file_align) - len(image))

for spec in sections:
    if "=" in spec.split(":")[0]:
        name, path = spec.split("=", 1)
        content = open(path, "rb").read()
    else:
        name, text = spec.split(":", 1)
        content = text.encode()
    # Initialised data, readable; the kernel counts as code.
    flags = 0x40000020 if name == ".linux" else 0x40000040
    raw = up(len(content), file_align)
    header = struct.pack("<8sIIIIIIHHI", name.encode(), len(content), address, raw, len(image), 0, 0, 0, 0, flags)
    image[table + 40 * count : table + 40 * (count + 1)] = header
    image += content + b"\0" * (raw - len(content))
    address = up(address + len(content), section_align)
    count += 1

struct.pack_into("<H", image, pe + 6, count)
struct.pack_into("<I", image, optional + 56, address)  # size of the image in memory
struct.pack_into("<I", image, optional + 64, 0)  # a check sum that firmware does not look at
open(output, "wb").write(image)
