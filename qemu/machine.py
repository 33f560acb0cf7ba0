"""A gateway in QEMU: started from an image, watched by its serial console, asked through the debug shell.

A power cut is SIGKILL on a disk that is a fresh qcow2 overlay: QEMU keeps its allocation tables in memory until the guest
flushes, so what was not flushed is lost. (On a raw file nothing would be.) The firmware's variables are a file beside it.
"""

import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

here = pathlib.Path(__file__).resolve().parent
FIRMWARE = ["/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"]
VARIABLES = "/usr/share/AAVMF/AAVMF_VARS.fd"
# A memory with secure boot on that trusts a test key, and that key: Debian gives everybody both.
SECURE_VARIABLES = "/usr/share/AAVMF/AAVMF_VARS.snakeoil.fd"
TEST_KEY = "/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil"
# An emulated start takes some 40 s of two idle cores; on a machine that is busy with other work ten times that.
PATIENCE = 600
# Where a gateway finds its hub: an address that QEMU alone knows, with the machine's own hub behind it, if there is one.
LEAF = "10.0.2.100:7422"
# Set when everything is to end: who waits is told, and nothing is started any more.
ENDING = threading.Event()


class Broken(Exception):
    """A claim that did not hold, with what was seen instead."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, fact, seconds=PATIENCE, pause=0.5):
    """Waits until `fact()` is true (its value is returned); says what was waited for when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Broken(f"not within {seconds} s: {what}")
        if ENDING.wait(pause):
            raise Broken(f"asked to end while waiting for: {what}")


class Machine:
    def __init__(self, folder, disk, variables=None):
        """`disk` is the image the gateway's disk starts from; `variables` the firmware's memory, empty for a new board."""
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk = self.folder / "disk.qcow2"
        self.variables = self.folder / "variables.fd"
        self.console_file = self.folder / "console.log"
        self.console_file.write_bytes(b"")
        self.overlay(disk)
        shutil.copyfile(variables or VARIABLES, self.variables)
        self.mqtt_port, self.ssh_port, self.open_port, self.leaf_port = (free_port() for _ in range(4))
        self.process = None
        self.shell = None
        self.cpu_seconds = 0.0
        self.seen = 0

    # === disk ===

    def overlay(self, base):
        """A fresh overlay: 2 GiB, so that the data partition has to grow."""
        form = "qcow2" if str(base).endswith(".qcow2") else "raw"
        self.disk.unlink(missing_ok=True)
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(pathlib.Path(base).resolve()), "-F", form]
        subprocess.run([*command, str(self.disk), "2G"], check=True)

    def freeze(self):
        """What is on disk becomes the base of a fresh overlay, so that the next power cut loses again what is not flushed."""
        frozen = self.folder / f"base-{time.monotonic_ns()}.qcow2"
        self.disk.rename(frozen)
        self.overlay(frozen)

    # === power ===

    def start(self, *more, arguments="", init=None, link=True, shell=True, resume=None, log=None):
        """Power comes; with `resume` the machine goes on where another one was suspended, see `suspend`. With `log` every
        write and flush of its disk goes into that file, too."""
        assert self.process is None, "it runs already"
        if ENDING.is_set():
            raise Broken("asked to end")
        for name in ("shell", "monitor"):
            (self.folder / name).unlink(missing_ok=True)
        # The watchdog runs in real time and the guest, on a busy host, does not: it gets more than a gateway's 60 s.
        words = "console=ttyAMA0 systemd.watchdog_sec=240 systemd.journald.forward_to_console=1 systemd.journald.max_level_console=notice"
        words += " frond.debug" if shell else ""
        words += f" init={init}" if init else ""
        words += f" {arguments}" if arguments else ""
        forward = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in self.forwards())
        forward += f",guestfwd=tcp:{LEAF}-cmd:{here}/leaf {self.leaf_port}"
        firmware = next((path for path in FIRMWARE if os.path.exists(path)), None)
        if firmware is None:
            raise SystemExit("the firmware of arm64 machines is missing; .ci/deps image installs it")
        command = [
            "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "512", "-nodefaults", "-nographic",
            "-drive", f"if=pflash,format=raw,readonly=on,file={firmware}",
            "-drive", f"if=pflash,format=raw,file={self.variables}",
            *self.backend(log), "-device", "virtio-blk-pci,drive=disk,romfile=",
            "-device", "i6300esb", "-action", "watchdog=reset",
            "-device", "virtio-rng-pci,romfile=", "-device", "qemu-xhci,id=usb",
            "-netdev", f"user,id=net{forward}", "-device", "virtio-net-pci,id=nic,netdev=net,romfile=",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,path={self.folder}/shell,server=on,wait=off",
            "-device", "virtconsole,chardev=shell",
            "-chardev", f"socket,id=monitor,path={self.folder}/monitor,server=on,wait=off", "-mon", "chardev=monitor,mode=control",
            "-chardev", f"file,id=console,path={self.console_file},append=on", "-serial", "chardev:console",
            "-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=" + words.replace(",", ",,"),
            *(() if link else ("-S",)), *(("-incoming", f"exec:cat {resume}") if resume else ()), *more,
        ]
        self.seen = self.console_file.stat().st_size
        self.errors = open(self.folder / "qemu.log", "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)
        if not link:
            self.monitor("set_link", name="nic", up=False)
            self.monitor("cont")
        return self

    def suspend(self, state):
        """Writes the machine's memory into a file and ends it; its disk and variables belong to that file."""
        self.monitor("stop")
        self.monitor("migrate", uri=f"exec:cat > {state}")
        moved = eventually("the memory is written", lambda: self.monitor("query-migrate").get("status") in ("completed", "failed"), 120) \
            and self.monitor("query-migrate")["status"]
        if moved != "completed":
            raise Broken("the machine cannot be suspended")
        self.count_cpu()
        try:
            self.monitor("quit")
        except (OSError, ValueError):
            pass
        self.process.wait(60)
        self.close(signal.SIGKILL)

    def resumed(self, state, log=None):
        """Goes on from a suspended machine's memory."""
        self.start(resume=state, log=log)
        # It was stopped when its memory was written, and comes back stopped.
        eventually("the memory is read", lambda: self.monitor("query-status")["status"] != "inmigrate", 120)
        self.monitor("cont")
        return self

    def insert(self, disk, locked=False, name="stick"):
        """Puts in a USB stick, maybe one that cannot be written to."""
        file = {"driver": "file", "filename": str(disk)}
        self.monitor("blockdev-add", **{"node-name": name, "driver": "raw", "read-only": locked, "file": file})
        self.monitor("device_add", driver="usb-storage", id=name, drive=name, bus="usb.0")

    def backend(self, log):
        if log is None:
            return ("-drive", f"if=none,id=disk,file={self.disk},format=qcow2,cache=writeback")
        pathlib.Path(log).write_bytes(b"")
        return (
            "-blockdev", f"driver=qcow2,node-name=plain,file.driver=file,file.filename={self.disk}",
            "-blockdev", f"driver=file,node-name=writes,filename={log}",
            "-blockdev", "driver=blklogwrites,node-name=disk,file=plain,log=writes,log-sector-size=512,log-super-update-interval=1",
        )

    def forwards(self):
        return [(self.mqtt_port, 8883), (self.ssh_port, 22), (self.open_port, 1883)]

    def cut(self):
        """The power goes."""
        self.close(signal.SIGKILL)

    def stop(self):
        """An orderly end."""
        self.run("systemctl --no-block poweroff || poweroff -f")
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired as late:
            raise Broken("it does not power off within 120 s") from late
        self.close(signal.SIGKILL)

    def close(self, how):
        if self.process is not None:
            self.count_cpu()
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait()
            self.errors.close()
        if self.shell is not None:
            self.shell.close()
        self.process = self.shell = None

    def count_cpu(self):
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            self.cpu_seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):
            pass

    def monitor(self, command, **arguments):
        """Asks QEMU itself."""
        path = str(self.folder / "monitor")
        eventually("QEMU's monitor", lambda: os.path.exists(path) or self.process.poll() is not None, 30, 0.1)
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(path)
            stream = link.makefile("rw")
            stream.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                while True:
                    answer = json.loads(stream.readline())
                    if "event" not in answer:
                        break
            if "error" in answer:
                raise Broken(f"QEMU refuses {command}: {answer['error']}")
            return answer.get("return")

    # === console ===

    def console(self, everything=False):
        """What the serial console has shown since the last start."""
        with open(self.console_file, "rb") as log:
            log.seek(0 if everything else self.seen)
            text = log.read().decode(errors="replace").replace("\r", "")
        return re.sub(r"\x1b\[[0-9;?=]*[A-Za-z]", "", text)

    def shows(self, pattern, seconds=PATIENCE, times=1):
        """Waits for the console to show a pattern."""

        def fact():
            if self.process.poll() is not None:
                raise Broken(f"QEMU ended while waiting for {pattern!r}: {(self.folder / 'qemu.log').read_text()[-500:]}")
            found = list(re.finditer(pattern, self.console()))
            return found[times - 1] if len(found) >= times else None

        return eventually(f"the console shows {pattern!r}", fact, seconds)

    def never_showed(self, pattern):
        found = re.search(pattern, self.console())
        if found:
            raise Broken(f"the console showed {found.group(0)!r}")

    # === shell ===

    def run(self, command, seconds=120, check=False):
        """Runs a command in the debug shell; returns its exit code and output."""
        if self.shell is None:
            self.shell = self.connect(seconds)
        mark = f"{time.monotonic_ns():x}"
        self.shell.sendall(f"{{ {command}\n}} </dev/null 2>&1; printf '%s%s %s\\n' '@{mark[:4]}' '{mark[4:]}' $?\n".encode())
        text = self.read_until(re.compile(rf"@{mark} (\d+)\n"), seconds, command)
        code = int(re.search(rf"@{mark} (\d+)\n", text).group(1))
        output = text[: text.index(f"@{mark} ")]
        if check and code != 0:
            raise Broken(f"{command!r} ended with {code}: {output.strip()[-500:]}")
        return code, output

    def ask(self, command, seconds=120):
        """The output of a command that must succeed."""
        return self.run(command, seconds, check=True)[1].strip()

    def connect(self, seconds):
        path = str(self.folder / "shell")
        eventually("the debug shell's socket", lambda: os.path.exists(path), 30, 0.1)
        link = socket.socket(socket.AF_UNIX)
        link.connect(path)
        deadline = time.monotonic() + max(seconds, PATIENCE)
        self.shell = link
        while True:
            # Nobody listens before the shell runs; then it must neither echo nor prompt.
            link.sendall(b"\nstty -echo -onlcr 2>/dev/null; PS1=; PS2=; echo sh''ell\n")
            try:
                self.read_until(re.compile(r"shell\n"), 5, "the debug shell")
                break
            except Broken:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.2)
        link.setblocking(False)
        try:
            while link.recv(65536):
                pass
        except BlockingIOError:
            pass
        link.setblocking(True)
        return link

    def read_until(self, pattern, seconds, what):
        text = ""
        deadline = time.monotonic() + seconds
        while not pattern.search(text):
            ready = select.select([self.shell], [], [], 1)[0]
            if not ready and (ENDING.is_set() or time.monotonic() > deadline):
                raise Broken(f"no answer within {seconds} s to {what!r}: {text[-300:]!r}")
            if not ready:
                continue
            part = self.shell.recv(65536)
            if not part:
                raise Broken(f"the gateway ended while asked {what!r}")
            text += part.decode(errors="replace").replace("\r", "")
        return text

    # === the gateway ===

    def status(self):
        """`frond status --json`; its exit code says whether it complains."""
        code, text = self.run("frond status --json 2>/dev/null")
        if code not in (0, 4):
            raise Broken(f"frond status ended with {code}: {text.strip()[-300:]}")
        return json.loads(text)

    def ready(self, seconds=PATIENCE):
        self.shows(r"frond: \S+ is ready", seconds)
        return self

    def slot(self):
        return self.ask("cat /run/frond-boot/slot").split("=")[1]

    def confirmed(self):
        return self.run("cat /var/lib/frond/slot/confirmed")[1].strip()[:1]
