"""What a start costs, against the same kernel with a first program that only prints. Not a claim: only by name."""

import re

from machine import Broken
from river import FIRST_MS, connect

# One core, one nanosecond of the guest's time for each of its instructions: what it was not idle for, it has executed.
COUNTED = ("-smp", "1", "-icount", "shift=0")
PRINTS = 'rdinit=/bin/busybox -- sh -c "busybox mount -t proc proc /proc; busybox cat /proc/uptime; busybox sleep 1000"'


def spent(text):
    """/proc/uptime: seconds since the kernel began, and seconds that cores were idle since."""
    since, idle = re.search(r"(\d+\.\d+) (\d+\.\d+)", text).groups()
    return float(since), float(idle)


def bare(stage, name, *more):
    machine = stage.settled(name).start(*more, arguments=PRINTS, shell=False)
    told = machine.shows(r"\n(\d+\.\d+ \d+\.\d+)\n").group(1)
    machine.cut()
    return spent(told)


def whole(stage, name, *more):
    machine = stage.settled(name).start(*more).ready()
    connect(stage, machine).publish("plant/1/ledger", [f'{{"ts": {FIRST_MS}, "n": 0}}'])
    told = machine.ask("cat /proc/uptime")
    if machine.status()["store"]["readings"] < 1:
        raise Broken("what was acknowledged is not there")
    machine.cut()
    return spent(told)


def the_way_from_the_kernel_to_the_first_durable_reading_is_measured(stage):
    """Seconds in the guest, and instructions, against a first program that prints."""
    prints, gateway = bare(stage, "bare")[0], whole(stage, "whole")[0]
    work = [1000 * (since - idle) for since, idle in (bare(stage, "bare-counted", *COUNTED), whole(stage, "whole-counted", *COUNTED))]
    return f"{gateway:.1f} s, a print {prints:.1f} s; {work[1]:.0f} million instructions, a print {work[0]:.0f} million"


SCENARIOS = [the_way_from_the_kernel_to_the_first_durable_reading_is_measured]
