// A deadband in JavaScript: of the series named, a reading passes when it differs from the last one that passed by at least
// the band. All others pass as they came.
//
//   [component.deadband]
//   memory_bytes_max = "32MiB"                              # 16 MiB, the default, is little more than the engine takes
//   config = { series = "*/temperature", band = "0.5" }     # `*` at the begin of a name stands for anything
//
// State: the last value that passed, of each series: a version, then its number and value, as `deadband.c` writes them.

import { write } from "frond:telemetry/log@0.1.1";

const VERSION = 1;
const ENTRY_BYTES = 4 + 8;

let series = "*";
let band = 0;
/** Numbers of the series that are held against the band. */
const watched = new Set();
/** Last value that passed, by number. */
const last = new Map();

const names = (name) => (series.startsWith("*") ? name.endsWith(series.slice(1)) : name === series);

export const processor = {
  configure(options) {
    for (const [name, value] of options) {
      if (name === "series") series = value;
      else if (name === "band") band = Number(value);
      else throw `option "${name}" is not known; known are series and band`;
    }
    if (!(band > 0 && Number.isFinite(band))) throw 'option "band" is a number above 0, such as "0.5"';
  },

  announce(announced) {
    for (const { id, name } of announced) {
      if (names(name)) watched.add(id);
    }
    write("debug", `${watched.size} series are watched`);
  },

  process(batch) {
    const kept = [];
    for (let row = 0; row < batch.values.length; row++) {
      const id = batch.series[row];
      const value = batch.values[row];
      if (watched.has(id)) {
        const before = last.get(id);
        if (before !== undefined && Math.abs(value - before) < band) continue;
        last.set(id, value);
      }
      kept.push(row);
    }
    const readings =
      kept.length === batch.values.length
        ? { tag: "unchanged" }
        : { tag: "replaced", val: pick(batch, kept) };
    return { readings, alarms: [] };
  },
};

/** The rows named, whole numbers with the digits they had. */
function pick(batch, rows) {
  const column = (values) => values.constructor.from(rows, (row) => values[row]);
  const places = new Map(rows.map((row, place) => [row, place]));
  const whole = [...batch.integerRows.keys()].filter((at) => places.has(batch.integerRows[at]));
  return {
    series: column(batch.series),
    times: column(batch.times),
    values: column(batch.values),
    integerRows: Uint32Array.from(whole, (at) => places.get(batch.integerRows[at])),
    integers: BigInt64Array.from(whole, (at) => batch.integers[at]),
  };
}

export const state = {
  snapshot() {
    const bytes = new DataView(new ArrayBuffer(1 + last.size * ENTRY_BYTES));
    bytes.setUint8(0, VERSION);
    let at = 1;
    for (const [id, value] of last) {
      bytes.setUint32(at, id, true);
      bytes.setFloat64(at + 4, value, true);
      at += ENTRY_BYTES;
    }
    return new Uint8Array(bytes.buffer);
  },

  restore(snapshot) {
    if (snapshot[0] !== VERSION || (snapshot.length - 1) % ENTRY_BYTES !== 0) throw "it is no state of this version";
    const bytes = new DataView(snapshot.buffer, snapshot.byteOffset, snapshot.byteLength);
    for (let at = 1; at < snapshot.length; at += ENTRY_BYTES) {
      last.set(bytes.getUint32(at, true), bytes.getFloat64(at + 4, true));
    }
  },
};
