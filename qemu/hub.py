"""The cloud's side on the host: a nats-server with JetStream that gateways' leaf nodes connect to, and `frond hub` that
keeps what arrives."""

import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import time

from machine import LEAF, Broken, eventually, free_port


def program(name, variable):
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is missing; .ci/deps image installs it")
    return found


def frond(tree):
    """The image's frond on this machine, under user-mode emulation: no second build of it is needed."""
    return [program("qemu-aarch64", "FROND_QEMU_USER"), "-L", str(tree), str(tree / "usr/bin/frond")]


class Hub:
    def __init__(self, folder, tree, leaf_port):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tree = tree
        self.leaf_port, self.port = leaf_port, free_port()
        self.rows_file = self.folder / "rows.db"
        self.server = self.keeper = None

    def start(self):
        config = self.folder / "hub.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nserver_name: hub\n'
            f'leafnodes {{ listen: "127.0.0.1:{self.leaf_port}", advertise: "{LEAF}" }}\n'
            f'jetstream {{ domain: hub, store_dir: "{self.folder}/jetstream", max_mem: 64M, max_file: 1G }}\n'
        )
        log = open(self.folder / "hub.log", "ab")
        self.server = subprocess.Popen([program("nats-server", "FROND_NATS_SERVER"), "-c", str(config)], stdout=log, stderr=log)
        eventually("the hub listens", self.listens, 30)
        self.keeper = subprocess.Popen(
            [*frond(self.tree), "hub", "--url", f"nats://127.0.0.1:{self.port}", "--sqlite", str(self.rows_file)], stdout=log, stderr=log
        )
        return self

    def listens(self):
        if self.server.poll() is not None:
            raise Broken(f"the hub does not start: {(self.folder / 'hub.log').read_text()[-500:]}")
        return f"Listening for leafnode connections" in (self.folder / "hub.log").read_text()

    def stop(self):
        for process in (self.keeper, self.server):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.server = self.keeper = None

    def query(self, sql, *values):
        """Rows of what arrived; none while nothing has."""
        if not self.rows_file.exists():
            return []
        for _ in range(20):
            try:
                with sqlite3.connect(f"file:{self.rows_file}?mode=ro", uri=True, timeout=10) as rows:
                    return rows.execute(sql, values).fetchall()
            except sqlite3.OperationalError as err:
                if "no such table" in str(err):
                    return []
                time.sleep(0.2)
        raise Broken("what the hub keeps cannot be read")
