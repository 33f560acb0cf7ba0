"""A disk as it was at any moment: what QEMU's `blklogwrites` wrote down, played back onto a copy of what was there before.

The log has a sector of its own (magic, version, count of entries, sector size), then for each entry a sector (first sector,
sectors, flags, length of data) and the data; dm-log-writes made the form. Before a flush nothing is sure to be on the disk;
behind it everything is that was written before.
"""

import dataclasses
import os
import struct

SECTOR = 512
FLUSH, FUA, DISCARD = 1, 2, 4


@dataclasses.dataclass
class Entry:
    """One write, flush or discard; its data is at `at` in the log."""

    sector: int
    sectors: int
    flags: int
    at: int

    @property
    def flushes(self):
        return self.flags & FLUSH

    @property
    def end(self):
        """Where it ends in the log."""
        return self.at + (0 if self.flags & DISCARD else self.sectors * SECTOR)


def entries(log):
    """All entries that are complete. The count in the log's own sector is not looked at: it lags behind."""
    found = []
    with open(log, "rb") as stream:
        head = stream.read(SECTOR)
        if len(head) < SECTOR:
            return found
        magic, version, _, sector = struct.unpack_from("<QQQI", head)
        assert (magic, version, sector) == (0x6A736677736872, 1, SECTOR), "this is no log of blklogwrites"
        size = os.fstat(stream.fileno()).st_size
        at = SECTOR
        while at + SECTOR <= size:
            stream.seek(at)
            first, sectors, flags, _ = struct.unpack("<QQQQ", stream.read(32))
            if not sectors and not flags:
                break
            data = 0 if flags & DISCARD else sectors * SECTOR
            if at + SECTOR + data > size:
                break
            found.append(Entry(first, sectors, flags, at + SECTOR))
            at += SECTOR + data
    return found


class Replay:
    """Plays a log onto a raw file, forward only."""

    def __init__(self, log, disk):
        self.entries, self.next = entries(log), 0
        self.log, self.disk = open(log, "rb"), open(disk, "r+b")

    def until(self, index):
        """Everything before this entry, and the entry itself, is on the disk."""
        while self.next <= index:
            entry = self.entries[self.next]
            self.next += 1
            if entry.sectors == 0:
                continue
            self.disk.seek(entry.sector * SECTOR)
            if entry.flags & DISCARD:
                self.disk.write(bytes(entry.sectors * SECTOR))
            else:
                self.log.seek(entry.at)
                self.disk.write(self.log.read(entry.sectors * SECTOR))
        self.disk.flush()
