#!/usr/bin/env node
'use strict';
/* Stands in for Prisma's `query-engine` executable where its download host cannot be reached.
 *
 * prisma-client-py starts `query-engine -p PORT ...` and talks to it over HTTP. The same engine is on npm as WebAssembly,
 * inside @prisma/client; this program serves the executable's interface with it. It is for development and tests.
 */
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

// Of the Prisma release that prisma-client-py 0.15 was made for (5.17.0); the client compares it.
const ENGINE_VERSION = '393aa359c9ad4a4bb28630fb5613f9c281cde053';
if (process.argv.includes('--version')) {
  console.log(`query-engine ${ENGINE_VERSION}`);
  process.exit(0);
}

const { bindAdapter } = require('@prisma/driver-adapter-utils');
const { PrismaPg } = require('@prisma/adapter-pg');
const { parse } = require('graphql');
const bindings = require('@prisma/client/runtime/query_engine_bg.postgresql.js');
const { fieldTypes } = require('./datamodel.cjs');
const { openPool } = require('./driver.cjs');
const { toAnswer, toQuery } = require('./protocol.cjs');

const NO_TRACE = JSON.stringify({});
// Prisma's own options in a connection URL, which the PostgreSQL driver does not know.
const PRISMA_OPTIONS = ['schema', 'connection_limit', 'pool_timeout', 'pgbouncer', 'connect_timeout'];

function databaseUrl() {
  const [overwritten] = JSON.parse(process.env.OVERWRITE_DATASOURCES || '[]');
  return new URL((overwritten && overwritten.url) || process.env.DATABASE_URL);
}

function openDatabase() {
  const url = databaseUrl();
  const schema = url.searchParams.get('schema') || undefined;
  const max = Number(url.searchParams.get('connection_limit') || 10);
  for (const option of PRISMA_OPTIONS) url.searchParams.delete(option);
  const pool = openPool({ connectionString: url.toString(), max });
  return bindAdapter(new PrismaPg(pool, schema ? { schema } : undefined));
}

async function startEngine(datamodel) {
  const file = require.resolve('@prisma/client/runtime/query_engine_bg.postgresql.js').replace(/\.js$/, '.wasm');
  const module = new WebAssembly.Module(fs.readFileSync(file));
  const instance = new WebAssembly.Instance(module, { './query_engine_bg.js': bindings });
  bindings.__wbg_set_wasm(instance.exports);
  const options = {
    datamodel,
    logLevel: 'error',
    logQueries: false,
    configDir: path.dirname(process.env.PRISMA_DML_PATH),
    env: {},
    ignoreEnvVarErrors: true,
    datasourceOverrides: {},
    engineProtocol: 'json',
    enableTracing: false,
  };
  const engine = new bindings.QueryEngine(options, () => {}, openDatabase());
  await engine.connect(NO_TRACE);
  return engine;
}

/** One request of the client: a query, or a batch of them, perhaps inside a transaction. */
async function execute(engine, models, request, transaction) {
  const ask = async (query) => JSON.parse(await engine.query(JSON.stringify(query), NO_TRACE, transaction));
  if (!request.batch) {
    const { alias, query } = toQuery(parse(request.query), models);
    const result = await ask(query);
    return result.data ? { data: toAnswer(alias, result.data) } : result;
  }
  const items = request.batch.map((item) => toQuery(parse(item.query), models));
  const result = await ask({
    batch: items.map((item) => item.query),
    ...(request.transaction ? { transaction: {} } : {}),
  });
  if (result.errors) return result;
  return {
    batchResult: result.batchResult.map((one, i) => (one.data ? { data: toAnswer(items[i].alias, one.data) } : one)),
  };
}

async function changeTransaction(engine, method, argument) {
  const result = JSON.parse((await engine[method](argument, NO_TRACE)) || '{}');
  return result.error_code ? { errors: [{ error: result.message, user_facing_error: result }] } : result;
}

async function answer(engine, models, request) {
  const route = new URL(request.url, 'http://localhost').pathname;
  if (route === '/status') return { status: 'ok' };
  if (route === '/metrics') return { counters: [], gauges: [], histograms: [] };
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString('utf8');
  if (route === '/transaction/start') {
    const { max_wait, timeout, isolation_level } = JSON.parse(body);
    const options = { max_wait, timeout, ...(isolation_level ? { isolation_level } : {}) };
    return changeTransaction(engine, 'startTransaction', JSON.stringify(options));
  }
  const ending = /^\/transaction\/([^/]+)\/(commit|rollback)$/.exec(route);
  if (ending) return changeTransaction(engine, `${ending[2]}Transaction`, ending[1]);
  return execute(engine, models, JSON.parse(body), request.headers['x-transaction-id']);
}

async function main() {
  const datamodel = fs.readFileSync(process.env.PRISMA_DML_PATH, 'utf8');
  const models = fieldTypes(datamodel);
  const engine = await startEngine(datamodel);
  const server = http.createServer(async (request, response) => {
    let status = 200;
    let result;
    try {
      result = await answer(engine, models, request);
    } catch (error) {
      console.error('query-engine:', error.message);
      status = 500;
      result = { errors: [{ error: error.message }] };
    }
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(result));
  });
  // Longer than the client keeps its connections, so that it never writes into one that has just been closed.
  server.keepAliveTimeout = 60_000;
  server.listen(Number(process.argv[process.argv.indexOf('-p') + 1]), 'localhost');
  // The client may be killed without a word; nobody else would ever end this process.
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || process.exit(0), 1_000).unref();
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
}

main().catch((error) => {
  console.error('query-engine did not start:', error);
  process.exit(1);
});
