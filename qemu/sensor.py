"""A machine on the plant floor: MQTT 3.1.1 over TLS, QoS 1. Small, and it keeps account of what was acknowledged."""

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
    def __init__(self, port, ca, name="press-1", username=None, password=None, seconds=30):
        plain = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        context = ssl.create_default_context(cafile=ca)
        self.link = context.wrap_socket(plain, server_hostname="gateway")
        flags = 2 | (0x80 if username else 0) | (0x40 if password else 0)
        body = text("MQTT") + bytes([4, flags]) + struct.pack(">H", 600) + text(name)
        body += (text(username) if username else b"") + (text(password) if password else b"")
        self.link.sendall(packet(0x10, body))
        kind, answer = self.receive()
        if kind != 0x20 or answer[1] != 0:
            raise Refused(f"CONNACK {answer.hex()}")
        self.next = 0

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
        """Sends all payloads, then collects their acknowledgements; returns how many came."""
        waiting = set()
        for payload in payloads:
            self.next = self.next % 65535 + 1
            waiting.add(self.next)
            self.link.sendall(packet(0x32, text(topic) + struct.pack(">H", self.next) + payload.encode()))
        count = len(waiting)
        while waiting:
            kind, body = self.receive()
            if kind == 0x40:
                waiting.discard(struct.unpack(">H", body[:2])[0])
        return count

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
