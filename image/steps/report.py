"""Writes the bill of materials (SPDX 2.3, JSON) and the sizes by package.

    report.py WORK SOURCE VERSION EPOCH
"""

import collections
import datetime
import json
import pathlib
import re
import sys
import zlib

work, source, version, epoch = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
tree = work / "tree"
made = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def identifier(kind, name):
    return f"SPDXRef-{kind}-" + re.sub(r"[^A-Za-z0-9.-]", "-", name)


def package(kind, name, its_version, locator, sums=(), license_declared="NOASSERTION"):
    return {
        "SPDXID": identifier(kind, name if kind == "deb" else f"{name}-{its_version}"),
        "name": name,
        "versionInfo": its_version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": license_declared,
        "copyrightText": "NOASSERTION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": value} for value in sums],
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}],
    }


packages = [package("image", "frond-arm64", version, f"pkg:generic/frond-arm64@{version}", license_declared="Apache-2.0")]
for line in (work / "packages.used").read_text().splitlines():
    if not line.startswith("#"):
        name, its_version, sha256, *_ = line.split()
        if not (work / "contents" / name).exists():
            continue
        packages.append(package("deb", name, its_version, f"pkg:deb/debian/{name}@{its_version}?arch=arm64&distro=debian-13", [sha256]))
# The crates in frond and its components, as their lock files have them.
for lock in (source / "Cargo.lock", source / "components/Cargo.lock"):
    for block in lock.read_text().split("[[package]]")[1:]:
        field = dict(re.findall(r'^(name|version|source|checksum) = "(.*)"$', block, re.M))
        if "source" in field:
            sums = [field["checksum"]] if "checksum" in field else []
            entry = package("crate", field["name"], field["version"], f"pkg:cargo/{field['name']}@{field['version']}", sums)
            if all(other["SPDXID"] != entry["SPDXID"] for other in packages):
                packages.append(entry)
(work / "frond-arm64.spdx.json").write_text(
    json.dumps(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": f"frond-arm64-{version}",
            "documentNamespace": f"https://frond.invalid/spdx/frond-arm64-{version}-{epoch}",
            "creationInfo": {"created": made, "creators": ["Tool: frond-image"]},
            "packages": packages,
            "relationships": [
                {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": packages[0]["SPDXID"]},
                *(
                    {"spdxElementId": packages[0]["SPDXID"], "relationshipType": "CONTAINS", "relatedSpdxElement": other["SPDXID"]}
                    for other in packages[1:]
                ),
            ],
        },
        indent=1,
    )
    + "\n"
)

# Sizes: each file belongs to the package that brought it, or to the image.
owner = {}
for listing in (work / "contents").iterdir():
    for name in listing.read_text().splitlines():
        owner["/" + re.sub(r"^\./", "", name)] = listing.name
plain, packed = collections.Counter(), collections.Counter()


def count(name, data):
    plain[name] += len(data)
    packed[name] += len(zlib.compress(data, 6))


for path in sorted(tree.rglob("*")):
    if path.is_symlink() or not path.is_file():
        continue
    name = "/" + str(path.relative_to(tree))
    who = owner.get(name) or owner.get(name + ".xz") or ("frond" if "frond" in name else "image")
    if who.startswith("linux-image"):
        who = "kernel-modules"
    count(who, path.read_bytes())
count("kernel", (work / "kernel/vmlinuz").read_bytes())
count("initramfs", (work / "kernel/initrd").read_bytes())
rows = sorted(plain, key=lambda name: -packed[name])
lines = ["package KiB KiB-deflated", f"TOTAL {sum(plain.values()) // 1024} {sum(packed.values()) // 1024}"]
lines += [f"{name} {plain[name] // 1024} {packed[name] // 1024}" for name in rows]
(work / "sizes.txt").write_text("\n".join(lines) + "\n")
