// Makes a component with the libraries beside this file, where `run` copies it:
//   node component.mjs module CORE.wasm WIT WORLD OUT.wasm          of a core module that exports what the world asks for
//   node component.mjs javascript PROGRAM.js WIT WORLD OUT.wasm     of a program, with an engine
// The tools' own command lines read the WIT through a file system of their own, which not every machine's fits.
import { readFile, writeFile } from "node:fs/promises";

const [kind, source, wit, world, out] = process.argv.slice(2);
const contract = await readFile(wit, "utf8");

async function ofModule() {
  const { componentEmbed, componentNew } = await import("@bytecodealliance/jco");
  const binary = await readFile(source);
  return componentNew(await componentEmbed({ binary, witSource: contract, world, stringEncoding: "utf8" }), []);
}

async function ofProgram() {
  const { componentize } = await import("@bytecodealliance/componentize-js");
  // No network, which a gateway does not give, and neither clock nor dice, which would make replays differ.
  const disableFeatures = ["clocks", "http", "random", "stdio", "fetch-event"];
  return (await componentize({ sourcePath: source, witWorld: contract, worldName: world, disableFeatures })).component;
}

await writeFile(out, await (kind === "module" ? ofModule() : ofProgram()));
