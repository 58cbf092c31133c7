// Compiles every contract beside this file into one JSON artifact each. See README.md.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(join(process.cwd(), "x"))("solc");
const files = readdirSync(here).filter((name) => name.endsWith(".sol"));
const settings = { optimizer: { enabled: true, runs: 200 }, evmVersion: "paris", metadata: { bytecodeHash: "none" } };
const input = {
  language: "Solidity",
  sources: Object.fromEntries(files.map((name) => [name, { content: readFileSync(join(here, name), "utf8") }])),
  settings: { ...settings, outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
for (const { formattedMessage } of output.errors ?? []) console.error(formattedMessage);
if ((output.errors ?? []).some(({ severity }) => severity === "error")) process.exit(1);
for (const file of files) {
  const name = file.replace(/\.sol$/, "");
  const made = output.contracts[file][name];
  const artifact = {
    name,
    compiler: `solc ${solc.version()}`,
    settings,
    abi: made.abi,
    bytecode: `0x${made.evm.bytecode.object}`,
  };
  writeFileSync(join(here, `${name}.json`), `${JSON.stringify(artifact, null, 1)}\n`);
  console.log(`${name}: ${artifact.bytecode.length / 2 - 1} bytes`);
}
