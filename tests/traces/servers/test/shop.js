// node shop.js MODE [BYTES] [BOUND]: express with what express applications do.
//   sessions   express-session's default store, which never forgets; no client sends its cookie
//   cart       the same, with one session for all clients
//   lru        the package lru-cache, BOUND entries
//   listeners  a listener a request on one emitter, which holds the request
//   report     a large report built and dropped every BOUND requests
//   late       sessions, but only after BOUND seconds
'use strict';
const { EventEmitter } = require('node:events');
const express = require('express');
const session = require('express-session');
const { LRUCache } = require('lru-cache');
const [mode, size = '2000', bound = '5000'] = process.argv.slice(2);
const bus = new EventEmitter().setMaxListeners(0);
const cache = new LRUCache({ max: Number(bound) });
const store = new session.MemoryStore();
const app = express();
const text = () => Buffer.alloc(Number(size), 'shop ').toString('utf16le');
let served = 0;
if (['sessions', 'cart', 'late'].includes(mode)) {
  const one = mode === 'cart' ? { genid: () => 'cart' } : {};
  const layer = session({ secret: 'x', resave: false, saveUninitialized: true, store, ...one });
  app.use((request, response, next) =>
    mode === 'late' && process.uptime() < Number(bound) ? next() : layer(request, response, next));
}
app.use((request, response) => {
  served += 1;
  if (request.session) request.session.basket = text();
  if (mode === 'lru') cache.set(request.path + served, { page: text(), at: Date.now() });
  if (mode === 'listeners') {
    const page = text();
    bus.on('price', () => response.write(page));
  }
  let rows = 20;
  if (mode === 'report' && served % Number(bound) === 0) rows = Number(size);
  const page = Array.from({ length: rows }, (_, n) => ({ n, name: `item ${n}`, of: request.path }));
  response.json(JSON.parse(JSON.stringify(page)).slice(0, 20));
});
app.listen(Number(process.env.PORT), '127.0.0.1');
