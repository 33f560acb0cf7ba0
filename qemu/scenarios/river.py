"""Readings from a sensor to the hub, over the network a gateway has."""

import json
import random
import socket
import time

import sensor
from machine import Broken, eventually
from plant import PASSWORD

# Readings carry their own times, a tenth of a second apart, from a minute the guest's clock has long passed.
FIRST_MS = 1_764_000_000_000


def payloads(first, count):
    return [json.dumps({"ts": FIRST_MS + 100 * n, "n": n}) for n in range(first, first + count)]


def connect(stage, machine, name="press-1", seconds=180):
    return sensor.connect(machine.mqtt_port, stage.ca, seconds=seconds, name=name, username="machine", password=PASSWORD)


def arrived(hub, stream="ledger"):
    """Numbers of a stream's readings at the hub, with repetitions."""
    rows = hub.query("SELECT CAST(value AS INTEGER) FROM reading JOIN series ON series.id = reading.series WHERE stream = ? AND name LIKE '%/n'", stream)
    return sorted(number for (number,) in rows)


def complete(numbers, expected):
    """Each of the expected numbers once."""
    twice = {n for n in numbers if numbers.count(n) > 1} if len(set(numbers)) != len(numbers) else set()
    if twice:
        raise Broken(f"{len(twice)} readings arrived twice, the first of them {min(twice)}")
    missing = set(expected) - set(numbers)
    if missing:
        raise Broken(f"{len(missing)} of {len(expected)} readings never arrived, the first of them {min(missing)}")


def durable(machine, count):
    eventually(f"{count} readings are durable", lambda: machine.status()["store"]["readings"] >= count, 120)


def a_reading_at_mqtt_arrives_reduced_at_the_hub(stage):
    """MQTT over TLS with a password in; windows and single readings out at a hub; nothing else listens to the plant."""
    machine = stage.running("river")
    hub = stage.hub("river", machine).start()
    try:
        plant = connect(stage, machine)
        plant.publish("plant/1/press", [json.dumps({"ts": FIRST_MS + 100 * n, "rpm": 1400 + n % 50}) for n in range(200)])
        plant.publish("plant/1/ledger", payloads(0, 300))
        eventually("the ledger is complete", lambda: len(arrived(hub)) >= 300, 180)
        complete(arrived(hub), range(300))
        # 200 readings over 20 s are four windows of 5 s; the last closes only when time goes on.
        windows = eventually(
            "three windows arrive",
            lambda: [row for row in hub.query("SELECT count, min, max, sum FROM window JOIN series ON series.id = window.series WHERE name = 'plant/1/press/rpm' ORDER BY start") if row] or None,
            180,
        )
        expected = [[1400 + n % 50 for n in range(at, at + 50)] for at in (0, 50, 100)]
        for window, values in zip(windows, expected):
            if (window[0], float(window[1]), float(window[2]), float(window[3])) != (50, min(values), max(values), sum(values)):
                raise Broken(f"a window says {window}, and should say {(50, min(values), max(values), sum(values))}")
        status = machine.status()
        if status["link"]["state"] != "up" or status["complaints"]:
            raise Broken(f"the gateway complains: {status['complaints']}")
        for port, what in ((machine.ssh_port, "SSH without a key"), (machine.open_port, "MQTT in the clear")):
            if answers(port):
                raise Broken(f"{what} is reachable from the network")
        compiled = machine.ask("journalctl -u frond --no-pager -o cat | grep -c 'compiling component' || true")
        if compiled != "0":
            raise Broken("the component that the image brings compiled was compiled again")
        machine.cut()
        return f"{len(windows)} windows, 300 readings"
    finally:
        hub.stop()


def answers(port):
    """Whether anything behind the forwarded port takes a connection and says something, or at least keeps it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.settimeout(3)
            link.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            return bool(link.recv(1))
    except OSError:
        return False


# Random floats do not compress: a message takes some 4 KiB of the buffer, which for this stream has 64.
MESSAGE = 500
FULL = "buffer is full"


def a_full_buffer_survives_a_restart_without_network_and_drains(stage):
    """No hub: readings go in until the buffer has no room and nothing more is acknowledged. It boots without a cable, as full as
    it was; once there is a hub it takes readings again, and delivers all of them."""
    machine = stage.running("offline")
    hub = stage.hub("offline", machine)
    dice, sent = random.Random(1), 0

    def message():
        nonlocal sent
        sent += MESSAGE
        return json.dumps([{"ts": FIRST_MS + 100 * n, "n": n, "noise": dice.random()} for n in range(sent - MESSAGE, sent)])

    plant = connect(stage, machine)
    while not (plant.collect(20) and any(FULL in complaint for complaint in machine.status()["complaints"])):
        if sent > 100_000:
            raise Broken(f"{sent} readings are acknowledged with a buffer that has no room for them")
        for _ in range(4):
            plant.send("plant/1/full", message())
    # Acknowledgements come in the order of the messages; what has none the sensor keeps.
    sent = taken = plant.acknowledged * MESSAGE
    machine.stop()
    machine.start(link=False).ready()
    held = machine.status()
    if held["link"]["state"] == "up":
        raise Broken("the link is up without a network")
    if held["store"]["outbox_rows"] == 0:
        raise Broken("the buffer is empty after the restart")
    machine.monitor("set_link", name="nic", up=True)
    plant = connect(stage, machine)
    for _ in range(4):
        plant.send("plant/1/full", message())
    if not plant.collect(20):
        raise Broken("the buffer has forgotten that it is full")
    try:
        hub.start()
        if plant.collect(240):
            raise Broken("with a hub there is room, and what waited is not acknowledged")
        eventually("everything is at the hub", lambda: len(arrived(hub, "full")) >= sent, 240)
        complete(arrived(hub, "full"), range(sent))
        machine.cut()
        return f"full after {taken} readings"
    finally:
        hub.stop()


SCENARIOS = [a_reading_at_mqtt_arrives_reduced_at_the_hub, a_full_buffer_survives_a_restart_without_network_and_drains]
