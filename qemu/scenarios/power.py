"""Power that goes."""

import random
import threading
import time

from machine import Broken, eventually
from river import arrived, complete, connect, durable, payloads

# The same cuts every time; another seed may be tried by hand.
SEED = 20


def power_cuts_while_ingesting_lose_nothing_durable(stage):
    """Cuts at random moments with unflushed writes lost; whatever frond had called durable is at the hub, once."""
    dice = random.Random(SEED)
    machine = stage.settled("cuts")
    sent = kept = 0
    for _ in range(3):
        machine.freeze()
        machine.start().ready()
        plant = connect(stage, machine)
        before = kept
        began = machine.status()["store"]["readings"]
        until = dice.uniform(3, 12)
        started = time.monotonic()
        while time.monotonic() - started < until:
            plant.publish("plant/1/ledger", payloads(sent, 50))
            sent += 50
            if dice.random() < 0.3:
                # Sent in order on one connection: the first so many are the durable ones.
                kept = max(kept, before + machine.status()["store"]["readings"] - began)
        # The cut comes in the middle of more of them.
        rest = threading.Thread(target=pour, args=(plant, sent), daemon=True)
        rest.start()
        time.sleep(dice.uniform(0.05, 0.6))
        machine.cut()
        rest.join(10)
        if kept < sent:
            # What was on its way is sent again from where the account stands, as a sensor would that kept it.
            sent = kept
    hub = stage.hub("cuts").start()
    try:
        machine.start().ready()
        connect(stage, machine).publish("plant/1/ledger", payloads(sent, 50))
        total = sent + 50
        eventually("the ledger is complete", lambda: len(set(arrived(hub))) >= total, 240)
        numbers = arrived(hub)
        missing = set(range(total)) - set(numbers)
        if missing:
            raise Broken(f"{len(missing)} durable readings are lost, the first of them {min(missing)}")
        aside = machine.status()["store"]["set_aside"]
        if aside:
            raise Broken(f"the database was set aside as {aside}")
        machine.cut()
        return f"3 cuts, {kept} durable readings"
    finally:
        hub.stop()


def pour(plant, first):
    try:
        plant.publish("plant/1/ledger", payloads(first, 400))
    except Exception:  # the other side is gone: that is the point
        pass


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
    """A new board's empty variables: the starter makes the entries anew from the record on the data partition."""
    machine = stage.settled("lost")
    import shutil

    from machine import VARIABLES

    shutil.copyfile(VARIABLES, machine.variables)
    machine.start()
    machine.shows("starter: slot a is next, confirmed: a")
    machine.ready()
    if (machine.slot(), machine.confirmed()) != ("a", "a"):
        raise Broken("it is in another slot")
    entries = machine.ask("efibootmgr")
    machine.cut()
    if "frond-a" not in entries:
        raise Broken("it has no entries")


SCENARIOS = [
    power_cuts_while_ingesting_lose_nothing_durable,
    rapid_power_cycles_never_change_the_slot,
    a_gateway_that_lost_its_firmware_variables_keeps_its_version,
]
