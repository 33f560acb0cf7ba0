"""Power that goes."""

import random
import re
import shutil
import subprocess
import threading
import time

from hub import frond, program
from machine import VARIABLES, Broken, eventually
from plant import LEDGER
from river import arrived, complete, connect, payloads
from writes import Replay

# The same cuts every time; another seed may be tried by hand.
SEED = 20


def power_cuts_while_ingesting_lose_nothing_acknowledged(stage):
    """Cuts at random moments with unflushed writes lost; whatever was acknowledged to the sensor is at the hub, once."""
    dice = random.Random(SEED)
    machine = stage.running("cuts")
    sent = 0
    for round in range(3):
        if round:
            machine.freeze()
            machine.start().ready()
        plant = connect(stage, machine)
        until = time.monotonic() + dice.uniform(3, 10)
        while time.monotonic() < until:
            plant.publish("plant/1/ledger", payloads(sent, 50))
            sent += 50
        # The cut comes in the middle of more of them.
        before = plant.acknowledged
        rest = threading.Thread(target=pour, args=(plant, sent), daemon=True)
        rest.start()
        time.sleep(dice.uniform(0.05, 2.5))
        machine.cut()
        rest.join(30)
        # What was on its way is sent again, as a sensor would that kept it; what was acknowledged is not.
        sent += plant.acknowledged - before
    hub = stage.hub("cuts", machine).start()
    try:
        machine.start().ready()
        connect(stage, machine).publish("plant/1/ledger", payloads(sent, 400))
        total = sent + 400
        eventually("the ledger is complete", lambda: len(set(arrived(hub))) >= total, 240)
        complete(arrived(hub), range(total))
        aside = machine.status()["store"]["set_aside"]
        if aside:
            raise Broken(f"the database was set aside as {aside}")
        machine.cut()
        return f"3 cuts, {sent} acknowledged readings"
    finally:
        hub.stop()


def pour(plant, first):
    try:
        plant.publish("plant/1/ledger", payloads(first, 400))
    except Exception:  # the other side is gone: that is the point
        pass


def a_cut_at_every_flush_keeps_what_was_acknowledged(stage):
    """Every write is logged; the disk as it was at each flush of a run, nothing later on it, is checked: the file system is
    whole, and the gateway's databases give a hub everything that had been acknowledged by then."""
    log = stage.work / "flushes/writes.log"
    machine = stage.running("flushes", log)
    plant = connect(stage, machine)
    account, sent = [], 0
    for _ in range(10):
        plant.publish("plant/1/ledger", payloads(sent, 40))
        sent += 40
        account.append((log.stat().st_size, sent))
    machine.cut()
    disk = machine.folder / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(stage.work / "settled/running.qcow2"), str(disk)], check=True)
    replay = Replay(log, disk)
    # From before the first acknowledgement on.
    flushes = [index for index, entry in enumerate(replay.entries) if entry.flushes]
    first = next(number for number, index in enumerate(flushes) if replay.entries[index].end >= account[0][0])
    if len(flushes) - first < len(account):
        raise Broken(f"{len(flushes) - first} flushes in a run of {len(account)} groups: acknowledged without a flush?")
    for number, index in enumerate(flushes):
        replay.until(index)
        promised = max((readings for written, readings in account if written <= replay.entries[index].end), default=0)
        given_back(stage, machine.folder / f"cut-{number}", disk, promised)
    return f"{len(flushes)} flushes, {sent} readings"


# The MiB where the data partition begins: behind ESP, boot and root partitions, as image/settings has them.
DATA_AT = 1 + 64 + 2 * 64 + 2 * 256


def given_back(stage, folder, disk, promised):
    """The data partition of a disk has all promised readings: frond, started on its databases, brings them to a hub."""
    folder.mkdir()
    copy = folder / "data.raw"
    subprocess.run(["dd", f"if={disk}", f"of={copy}", "bs=1M", f"skip={DATA_AT}", "conv=sparse", "status=none"], check=True)
    # The image's own e2fsck: an older one takes a mark of a newer file system for damage.
    check = [program("qemu-aarch64", "FROND_QEMU_USER"), "-L", str(stage.tree), str(stage.tree / "usr/sbin/e2fsck")]
    checked = subprocess.run([*check, "-fy", str(copy)], capture_output=True, text=True)
    if checked.returncode not in (0, 1):
        raise Broken(f"{folder.name}: the file system is damaged: {checked.stdout[-300:]}")
    subprocess.run(["debugfs", "-R", f"rdump /lib/frond {folder}", str(copy)], check=True, capture_output=True)
    copy.unlink()
    hub = stage.hub(f"flushes/{folder.name}").start()
    config = folder / "frond.toml"
    config.write_text(
        f'[gateway]\nname = "press-hall-3"\ndata_dir = "{folder}/frond"\ncache_dir = "{folder}/cache"\nrun_dir = "{folder}/run"\n'
        f'[lattice]\nmode = "direct"\njetstream_domain = "hub"\n[lattice.direct]\nurl = "nats://127.0.0.1:{hub.port}"\n{LEDGER}'
        '[[listener]]\nname = "local"\nbind = "127.0.0.1:0"\n'
    )
    with open(folder / "frond.log", "wb") as log:
        gateway = subprocess.Popen([*frond(stage.tree), "run", "--config", str(config)], stdout=log, stderr=log)
    try:
        eventually(f"{folder.name}: {promised} readings come back", lambda: len(set(arrived(hub)) & set(range(promised))) == promised, 120)
        complete(arrived(hub), range(promised))
    finally:
        gateway.terminate()
        gateway.wait(60)
        hub.stop()


def rapid_power_cycles_never_change_the_slot(stage):
    """Cuts during firmware, kernel and start-up: no attempt is counted, nothing is damaged, the slot stays."""
    dice = random.Random(SEED)
    machine = stage.settled("cycles")
    for _ in range(6):
        machine.freeze()
        machine.start(shell=False)
        time.sleep(dice.uniform(2, 25))
        machine.cut()
    machine.start().ready()
    if (machine.slot(), machine.confirmed()) != ("a", "a"):
        raise Broken(f"slot {machine.slot()} is booted, {machine.confirmed()} is confirmed")
    machine.never_showed("starter:")
    machine.cut()
    return "6 cuts between 2 and 25 s after power came"


def a_gateway_that_lost_its_firmware_variables_keeps_its_version(stage):
    """A board's memory is empty after an update was confirmed: the starter makes the entries anew from the record on the data
    partition, and starts the slot that is on record, not the first."""
    machine = stage.updated("lost")
    shutil.copyfile(VARIABLES, machine.variables)
    machine.start()
    machine.shows("starter: slot b is next, confirmed: b")
    machine.ready()
    if (machine.slot(), machine.confirmed()) != ("b", "b"):
        raise Broken(f"slot {machine.slot()} is booted, {machine.confirmed()} is confirmed")
    entries = machine.ask("efibootmgr")
    order = re.search(r"BootOrder: (\w+)", entries).group(1)
    if f"Boot{order}* frond-b" not in entries:
        raise Broken(f"slot b is not first in the order of starts: {entries}")
    machine.cut()


SCENARIOS = [
    power_cuts_while_ingesting_lose_nothing_acknowledged,
    a_cut_at_every_flush_keeps_what_was_acknowledged,
    rapid_power_cycles_never_change_the_slot,
    a_gateway_that_lost_its_firmware_variables_keeps_its_version,
]
