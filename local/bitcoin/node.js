'use strict';

// A Bitcoin regtest node: bcoin in memory, with Bitcoin Core's answers where bcoin's own differ.
//
//   node.js --port=N --file=F        the password of its JSON-RPC interface comes in NODE_PASSWORD
//
// Blocks are appended to the file as they join the chain, and read back from it at the start. It talks to no other node.

const fs = require('fs');
const FullNode = require('bcoin/lib/node/fullnode');
const Address = require('bcoin/lib/primitives/address');
const Block = require('bcoin/lib/primitives/block');
const TX = require('bcoin/lib/primitives/tx');
const common = require('bcoin/lib/blockchain/common');
const networks = require('bcoin/lib/protocol/networks');
const {RPCError} = require('bweb');

networks.regtest.addressPrefix.bech32 = 'bcrt'; // bcoin is older than Core's choice, and says "rb"

const INVALID_ADDRESS_OR_KEY = -5;
const VERIFY_REJECTED = -26;

const options = Object.fromEntries(process.argv.slice(2).map(word => word.replace(/^--/, '').split('=', 2)));

const node = new FullNode({
  network: 'regtest',
  memory: true,
  indexTx: true,
  listen: false,
  replaceByFee: true,
  logLevel: 'error',
  logConsole: true,
  logFile: false,
  httpHost: '127.0.0.1',
  httpPort: Number(options.port),
  apiKey: process.env.NODE_PASSWORD
});

node.pool.forceSync = () => {}; // it would look for blocks elsewhere after each that is undone

// Core's regtest has these in force from its first block, bcoin only after hundreds that signal for them.
const ALWAYS = new Set(['csv', 'segwit']);
const getState = node.chain.getState.bind(node.chain);
node.chain.getState = (prev, deployment) =>
  ALWAYS.has(deployment.name) ? common.thresholdStates.ACTIVE : getState(prev, deployment);

// The file: a line for each block that joins, "height hex". A later line takes the place of all from its height on.

function remembered() {
  const blocks = new Map();
  if (!fs.existsSync(options.file))
    return blocks;
  for (const line of fs.readFileSync(options.file, 'ascii').split('\n').slice(0, -1)) { // the last is cut off, or empty
    const [height, raw] = line.split(' ');
    blocks.set(Number(height), raw);
    for (let above = Number(height) + 1; blocks.delete(above); above++);
  }
  return blocks;
}

async function restore() {
  const blocks = remembered();
  for (const raw of blocks.values())
    await node.chain.add(Block.fromRaw(raw, 'hex'));
  const part = `${options.file}.part`;
  fs.writeFileSync(part, [...blocks].map(([height, raw]) => `${height} ${raw}\n`).join(''));
  fs.renameSync(part, options.file);
  node.chain.on('connect', (entry, block) => {
    fs.appendFileSync(options.file, `${entry.height} ${block.toRaw().toString('hex')}\n`);
  });
}

// JSON-RPC: what adapters read answers as Core does.

const calls = node.rpc.calls;
const key = txid => Buffer.from(txid, 'hex').reverse().toString('hex'); // as the mempool spells it

function overlay(name, make) {
  const original = calls[name];
  calls[name] = make((args, help) => original.call(node.rpc, args, help));
}

// Core: https://github.com/bitcoin/bitcoin/blob/master/src/rpc/rawtransaction.cpp, with -txindex.
overlay('getrawtransaction', original => async (args, help) => {
  let found;
  try {
    found = await original(args, help);
  } catch (error) {
    if (error.message === 'Transaction not found.') {
      throw new RPCError(INVALID_ADDRESS_OR_KEY,
        'No such mempool or blockchain transaction. Use gettransaction for wallet transactions.');
    }
    throw error;
  }
  if (found && found.blockhash === null) { // Core leaves it out
    for (const key of ['blockhash', 'confirmations', 'time', 'blocktime'])
      delete found[key];
  }
  return found;
});

// Core: src/rpc/blockchain.cpp. A block that is not of the best chain has -1 confirmations.
overlay('getblockheader', original => async (args, help) => {
  let found;
  try {
    found = await original(args, help);
  } catch (error) {
    if (error.message === 'Block not found')
      throw new RPCError(INVALID_ADDRESS_OR_KEY, 'Block not found');
    throw error;
  }
  if (found && found.hash) {
    const entry = await node.chain.getEntryByHeight(found.height);
    if (!entry || entry.rhash() !== found.hash)
      found.confirmations = -1;
  }
  return found;
});

// Core refuses at once what it won't relay. A transaction that pays more than all it conflicts with replaces them.
calls.sendrawtransaction = async ([hex]) => {
  const tx = TX.fromRaw(hex, 'hex');
  const {mempool} = node;
  const outbid = new Set();
  for (const {prevout} of tx.inputs) {
    const spender = mempool.getSpent(prevout.hash, prevout.index);
    if (spender && spender.txid() !== tx.txid())
      outbid.add(spender);
  }
  if (outbid.size > 0) {
    const view = await mempool.getCoinView(tx);
    const fees = [...outbid].reduce((sum, entry) => sum + entry.fee, 0);
    if (![...outbid].every(entry => entry.tx.inputs.some(input => input.isRBF()))) // BIP-125
      throw new RPCError(VERIFY_REJECTED, 'txn-mempool-conflict');
    if (tx.getFee(view) <= fees)
      throw new RPCError(VERIFY_REJECTED, 'insufficient fee');
    outbid.forEach(entry => mempool.evictEntry(entry));
  }
  let missing;
  try {
    missing = await mempool.addTX(tx, -1);
  } catch (error) {
    if (error.type === 'VerifyError')
      throw new RPCError(VERIFY_REJECTED, error.reason);
    throw error;
  }
  if (missing && missing.length > 0) {
    mempool.removeOrphan(tx.hash('hex'));
    throw new RPCError(-25, 'bad-txns-inputs-missingorspent');
  }
  return tx.txid();
};

// Core: generateblock "output" ["rawtx/txid", ...]: a block of exactly these.
calls.generateblock = async ([address, items]) => {
  const job = await node.miner.cpu.createJob(null, Address.fromString(address, node.network));
  const {attempt} = job;
  attempt.items = [];
  attempt.fees = 0;
  for (const item of items) {
    const waiting = item.length === 64 ? node.mempool.getEntry(key(item)) : null;
    if (item.length === 64 && !waiting)
      throw new RPCError(INVALID_ADDRESS_OR_KEY, `Transaction ${item} not in mempool.`);
    attempt.pushTX(waiting ? waiting.tx : TX.fromRaw(item, 'hex'));
  }
  attempt.refresh();
  const entry = await node.chain.add(await node.miner.cpu.mineAsync(job));
  if (!entry)
    throw new RPCError(VERIFY_REJECTED, 'the block was not accepted');
  return {hash: entry.rhash()};
};

// Ours: Core only drops by itself, from a full mempool or after two weeks.
calls.dropfrommempool = async ([txid]) => {
  const entry = node.mempool.getEntry(key(txid));
  if (!entry)
    throw new RPCError(INVALID_ADDRESS_OR_KEY, 'Transaction not in mempool');
  node.mempool.evictEntry(entry);
  return null;
};

process.on('unhandledRejection', (error) => {
  throw error;
});

node.use({id: 'file', init: () => ({open: restore, close: async () => {}})}); // opened before the HTTP server

(async () => {
  await node.ensure();
  await node.open();
})().catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
