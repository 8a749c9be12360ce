// node mall.js MODE [BYTES] [BOUND]: fastify, koa and bare express with the leaks and caches that such shops have.
//   closures   fastify; each request's closure holds that of the request before
//   pending    fastify; a promise a request that nobody settles
//   native     fastify; buffers outside of the heap in a list
//   ttl        fastify; node-cache, entries live BOUND seconds
//   timers     koa; an interval a request, never cleared
//   nottl      koa; node-cache that forgets nothing
//   batch      koa; every BOUND seconds a job that builds 300 pages
//   plain      koa; builds a page and drops it
//   templates  express; BOUND templates, compiled when first asked for
//   lru        express; lru-cache of BOUND pages, keys are drawn from four times as many
'use strict';
const fastify = require('fastify');
const Koa = require('koa');
const express = require('express');
const NodeCache = require('node-cache');
const Handlebars = require('handlebars');
const { LRUCache } = require('lru-cache');
const [mode, size = '2000', bound = '5000'] = process.argv.slice(2);
const [bytes, limit] = [Number(size), Number(bound)];
const port = Number(process.env.PORT);
const rows = (n) => Array.from({ length: n / 50 }, (_, k) => ({ k, name: `row ${k} of ${Math.random()}` }));
const draw = (n) => Math.floor(Math.random() * n);
let served = 0;
let chain = null;
const waiting = new Map();
const kept = [];
const cache = new NodeCache({ stdTTL: mode === 'ttl' ? limit : 0, useClones: false });
const lru = new LRUCache({ max: limit });
const compiled = new Map();

const work = {
  closures() {
    const before = chain;
    const page = rows(bytes);
    chain = () => (before ? page.length : 0);
  },
  pending() {
    const page = rows(bytes);
    waiting.set(served, new Promise((done) => { page.done = done; }).then(() => page));
  },
  native() { kept.push(Buffer.allocUnsafeSlow(bytes).fill(served)); },
  ttl() { cache.set(`page ${served}`, rows(bytes)); },
  nottl() { cache.set(`page ${served}`, JSON.stringify(rows(bytes))); },
  timers() {
    const page = rows(bytes);
    setInterval(() => page.length, 3600e3);
  },
  batch() {},
  plain() { return JSON.stringify(rows(bytes)).length; },
  templates() {
    const key = draw(limit);
    if (!compiled.has(key)) compiled.set(key, Handlebars.compile(`{{#each rows}}${`<td>${key}</td>`.repeat(bytes / 20)}{{/each}}`));
    return compiled.get(key)({ rows: [1, 2] }).length;
  },
  lru() {
    const key = draw(4 * limit);
    if (!lru.has(key)) lru.set(key, { text: JSON.stringify(rows(bytes)), at: Date.now() });
  },
}[mode];
const answer = () => {
  served += 1;
  work();
  return { served, rows: JSON.parse(JSON.stringify(rows(1000))) };
};
if (mode === 'batch') {
  setInterval(() => Array.from({ length: 300 }, () => JSON.stringify(rows(bytes))).join().length, limit * 1000);
}
if (['closures', 'pending', 'native', 'ttl'].includes(mode)) {
  const app = fastify();
  app.get('/*', async () => answer());
  app.listen({ port, host: '127.0.0.1' });
} else if (['timers', 'nottl', 'batch', 'plain'].includes(mode)) {
  const app = new Koa();
  app.use(async (context) => { context.body = answer(); });
  app.listen(port, '127.0.0.1');
} else {
  const app = express();
  app.use((request, response) => response.json(answer()));
  app.listen(port, '127.0.0.1');
}
