"""The first start of a card, with and without a site's files."""

import re
import socket
import ssl
import subprocess

import plant
import sensor
from machine import SECURE_VARIABLES, TEST_KEY, Broken, eventually
from plant import PASSWORD

# CONNECT without a name, and one PUBLISH at QoS 1, as printf(1) takes them.
READING = r"\020\017\000\004MQTT\004\002\000\074\000\003box\062\020\000\004room\000\001{\042t\042:21}"


def a_fresh_card_boots_ingests_and_says_what_is_missing(stage):
    """Firmware without a memory finds the starter; it starts slot a on trial; nothing was provisioned, and it says so. Then a
    USB stick names it and brings a key for SSH, and a hypervisor's credentials name it anew."""
    machine = stage.machine("fresh", disk=stage.card).start()
    machine.shows("starter: slot a is next, confirmed: none")
    machine.shows("growing the data partition")
    machine.ready()
    machine.shows(r"frond: look: nobody can enter listener plant: there is no \[\[user\]\] yet")
    machine.shows("frond: look: link: ")
    if machine.slot() != "a":
        raise Broken("it is not in slot a")
    size = int(machine.ask("df -k /var | tail -n 1 | awk '{print $2}'"))
    if size < 1_000_000:
        raise Broken(f"the data partition has {size} KiB of a 2 GiB card: it did not grow")
    options = machine.ask("grep ' /var ' /proc/mounts").split()[3]
    for option in ("nosuid", "nodev", "noexec"):
        if option not in options.split(","):
            raise Broken(f"/var is mounted without {option}")
    # What is listening, on what is not loopback: MQTT over TLS, and what only asks for an address.
    listening = machine.ask("netstat -lnt | awk 'NR > 2 {print $4}' | grep -v -e '^127' -e '^::1' || true")
    if listening != "0.0.0.0:8883":
        raise Broken(f"something else than MQTT over TLS listens on the network: {listening}")
    if re.search(r"[^:*!]", machine.ask("cut -d: -f2 /etc/shadow").replace("\n", "")):
        raise Broken("somebody has a password")
    failed = machine.ask("systemctl list-units --failed --plain --no-legend || true")
    if failed:
        raise Broken(f"units failed: {failed}")
    its_own_certificate(machine)
    # From the gateway itself it takes readings, and keeps them.
    answer = machine.ask(f"(printf '{READING}'; sleep 6) | nc 127.0.0.1 1883 | hexdump -v -e '1/1 \"%02x\"'")
    if answer != "2002000040020001":
        raise Broken(f"MQTT on the gateway itself answers {answer}, not with CONNACK and PUBACK")
    if machine.status()["store"]["readings"] != 1:
        raise Broken("the reading is not kept")
    a_stick_names_it_and_lets_in_by_ssh(stage, machine)
    kept = machine.status()["store"]["position"]
    identity = machine.ask("cat /etc/machine-id /var/lib/site/mqtt.fingerprint")
    machine.ask("sync")
    machine.cut()
    said = ("-smbios", "type=11,value=io.systemd.credential:frond.name=press-hall-9,value=io.systemd.credential:frond.secret.mqtt-guest=unused")
    machine.start(*said)
    machine.shows("frond-provision: taken over from the hypervisor")
    machine.ready()
    if machine.ask("hostname") != "press-hall-9":
        raise Broken("the hypervisor's credentials do not count")
    if "mqtt-guest" not in machine.ask("ls /var/lib/site/credstore.encrypted"):
        raise Broken("the hypervisor's secret is not kept")
    now = machine.ask("cat /etc/machine-id /var/lib/site/mqtt.fingerprint")
    if now.split()[0] != identity.split()[0]:
        raise Broken("it is somebody else after a restart")
    if now.split()[1] == identity.split()[1]:
        raise Broken("it has a new name, and a certificate with the old one")
    if machine.status()["store"]["position"] < kept:
        raise Broken("what it had kept is gone")


def its_own_certificate(machine):
    """It has made a certificate, says its fingerprint, and serves with it; nobody gets in without a name."""
    said = machine.shows(r"frond: MQTT certificate of its own, SHA-256 ([0-9A-F:]+)").group(1)
    served = ssl.get_server_certificate(("127.0.0.1", machine.mqtt_port), timeout=60)
    file = machine.folder / "served.pem"
    file.write_text(served)
    shown = subprocess.run(["openssl", "x509", "-in", file, "-noout", "-fingerprint", "-sha256"], capture_output=True, text=True, check=True)
    if said not in shown.stdout:
        raise Broken(f"the certificate served is not the one it says: {shown.stdout.strip()}")
    try:
        sensor.Sensor(machine.mqtt_port, file, name="stranger", server=machine.ask("hostname"))
        raise Broken("MQTT lets in somebody without a name")
    except sensor.Refused:
        pass


def a_stick_names_it_and_lets_in_by_ssh(stage, machine):
    key = machine.folder / "ssh-key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "scenario", "-f", str(key)], check=True)
    if speaks_ssh(machine.ssh_port):
        raise Broken("SSH is there before a key was provisioned")
    before = machine.ask("hostname; cat /var/lib/site/mqtt.fingerprint; ls /var/lib/site/credstore.encrypted")
    user = '[[user]]\nname = "oven"\npassword_hash_file = "mqtt-oven"\npublish = ["oven/#"]\n'
    wrong = {"name": "press-hall-7\n", "frond.toml": user, "secrets/mqtt-other": "of somebody else"}
    machine.insert(plant.stick(machine.folder / "wrong", wrong), name="wrong")
    machine.shows("frond-provision: refused.*password hash mqtt-oven")
    if machine.ask("hostname; cat /var/lib/site/mqtt.fingerprint; ls /var/lib/site/credstore.encrypted") != before:
        raise Broken("a part of a refused stick counts")
    machine.insert(plant.stick(machine.folder / "usb", {"name": "press-hall-8\n", "authorized_keys": key.with_suffix(".pub").read_text()}))
    machine.shows("frond-provision: taken over from /dev/sd")
    eventually("SSH answers", lambda: speaks_ssh(machine.ssh_port))
    ssh = ["ssh", "-p", str(machine.ssh_port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=60"]
    done = subprocess.run([*ssh, "-o", "BatchMode=yes", "-i", str(key), "root@127.0.0.1", "hostname"], capture_output=True, text=True, timeout=120)
    if done.stdout.strip() != "press-hall-8":
        raise Broken(f"the provisioned key does not open SSH: {done.stdout} {done.stderr[-300:]}")
    other = [*ssh, "-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes", "root@127.0.0.1", "true"]
    refused = subprocess.run(other, capture_output=True, text=True, timeout=120)
    if refused.returncode == 0 or "password" in refused.stderr.split("Permission denied")[-1]:
        raise Broken(f"SSH offers more than keys: {refused.stderr[-300:]}")
    eventually("frond runs under its new name", lambda: machine.run("frond status >/dev/null 2>&1")[0] in (0, 4), 240)


def speaks_ssh(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.settimeout(10)
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def settle(stage):
    """The first start of a provisioned card, as far as the confirmation of slot a."""
    machine = stage.machine("provisioned").start()
    machine.shows("frond-provision: taken over from")
    machine.ready()
    machine.shows("slot confirmed")
    eventually("slot a is on record", lambda: machine.confirmed() == "a", 60)
    return machine


def a_provisioned_card_is_a_site_gateway_and_confirms_its_slot(stage):
    """Files on the ESP become configuration, name and encrypted secrets, and are gone from the ESP."""
    machine = settle(stage)
    if machine.ask("hostname") != "press-hall-3":
        raise Broken("it does not have its name")
    left = machine.ask("mkdir -p /run/esp; mount -t vfat -o ro /dev/disk/by-partlabel/frond-esp /run/esp; find /run/esp/frond -type f; umount /run/esp")
    if left.split("\n") != ["/run/esp/frond/README.txt"]:
        raise Broken(f"on the ESP there is still: {left}")
    kept = machine.ask("cat /var/lib/site/credstore.encrypted/* | grep -c -e 'PRIVATE KEY' -e argon2 || true")
    if kept != "0":
        raise Broken("a secret is kept in the clear")
    reading = sensor.connect(machine.mqtt_port, stage.ca, username="machine", password=PASSWORD)
    reading.publish("plant/9/press", ['{"ts": 1763990000000, "rpm": 1480}'])
    for wrong in ({}, {"username": "machine", "password": "guessed"}):
        try:
            sensor.Sensor(machine.mqtt_port, stage.ca, name="stranger", **wrong)
            raise Broken("MQTT lets in somebody without a password")
        except sensor.Refused:
            pass
    eventually("frond has the reading", lambda: machine.status()["store"]["readings"] >= 1, 60)
    entries = machine.ask("efibootmgr")
    order = re.search(r"BootOrder: (\w+)", entries).group(1)
    if f"Boot{order}* frond-a" not in entries or re.search(r"BootOrder:.*" + re.search(r"Boot(\w+)\* frond-b", entries).group(1), entries):
        raise Broken(f"the order of starts is not slot a alone: {entries}")
    machine.ask("sync")
    stage.keep_running(machine)
    machine.resumed(stage.work / "settled/running.memory").stop()
    stage.keep(machine, "off")
    esp = machine.folder / "esp.img"
    disk = stage.work / "settled/off.qcow2"
    subprocess.run(["qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "skip=1", "count=65", f"if={disk}", f"of={esp}"], check=True)
    if any(secret in esp.read_bytes() for secret in (b"PRIVATE KEY", b"$argon2id$")):
        raise Broken("secrets can still be read from the ESP's sectors")


def a_board_with_secure_boot_starts_what_is_signed_and_nothing_else(stage):
    """Firmware that knows one key: an image signed with it starts, and its kernel is locked down; one without is refused."""
    folder = stage.work / "secure"
    folder.mkdir()
    key, card = folder / "key.pem", folder / "card.img"
    subprocess.run(["openssl", "rsa", "-in", f"{TEST_KEY}.key", "-passin", "pass:snakeoil", "-out", key], check=True, capture_output=True)
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", stage.card, card], check=True)
    for name, at, place in (("starter", plant.ESP, "EFI/BOOT/BOOTAA64.EFI"), ("frond", plant.BOOT_A, "EFI/frond/frond.efi")):
        signed = folder / f"{name}.efi"
        subprocess.run(["sbsign", "--key", key, "--cert", f"{TEST_KEY}.pem", "--output", signed, stage.images / f"kernel/{name}.efi"], check=True, capture_output=True)
        plant.put(card, at, signed, place)
    refused = stage.machine("refused", disk=stage.card, variables=SECURE_VARIABLES).start()
    refused.shows("Access Denied|Security Violation")
    refused.never_showed("frond-start:")
    refused.cut()
    machine = stage.machine("signed", disk=card, variables=SECURE_VARIABLES).start()
    machine.shows("starter: slot a is next, confirmed: none")
    machine.ready()
    if machine.ask("tail -c 1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c | hexdump -v -e '1/1 \"%d\"'") != "1":
        raise Broken("the firmware says that secure boot is off")
    if "[integrity]" not in machine.ask("cat /sys/kernel/security/lockdown"):
        raise Broken("the kernel is not locked down")
    # What is in the image is signed by Debian; with one byte more behind it, it is not.
    machine.ask("module=$(find /usr/lib/modules -name squashfs.ko) && { cat $module; echo; } >/run/squashfs.ko")
    code, told = machine.run("insmod /run/squashfs.ko")
    if code == 0:
        raise Broken("the kernel takes a module that nobody signed")
    machine.ask("modprobe squashfs")
    machine.cut()


SCENARIOS = [
    a_fresh_card_boots_ingests_and_says_what_is_missing,
    a_provisioned_card_is_a_site_gateway_and_confirms_its_slot,
    a_board_with_secure_boot_starts_what_is_signed_and_nothing_else,
]
