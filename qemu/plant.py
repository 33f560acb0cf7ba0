"""The site that scenarios play: its configuration, secrets and certificates, dropped on the ESP of a fresh card as a person
would, before the first start."""

import os
import pathlib
import subprocess

from hub import frond

MTOOLS = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
PASSWORD = "not a secret: made up for the scenarios"

FROND = """
[[user]]
name = "machine"
password_hash_file = "mqtt-machine"
publish = ["plant/#"]

[lattice]
jetstream_domain = "hub"

[lattice.leaf]
hub = "nats-leaf://{leaf}"
allow_plaintext = true

[slot]
confirm_after = "{confirm_after}"

[[component]]
name = "limits"
path = "/usr/share/frond/components/limits.wasm"
config = {{ high = "*/rpm: 2000" }}

[[stream]]
name = "press"
topics = ["plant/+/press"]
time = {{ field = "ts", format = "ms" }}
component = "limits"
reduce = {{ window = "5s", lateness = "1s" }}

[[stream]]
name = "full"
topics = ["plant/+/full"]
time = {{ field = "ts", format = "ms" }}
reduce = "none"
full = "reject"
outbox_bytes_max = "64KiB"

"""

LEDGER = """
[journal]
checkpoint_interval = "10s"
checkpoint_interval_min = "1s"

[[stream]]
name = "ledger"
topics = ["plant/+/ledger"]
time = { field = "ts", format = "ms" }
reduce = "none"
"""

def password_hash(tree, password):
    """What `frond password` makes of it."""
    done = subprocess.run([*frond(tree), "password"], input=password + "\n", capture_output=True, text=True, check=True)
    return done.stdout


def certificates(folder):
    """A throw-away authority and the gateway's certificate."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "36500"]
    openssl("req", "-x509", *ec, "-subj", "/CN=Frond scenario authority", "-keyout", "ca.key", "-out", "ca.pem",
            "-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", *ec, "-subj", "/CN=gateway", "-keyout", "gateway.key", "-out", "gateway.csr")
    (folder / "names").write_text("subjectAltName=DNS:gateway\n")
    openssl("x509", "-req", "-in", "gateway.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "36500", "-extfile", "names", "-out", "gateway.pem")
    return folder / "ca.pem"


def card(folder, image, tree, leaf, confirm_after="15s"):
    """A copy of the card image with this site's files on its ESP, and a hub at `leaf`; returns it and the authority's certificate."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    disk = folder / "card.img"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(image), str(disk)], check=True)
    ca = certificates(folder / "keys")
    files = {
        "name": "press-hall-3\n",
        "frond.toml": FROND.format(leaf=leaf, confirm_after=confirm_after) + LEDGER,
        "secrets/mqtt-machine": password_hash(tree, PASSWORD),
        "secrets/mqtt.pem": (folder / "keys/gateway.pem").read_text(),
        "secrets/mqtt-key.pem": (folder / "keys/gateway.key").read_text(),
    }
    drop(disk, folder / "esp", files)
    return disk, ca


def stick(folder, files):
    """A USB stick with the label FROND and these files in its folder `frond`."""
    folder.mkdir(parents=True, exist_ok=True)
    disk = folder / "stick.img"
    disk.unlink(missing_ok=True)
    subprocess.run(["truncate", "-s", "8M", str(disk)], check=True)
    subprocess.run(["mkfs.fat", "-n", "FROND", str(disk)], check=True, capture_output=True)
    subprocess.run(["mmd", "-i", str(disk), "::frond"], check=True)
    drop(disk, folder / "files", files, at="")
    return disk


# Where partitions of a card begin, as image/settings has them.
ESP, BOOT_A = "@@1M", "@@65M"


def drop(disk, folder, files, at=ESP):
    """Puts files into the folder `frond` of a card's ESP."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        parent = str(pathlib.PurePosixPath(name).parent)
        if parent != ".":
            # -D s: what is there already is skipped, without a question.
            subprocess.run(["mmd", "-D", "s", "-i", f"{disk}{at}", f"::frond/{parent}"], env=MTOOLS, stdin=subprocess.DEVNULL, capture_output=True)
        put(disk, at, path, f"frond/{name}")


def put(disk, at, path, name):
    """Puts a file into the FAT that begins there, in place of one of that name."""
    subprocess.run(["mcopy", "-o", "-i", f"{disk}{at}", str(path), f"::{name}"], env=MTOOLS, check=True)
