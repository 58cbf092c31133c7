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
const Amount = require('bcoin/lib/btc/amount');
const common = require('bcoin/lib/blockchain/common');
const networks = require('bcoin/lib/protocol/networks');
const {RPCError} = require('bweb');

networks.regtest.addressPrefix.bech32 = 'bcrt'; // bcoin is older than Core's choice, and says "rb"

const INVALID_ADDRESS_OR_KEY = -5;
const VERIFY_ERROR = -25;
const VERIFY_REJECTED = -26;
const ALREADY_IN_UTXO_SET = -27;
const RELAY_RATE = 1000; // satoshi for a kilobyte: what Core takes at the least, and on top of what is replaced

const options = Object.fromEntries(process.argv.slice(2).map(word => word.replace(/^--/, '').split('=', 2)));

const node = new FullNode({
  network: 'regtest',
  memory: true,
  indexTx: true,
  indexAddress: true,
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
  if (fs.existsSync(watchedFile()))
    fs.readFileSync(watchedFile(), 'ascii').split('\n').forEach(address => watched.add(address));
  node.mempool.on('tx', see);
  node.chain.on('connect', (entry, block, view) => {
    fs.appendFileSync(options.file, `${entry.height} ${block.toRaw().toString('hex')}\n`);
    block.txs.forEach(tx => see(tx, view));
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

// Core refuses at once what it won't relay. One that pays for itself beside all it conflicts with replaces them.
calls.sendrawtransaction = async ([hex]) => {
  const tx = TX.fromRaw(hex, 'hex');
  const {mempool} = node;
  if (mempool.getEntry(tx.hash('hex')))
    return tx.txid();
  if (await node.chain.hasCoins(tx))
    throw new RPCError(ALREADY_IN_UTXO_SET, 'Transaction outputs already in utxo set');
  const outbid = new Set();
  for (const {prevout} of tx.inputs) {
    const spender = mempool.getSpent(prevout.hash, prevout.index);
    if (spender)
      outbid.add(spender);
  }
  const view = await mempool.getCoinView(tx);
  const whole = tx.inputs.every(({prevout}) => view.getOutput(prevout));
  const least = Math.ceil(tx.getVirtualSize() * RELAY_RATE / 1000);
  if (whole && tx.getFee(view) < least)
    throw new RPCError(VERIFY_REJECTED, `min relay fee not met, ${tx.getFee(view)} < ${least}`);
  if (whole && outbid.size > 0) {
    const fees = [...outbid].reduce((sum, entry) => sum + entry.descFee, 0); // with those that spend them
    if (![...outbid].every(entry => entry.tx.inputs.some(input => input.isRBF()))) // BIP-125
      throw new RPCError(VERIFY_REJECTED, 'txn-mempool-conflict');
    if (tx.getFee(view) < fees + least)
      throw new RPCError(VERIFY_REJECTED, `insufficient fee, rejecting replacement ${tx.txid()}`);
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
    throw new RPCError(VERIFY_ERROR, 'bad-txns-inputs-missingorspent');
  }
  return tx.txid();
};

// Core: src/rpc/fees.cpp. bcoin says -1 where it knows too little.
overlay('estimatesmartfee', original => async ([blocks], help) => {
  const found = await original([blocks], help);
  return found.fee < 0 ? {errors: ['Insufficient data or no feerate found'], blocks} : {feerate: found.fee, blocks};
});

overlay('getmempoolinfo', original => async (args, help) => ({
  ...await original(args, help),
  minrelaytxfee: Amount.btc(RELAY_RATE, true),
  incrementalrelayfee: Amount.btc(RELAY_RATE, true)
}));

calls.getmempoolentry = async ([txid]) => {
  const entry = node.mempool.getEntry(key(txid));
  if (!entry)
    throw new RPCError(INVALID_ADDRESS_OR_KEY, 'Transaction not in mempool');
  return {
    vsize: entry.size,
    descendantsize: entry.descSize,
    fees: {base: Amount.btc(entry.fee, true), descendant: Amount.btc(entry.descFee, true)}
  };
};

// With the mempool an output that a waiting transaction spends is no more.
overlay('gettxout', original => async (args, help) => {
  const [txid, index, mempool = true] = args;
  return mempool && node.mempool.isSpent(key(txid), index) ? null : original(args, help);
});

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

// Core's wallet without keys (createwallet, importdescriptors with addr(...)): src/wallet/rpc/. There is one of it here,
// its addresses are kept beside the blocks, and what it has seen of transactions is forgotten with the process.

const watched = new Set();
const seen = new Map(); // the raw bytes of those that pay from or to it, also if they wait no more

const watchedFile = () => `${options.file}.watched`;

function see(tx, view) {
  const addresses = tx.getHashes(view, 'hex');
  if ([...watched].some(address => addresses.includes(Address.fromString(address, node.network).getHash('hex'))))
    seen.set(tx.txid(), tx.toRaw().toString('hex'));
}

calls.importdescriptors = async ([requests]) => requests.map(({desc}) => {
  const [, address] = /^addr\((\w+)\)/.exec(desc) || [];
  if (!address)
    return {success: false, error: {code: INVALID_ADDRESS_OR_KEY, message: 'only addr(...) here'}};
  watched.add(Address.fromString(address, node.network).toString(node.network));
  fs.writeFileSync(watchedFile(), [...watched].join('\n'));
  return {success: true};
});

calls.getaddressinfo = async ([address]) =>
  ({address, ismine: watched.has(address), iswatchonly: false, ischange: false});

calls.getwalletinfo = async () => ({walletname: '', private_keys_enabled: false, descriptors: true, scanning: false});

calls.listunspent = async ([least = 1, most = 9999999, addresses = [...watched]]) => {
  const found = [];
  for (const address of addresses.filter(each => watched.has(each))) {
    for (const coin of await node.chain.getCoinsByAddress(Address.fromString(address, node.network))) {
      const confirmations = coin.getDepth(node.chain.height);
      const ripe = !coin.coinbase || confirmations > node.network.coinbaseMaturity;
      if (confirmations < least || confirmations > most || !ripe || node.mempool.isSpent(coin.hash, coin.index))
        continue;
      found.push({
        txid: coin.txid(), vout: coin.index, address, scriptPubKey: coin.script.toRaw().toString('hex'),
        amount: Amount.btc(coin.value, true), confirmations, spendable: true, solvable: false, safe: true
      });
    }
  }
  return found;
};

calls.listsinceblock = async ([hash]) => {
  const since = await node.chain.getEntry(key(hash));
  if (!since)
    throw new RPCError(INVALID_ADDRESS_OR_KEY, 'Block not found');
  const transactions = [];
  for (const address of watched) {
    for (const meta of await node.getMetaByAddress(Address.fromString(address, node.network))) {
      if (meta.height < 0)
        transactions.push({txid: meta.tx.txid(), address, confirmations: 0, abandoned: false});
      else if (meta.height > since.height)
        transactions.push({txid: meta.tx.txid(), address, confirmations: node.chain.height - meta.height + 1});
    }
  }
  return {transactions, lastblock: node.chain.tip.rhash()};
};

calls.gettransaction = async ([txid]) => {
  if (!seen.has(txid))
    throw new RPCError(INVALID_ADDRESS_OR_KEY, 'Invalid or non-wallet transaction id');
  return {txid, hex: seen.get(txid)};
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
