"""The site that scenarios play: its configuration, secrets and certificates, dropped on the ESP of a fresh card as a person
would, before the first start."""

import base64
import hashlib
import os
import pathlib
import subprocess

PASSWORD = "not a secret: made up for the scenarios"

FROND = """
[mqtt.broker]
url = "mqtt://127.0.0.1:1883"

[lattice]
jetstream_domain = "hub"

[lattice.leaf]
hub = "nats-leaf://10.0.2.2:{leaf_port}"
allow_plaintext = true

[journal]
checkpoint_interval = "10s"
checkpoint_interval_min = "1s"

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
name = "ledger"
topics = ["plant/+/ledger"]
time = {{ field = "ts", format = "ms" }}
reduce = "none"
"""

BROKER = """
per_listener_settings true
max_inflight_messages 4000
max_queued_messages 100000
persistence false
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false

listener 1883 127.0.0.1
allow_anonymous true

listener 8883
allow_anonymous false
password_file /run/credentials/mosquitto.service/mosquitto.passwords
certfile /run/credentials/mosquitto.service/mosquitto.certificate
keyfile /run/credentials/mosquitto.service/mosquitto.key
"""


def password_line(user, password):
    """What mosquitto_passwd writes: PBKDF2 with SHA-512."""
    salt = hashlib.sha256(user.encode()).digest()[:12]
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    return f"{user}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(derived).decode()}\n"


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


def card(folder, image, leaf_port, confirm_after="15s"):
    """A copy of the card image with this site's files on its ESP; returns it and the authority's certificate."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    disk = folder / "card.img"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(image), str(disk)], check=True)
    ca = certificates(folder / "keys")
    files = {
        "name": "press-hall-3\n",
        "frond.toml": FROND.format(leaf_port=leaf_port, confirm_after=confirm_after),
        "mosquitto/mosquitto.conf": BROKER,
        "secrets/mosquitto.passwords": password_line("machine", PASSWORD),
        "secrets/mosquitto.certificate": (folder / "keys/gateway.pem").read_text(),
        "secrets/mosquitto.key": (folder / "keys/gateway.key").read_text(),
    }
    drop(disk, folder / "esp", files)
    return disk, ca


def drop(disk, folder, files):
    """Puts files into the folder `frond` of a card's ESP, which begins at the first MiB."""
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        parent = str(pathlib.PurePosixPath(name).parent)
        if parent != ".":
            subprocess.run(["mmd", "-i", f"{disk}@@1M", f"::frond/{parent}"], env=environment, capture_output=True)
        subprocess.run(["mcopy", "-o", "-i", f"{disk}@@1M", str(path), f"::frond/{name}"], env=environment, check=True)
