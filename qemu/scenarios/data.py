"""The data partition, the clock, a hung frond, and forgetting."""

import json
import random
import time

from machine import Broken, eventually
from river import FIRST_MS, connect, durable, payloads

# Takes all the room there is, the file system's reserve for root included.
FILL = """n=0; for size in 512M 64M 8M 1M 64k 4k; do while fallocate -l $size /var/tmp/fill$n 2>/dev/null; do n=$((n + 1)); done; done
dd if=/dev/zero of=/var/tmp/fill bs=4k 2>/dev/null; sync; true"""


def a_full_disk_and_a_hung_frond_are_survived(stage):
    """Full: nothing more is acknowledged, and it says so, until there is room. Hung: the watchdog restarts frond."""
    machine = stage.running("full")
    plant = connect(stage, machine)
    plant.publish("plant/1/ledger", payloads(0, 100))
    machine.ask(FILL, 300)
    dice, sent = random.Random(1), 0
    deadline = time.monotonic() + 240
    # It takes them as long as there is room in what it had reserved.
    while plant.collect(15) == 0:
        if time.monotonic() > deadline:
            raise Broken(f"{sent} readings are acknowledged on a disk that is full")
        for _ in range(10):
            plant.send("plant/1/press", json.dumps([{"ts": FIRST_MS + 100 * (sent + n), "rpm": dice.random()} for n in range(500)]))
            sent += 500
    eventually("it complains of the database", lambda: any("database cannot be written" in c for c in machine.status()["complaints"]), 60)
    machine.ask("rm -f /var/tmp/fill*")
    if plant.collect(120):
        raise Broken("what waited is not acknowledged although there is room again")
    durable(machine, 100 + sent)
    first = machine.ask("systemctl show -p MainPID --value frond")
    machine.ask(f"kill -STOP {first}")
    machine.shows(r"frond.service: Watchdog timeout")
    eventually("frond runs again", lambda: machine.run("frond status >/dev/null 2>&1")[0] in (0, 4) and machine.ask("systemctl show -p MainPID --value frond") not in (first, "0"), 240)
    machine.cut()
    return f"full after {sent} readings"


# Where ext4 keeps copies of its first block, and the folders' beginnings: every 128 MiB.
WIPE = "n=0; while dd if=/dev/zero of=/dev/disk/by-partlabel/frond-data bs=1M count=8 seek=$n conv=fsync 2>/dev/null; do n=$((n + 128)); [ $n -lt 1400 ] || break; done; true"


def a_damaged_data_partition_is_repaired_or_made_anew(stage):
    """The first blocks overwritten: repaired from a copy. All metadata gone: made anew, and the slot is still known."""
    machine = stage.running("damaged")
    machine.ask("sync; dd if=/dev/urandom of=/dev/disk/by-partlabel/frond-data bs=4096 count=1 conv=fsync 2>/dev/null")
    machine.cut()
    machine.start()
    machine.shows("the data partition had lost its first block, repaired")
    machine.ready()
    if machine.ask("hostname") != "press-hall-3":
        raise Broken("what was provisioned is lost")
    machine.ask(WIPE, 300)
    machine.cut()
    machine.start()
    machine.shows("making the data partition")
    machine.ready()
    if machine.slot() != "a":
        raise Broken("it is in another slot")
    machine.cut()


def a_clock_at_1970_without_network_is_not_believed(stage):
    """No time from anywhere: readings are taken and kept, and the status says that the clock is not trusted."""
    machine = stage.settled("clock").start("-rtc", "base=1970-01-01T00:00:00", link=False).ready()
    machine.monitor("set_link", name="nic", up=True)
    connect(stage, machine).publish("plant/1/ledger", payloads(0, 10))
    durable(machine, 10)
    status = machine.status()
    if status["clock_trusted"]:
        raise Broken("it trusts a clock that nobody has set")
    machine.cut()


def a_reset_forgets_everything_but_the_slot(stage):
    """By an argument of the kernel, by command, and by a file on the ESP: databases, secrets and name go; the confirmed slot
    stays."""
    machine = stage.settled("reset").start(arguments="frond.reset")
    machine.shows("reset asked for by the kernel's arguments")
    machine.ready()
    forgotten(machine)
    machine.ask(f"{MARK}; frond reset --yes; sync")
    machine.cut()
    # The argument is still there, and has been heard; the command counts.
    machine.start(arguments="frond.reset")
    machine.shows("reset asked for on the gateway")
    machine.ready()
    forgotten(machine)
    machine.ask(f"{MARK}; mkdir -p /run/esp; mount -t vfat /dev/disk/by-partlabel/frond-esp /run/esp; : >/run/esp/frond/reset; umount /run/esp; sync")
    machine.cut()
    machine.start()
    machine.shows("reset asked for on the ESP")
    machine.ready()
    forgotten(machine)
    if machine.run("mount -t vfat /dev/disk/by-partlabel/frond-esp /run/esp; test -e /run/esp/frond/reset")[0] == 0:
        raise Broken("the wish is still on the ESP")
    machine.cut()


# What a reset must take away.
MARK = "echo mark >/var/lib/site/mark"


def forgotten(machine):
    if machine.ask("hostname") == "press-hall-3":
        raise Broken("it still has its name")
    if "mqtt-machine" in machine.ask("ls /var/lib/site/credstore.encrypted"):
        raise Broken("it still has secrets")
    if machine.run("test -e /var/lib/site/mark")[0] == 0:
        raise Broken("the reset did nothing")
    if (machine.slot(), machine.confirmed()) != ("a", "a"):
        raise Broken(f"slot {machine.slot()} is booted, {machine.confirmed() or 'none'} confirmed")


SCENARIOS = [
    a_full_disk_and_a_hung_frond_are_survived,
    a_damaged_data_partition_is_repaired_or_made_anew,
    a_clock_at_1970_without_network_is_not_believed,
    a_reset_forgets_everything_but_the_slot,
]
