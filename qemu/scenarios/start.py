"""The first start of a card, with and without a site's files."""

import re
import subprocess

import sensor
from machine import Broken, eventually
from plant import PASSWORD


def a_fresh_card_boots_ingests_and_says_what_is_missing(stage):
    """Firmware without a memory finds the starter; it starts slot a on trial; nothing was provisioned, and it says so."""
    machine = stage.machine("fresh", disk=stage.card).start()
    machine.shows("starter: slot a is next, confirmed: none")
    machine.shows("growing the data partition")
    machine.ready()
    machine.shows("frond: look: no sensor can reach this gateway")
    if machine.slot() != "a":
        raise Broken("it is not in slot a")
    size = int(machine.ask("df -k /var | tail -n 1 | awk '{print $2}'"))
    if size < 1_000_000:
        raise Broken(f"the data partition has {size} KiB of a 2 GiB card: it did not grow")
    options = machine.ask("grep ' /var ' /proc/mounts").split()[3]
    for option in ("nosuid", "nodev", "noexec"):
        if option not in options.split(","):
            raise Broken(f"/var is mounted without {option}")
    # What is listening, on what is not loopback: only what asks for an address.
    listening = machine.ask("netstat -lnt | awk 'NR > 2 {print $4}' | grep -v -e '^127' -e '^::1' || true")
    if listening:
        raise Broken(f"something listens on the network: {listening}")
    if re.search(r"[^:*!]", machine.ask("cut -d: -f2 /etc/shadow").replace("\n", "")):
        raise Broken("somebody has a password")
    failed = machine.ask("systemctl list-units --failed --plain --no-legend || true")
    if failed:
        raise Broken(f"units failed: {failed}")
    identity = machine.ask("cat /etc/machine-id /etc/hostname")
    machine.cut()
    machine.start().ready()
    if machine.ask("cat /etc/machine-id /etc/hostname") != identity:
        raise Broken("it is somebody else after a restart")


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
    kept = machine.ask("cat /var/lib/site/credstore.encrypted/* | grep -c -e 'PRIVATE KEY' || true")
    if kept != "0":
        raise Broken("a key is kept in the clear")
    reading = sensor.connect(machine.mqtt_port, stage.ca, username="machine", password=PASSWORD)
    reading.publish("plant/9/press", ['{"ts": 1763990000000, "rpm": 1480}'])
    try:
        sensor.Sensor(machine.mqtt_port, stage.ca, name="stranger")
        raise Broken("MQTT lets in somebody without a password")
    except sensor.Refused:
        pass
    eventually("frond has the reading", lambda: machine.status()["store"]["readings"] >= 1, 60)
    entries = machine.ask("efibootmgr")
    order = re.search(r"BootOrder: (\w+)", entries).group(1)
    if f"Boot{order}* frond-a" not in entries or re.search(r"BootOrder:.*" + re.search(r"Boot(\w+)\* frond-b", entries).group(1), entries):
        raise Broken(f"the order of starts is not slot a alone: {entries}")
    machine.stop()
    stage.keep_settled(machine)
    esp = machine.folder / "esp.img"
    disk = stage.work / "settled/disk.qcow2"
    subprocess.run(["qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "skip=1", "count=65", f"if={disk}", f"of={esp}"], check=True)
    if any(secret in esp.read_bytes() for secret in (b"PRIVATE KEY", b"machine:$7$")):
        raise Broken("secrets can still be read from the ESP's sectors")


SCENARIOS = [a_fresh_card_boots_ingests_and_says_what_is_missing, a_provisioned_card_is_a_site_gateway_and_confirms_its_slot]
