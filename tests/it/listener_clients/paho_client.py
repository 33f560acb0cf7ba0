"""Publishes readings and talks to itself, once in each version of MQTT. Arguments: port, readings in each version."""

import sys
import threading

import paho.mqtt.client as mqtt

PORT, READINGS = int(sys.argv[1]), int(sys.argv[2])
SECONDS_MAX = 20


def client(name, version):
    made = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=version)
    connected = threading.Event()
    made.on_connect = lambda c, data, flags, reason, properties: connected.set()
    made.connect("127.0.0.1", PORT)
    made.loop_start()
    assert connected.wait(SECONDS_MAX), "no CONNACK"
    return made


def talk(version, first_ms):
    panel, sensor = client("panel", version), client("sensor", version)
    seen, complete, subscribed = [], threading.Event(), threading.Event()

    def on_message(c, data, message):
        seen.append((message.topic, message.payload, message.retain))
        if len(seen) == READINGS + 1:
            complete.set()

    panel.on_message = on_message
    panel.on_subscribe = lambda c, data, mid, reasons, properties: subscribed.set()
    sensor.publish("state/press", b"on", qos=1, retain=True).wait_for_publish(SECONDS_MAX)
    panel.subscribe([("state/+", 1), ("plant/+/state", 1)])
    assert subscribed.wait(SECONDS_MAX), "no SUBACK"
    sent = []
    for n in range(READINGS):
        payload = b'{"ts":%d,"v":%d}' % (first_ms + n, n)
        sent.append(sensor.publish("plant/paho/state", payload, qos=1 + n % 2))
    for message in sent:
        message.wait_for_publish(SECONDS_MAX)
    assert complete.wait(SECONDS_MAX), "%d of %d messages" % (len(seen), READINGS + 1)
    assert seen[0] == ("state/press", b"on", True), seen[0]
    assert [payload for _, payload, _ in seen[1:]] == [b'{"ts":%d,"v":%d}' % (first_ms + n, n) for n in range(READINGS)]
    for each in (panel, sensor):
        each.disconnect()
        each.loop_stop()


talk(mqtt.MQTTv311, 1700000000000)
talk(mqtt.MQTTv5, 1700001000000)
