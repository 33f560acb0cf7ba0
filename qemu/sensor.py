"""A machine on the plant floor: MQTT 3.1.1 over TLS, QoS 1. Small, and it keeps account of what was acknowledged."""

import select
import socket
import ssl
import struct
import time


class Refused(Exception):
    pass


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def packet(kind, body):
    length, size = b"", len(body)
    while True:
        size, digit = size >> 7, size & 0x7F
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


class Sensor:
    def __init__(self, port, ca, name="press-1", username=None, password=None, seconds=30, server="gateway"):
        plain = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        context = ssl.create_default_context(cafile=ca)
        self.link = context.wrap_socket(plain, server_hostname=server)
        flags = 2 | (0x80 if username else 0) | (0x40 if password else 0)
        body = text("MQTT") + bytes([4, flags]) + struct.pack(">H", 600) + text(name)
        body += (text(username) if username else b"") + (text(password) if password else b"")
        self.link.sendall(packet(0x10, body))
        kind, answer = self.receive()
        if kind != 0x20 or answer[1] != 0:
            raise Refused(f"CONNACK {answer.hex()}")
        self.next, self.waiting, self.acknowledged = 0, [], 0

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.link.recv(count - len(data))
            if not part:
                raise Refused("the connection was closed")
            data += part
        return data

    def receive(self):
        kind, length, shift = self.exactly(1)[0], 0, 0
        while True:
            digit = self.exactly(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return kind, self.exactly(length)

    def publish(self, topic, payloads):
        """Sends all payloads and waits for their acknowledgements: what it returns for is on the gateway's flash."""
        for payload in payloads:
            self.send(topic, payload)
        if self.collect():
            raise Refused(f"{len(self.waiting)} messages are not acknowledged")

    def send(self, topic, payload):
        self.next = self.next % 65535 + 1
        self.waiting.append(self.next)
        self.link.sendall(packet(0x32, text(topic) + struct.pack(">H", self.next) + payload.encode()))

    def collect(self, seconds=120):
        """Waits until everything sent is acknowledged. Returns how much is not, when the time is over."""
        deadline = time.monotonic() + seconds
        while self.waiting and self.part(deadline - time.monotonic()):
            pass
        return len(self.waiting)

    def part(self, seconds):
        """One acknowledgement more, if it begins to come in time. A cut connection raises."""
        if seconds <= 0 or not (self.link.pending() or select.select([self.link], [], [], seconds)[0]):
            return False
        kind, body = self.receive()
        if kind == 0x40:
            self.waiting.remove(struct.unpack(">H", body[:2])[0])
            self.acknowledged += 1
        return True

    def close(self):
        self.link.close()


def connect(port, ca, seconds=120, **more):
    """Tries until the gateway accepts it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Sensor(port, ca, **more)
        except (OSError, Refused):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
