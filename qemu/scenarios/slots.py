"""Updates by hand: trials that succeed, and bundles that must not stay. Bundles come on a second disk, as on a USB stick."""

import os
import pathlib
import random
import shutil
import subprocess
import time

from machine import Broken, eventually

STEPS = pathlib.Path(__file__).resolve().parents[2] / "image/steps"
SERVICE_SHELL = "/usr/lib/frond/service-shell"
TRIAL_SECONDS = 70
# A program that waits for input that never comes.
HANGS = "/usr/bin/cat"


def tool(*words, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise Broken(f"{words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def bundle(folder, name, root, boot):
    """A signed bundle of these two images, made as the image's own is."""
    work = folder / name
    work.mkdir(parents=True, exist_ok=True)
    for source, target in ((root, work / "root.img"), (boot, work / "boot.img")):
        if source != target:
            os.link(source, target)
    tool(STEPS / "bundle", env={**os.environ, "FROND_IMAGE_WORK": str(work), "FROND_IMAGE_QUICK": "yes"})
    os.rename(work / "frond-arm64.raucb", folder / "stick" / f"{name}.raucb")
    shutil.rmtree(work)


def stick(stage):
    """All bundles of these scenarios, in a file system on a disk of their own; made once."""
    disk = stage.work / "bundles/stick.img"
    stage.once("stick", lambda: disk.exists() or make_stick(stage, disk))
    return disk


def make_stick(stage, disk):
    folder = disk.parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    root, boot = stage.images / "root.img", stage.images / "boot.img"
    (folder / "stick").mkdir()
    os.link(stage.images / "frond-arm64.raucb", folder / "stick/good.raucb")

    # A kernel that does not boot: its second half is gone.
    broken_boot = folder / "no-kernel.img"
    shutil.copyfile(boot, broken_boot)
    kernel = folder / "frond.efi"
    kernel.write_bytes((stage.images / "kernel/frond.efi").read_bytes()[:20_000_000])
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    tool("mcopy", "-o", "-i", broken_boot, kernel, "::EFI/frond/frond.efi", env=environment)
    bundle(folder, "no-kernel", root, broken_boot)

    # A root that ends in the middle.
    short = folder / "short.img"
    with open(root, "rb") as whole, open(short, "wb") as half:
        half.write(whole.read(root.stat().st_size // 2 // 4096 * 4096))
        # Zeros behind it: what an earlier bundle left in the slot must not complete it.
        half.truncate(root.stat().st_size)
    bundle(folder, "half-root", short, boot)

    # A system that starts, and whose frond does nothing; its trial ends sooner than the image's would.
    tree, images = folder / "false-tree", folder / "false-frond"
    tool("cp", "-a", "--reflink=auto", stage.tree, tree)
    (tree / "usr/bin/frond").unlink()
    (tree / "usr/bin/frond").symlink_to("busybox-false")
    (tree / "usr/bin/busybox-false").write_text("#!/bin/sh\nexit 1\n")
    (tree / "usr/bin/busybox-false").chmod(0o755)
    timer = tree / "usr/lib/systemd/system/frond-trial.timer"
    timer.write_text(timer.read_text().replace("15min", f"{TRIAL_SECONDS}s"))
    images.mkdir()
    shutil.copytree(stage.images / "kernel", images / "kernel")
    shutil.move(tree, images / "tree")
    for step in ("root", "kernel"):
        tool(STEPS / step, env={**os.environ, "FROND_IMAGE_WORK": str(images)})
    bundle(folder, "false-frond", images / "root.img", images / "boot.img")

    tool("mksquashfs", folder / "stick", disk, "-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet", "-all-root")


def plug(stage):
    return ("-drive", f"if=none,id=stick,file={stick(stage)},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=stick,romfile=")


def mount_stick(machine):
    machine.ask("modprobe -a loop squashfs; mkdir -p /run/stick; disk=/dev/vdb; [ -e $disk ] || disk=/dev/sda; mount -t squashfs -o ro $disk /run/stick")


def insert_stick(stage, machine):
    machine.insert(stick(stage), locked=True)
    machine.ask("until [ -b /dev/sda ]; do sleep 1; done")
    mount_stick(machine)


def rauc_is_there(machine):
    """Without systemd nobody starts RAUC when it is asked for."""
    machine.ask("until busctl call org.freedesktop.DBus / org.freedesktop.DBus NameHasOwner s de.pengutronix.rauc | grep -q true; do sleep 1; done")


def standing(machine):
    return machine.slot(), machine.confirmed()


def expect(machine, slot, confirmed):
    if standing(machine) != (slot, confirmed):
        raise Broken(f"slot {machine.slot()} is booted and {machine.confirmed() or 'none'} confirmed, not {slot} and {confirmed}")


def a_bundle_installed_by_hand_is_tried_confirmed_and_can_be_rolled_back(stage):
    """frond slot install, restart, trial, confirmation after health; frond slot rollback goes back the same way."""
    machine = stage.running("update")
    insert_stick(stage, machine)
    machine.ask("frond slot install /run/stick/good.raucb", 300)
    expect(machine, "a", "a")
    machine.ask("sync")
    # Power goes before the trial: the trial is still what comes next.
    machine.cut()
    machine.start()
    machine.shows("frond-start: slot b, confirmed: a")
    machine.ready()
    machine.shows("slot confirmed")
    eventually("slot b is on record", lambda: machine.confirmed() == "b", 60)
    told = machine.ask("frond slot status")
    if "slot b, confirmed" not in told:
        raise Broken(f"frond slot status says: {told}")
    machine.ask("sync")
    machine.cut()
    stage.keep(machine, "updated")
    machine.start().ready()
    expect(machine, "b", "b")
    machine.ask("frond slot rollback")
    machine.ask("sync")
    machine.cut()
    machine.start()
    machine.shows("frond-start: slot a, confirmed: b")
    machine.shows("slot confirmed")
    eventually("slot a is on record", lambda: machine.confirmed() == "a", 60)
    machine.cut()


def a_bundle_whose_kernel_does_not_boot_ends_on_the_old_slot(stage):
    """Firmware cannot load it: no hand is needed to come back. With a small first program, for time."""
    falls_back(stage, "no-kernel")


def a_bundle_with_half_a_root_ends_on_the_old_slot(stage):
    """The root does not fit its hash: the initramfs panics, and the restart is the old slot's."""
    falls_back(stage, "half-root").never_showed("service shell, slot b")


def a_trial_that_hangs_ends_on_the_old_slot(stage):
    """Its first program never does anything: the watchdog that the initramfs armed restarts the machine, into the old slot."""
    machine = install_in_the_service_shell(stage, "hangs", "good")
    machine.ask("sync")
    machine.cut()
    machine.start(init=HANGS, shell=False)
    machine.shows("frond-start: slot b, confirmed: a")
    machine.shows("frond-start: slot a, confirmed: a")
    machine.cut()
    machine.start(init=SERVICE_SHELL)
    machine.shows("service shell, slot a")
    expect(machine, "a", "a")
    machine.cut()


def falls_back(stage, name):
    machine = install_in_the_service_shell(stage, name, name)
    machine.ask("sync")
    machine.shell.sendall(b"sync; busybox reboot -f\n")
    machine.shell = None
    machine.shows("service shell, slot a", times=2)
    expect(machine, "a", "a")
    return machine


def install_in_the_service_shell(stage, name, bundle):
    """A gateway with little more than a shell, RAUC, and this bundle installed: its trial comes next."""
    machine = stage.settled(name)
    machine.start(*plug(stage), init=SERVICE_SHELL)
    machine.shows("service shell, slot a")
    rauc_is_there(machine)
    mount_stick(machine)
    install = f"""
        busctl call de.pengutronix.rauc / de.pengutronix.rauc.Installer InstallBundle 'sa{{sv}}' /run/stick/{bundle}.raucb 0 || exit 1
        until [ "$(busctl get-property de.pengutronix.rauc / de.pengutronix.rauc.Installer Operation)" = 's "idle"' ]; do sleep 1; done
        busctl get-property de.pengutronix.rauc / de.pengutronix.rauc.Installer LastError"""
    told = machine.ask(f"( {install} )", 300)
    if told.splitlines()[-1] != 's ""':
        raise Broken(f"{bundle} was not installed: {told}")
    if "BootNext" not in machine.ask("efibootmgr"):
        raise Broken("no trial is armed")
    return machine


def a_bundle_whose_frond_does_nothing_ends_on_the_old_slot(stage):
    """Everything starts but what matters: nobody confirms, and the trial's time runs out."""
    machine = stage.running("false")
    insert_stick(stage, machine)
    machine.ask("frond slot install /run/stick/false-frond.raucb", 300)
    machine.run("systemctl --no-block reboot")
    machine.shell = None
    machine.shows("frond-start: slot b, confirmed: a")
    machine.shows("the trial of slot b was not confirmed, going back", 400)
    machine.shows("frond-start: slot a, confirmed: a")
    machine.ready()
    expect(machine, "a", "a")
    machine.cut()


def power_cuts_during_an_install_leave_the_old_slot(stage):
    """Cuts at random moments of an installation: no half-written slot is ever started."""
    dice = random.Random(7)
    machine = stage.settled("install-cut")
    for _ in range(2):
        machine.start(*plug(stage), init=SERVICE_SHELL)
        machine.shows("service shell, slot a")
        rauc_is_there(machine)
        mount_stick(machine)
        machine.ask("busctl call de.pengutronix.rauc / de.pengutronix.rauc.Installer InstallBundle 'sa{sv}' /run/stick/good.raucb 0")
        time.sleep(dice.uniform(1, 12))
        machine.cut()
    machine.start(init=SERVICE_SHELL)
    machine.shows("service shell, slot a")
    expect(machine, "a", "a")
    machine.cut()
    return "2 cuts"


SCENARIOS = [
    a_bundle_installed_by_hand_is_tried_confirmed_and_can_be_rolled_back,
    a_bundle_whose_kernel_does_not_boot_ends_on_the_old_slot,
    a_bundle_with_half_a_root_ends_on_the_old_slot,
    a_trial_that_hangs_ends_on_the_old_slot,
    a_bundle_whose_frond_does_nothing_ends_on_the_old_slot,
    power_cuts_during_an_install_leave_the_old_slot,
]
