// node depot.js MODE [BYTES] [BOUND]: hapi, polka, graphql and rxjs, and what a depot's services keep.
//   handlers   hapi; a handler of an event for each request
//   catbox     hapi; its own cache, entries live BOUND seconds
//   thumbs     hapi; buffers of all sizes, dropped
//   memo       polka; a memoized function without a bound, by path
//   memomax    polka; the same with BOUND entries
//   ejs        polka; pages of a template, dropped
//   audit      polka; a winston transport that keeps its lines
//   subjects   rxjs; a subscription for each request, never ended
//   replay     rxjs; a subject that replays the last BOUND seconds
//   loader     graphql; one dataloader for all requests
//   perrequest graphql; a dataloader for each
//   table      sql.js; rows in a table that nobody deletes
//   prune      sql.js; the last BOUND rows
//   nightly    http; every BOUND seconds an index of 20,000 entries is built anew, beside the old one
'use strict';
const http = require('http');
const [mode, size = '2000', bound = '5000'] = process.argv.slice(2);
const [bytes, limit] = [Number(size), Number(bound)];
const port = Number(process.env.PORT);
const crate = () => ({ at: Date.now(), items: Array.from({ length: bytes / 100 }, (_, k) => `item ${k} ${Math.random()}`) });
let served = 0;
const small = () => ({ served, list: crate().items.slice(0, 10) });

async function hapi() {
  const server = require('@hapi/hapi').server({ port, host: '127.0.0.1' });
  server.event('moved');
  const cache = server.cache({ expiresIn: limit * 1000, segment: 'crates', generateFunc: async () => crate(), generateTimeout: 2000 });
  server.route({ method: 'GET', path: '/{any*}', handler: async (request) => {
    served += 1;
    if (mode === 'handlers') {
      const one = crate();
      server.events.on('moved', () => one.items.length);
    } else if (mode === 'catbox') await cache.get(request.path);
    else Array.from({ length: 5 }, () => Buffer.alloc(Math.ceil(Math.random() * bytes), 1));
    return small();
  } });
  await server.start();
}

function polka() {
  const memoize = require('memoizee');
  const ejs = require('ejs');
  const make = (path) => JSON.stringify([path, crate()]);
  const memo = mode === 'memo' ? memoize(make, { primitive: true }) : memoize(make, { primitive: true, max: limit });
  const template = ejs.compile('<ul><% for (const item of items) { %><li><%= item %></li><% } %></ul>');
  const winston = require('winston');
  const lines = [];
  const Transport = require('winston-transport');
  const log = winston.createLogger({ transports: [new (class extends Transport {
    log(info, done) { lines.push(info); done(); }
  })()] });
  require('polka')().get('/*', (request, response) => {
    served += 1;
    if (mode === 'audit') log.info({ message: request.url, crate: crate() });
    else if (mode === 'ejs') template(crate());
    else memo(request.url);
    response.end(JSON.stringify(small()));
  }).listen(port, '127.0.0.1');
}

function rxjs() {
  const { Subject, ReplaySubject, map } = require('rxjs');
  const moved = mode === 'replay' ? new ReplaySubject(Infinity, limit * 1000) : new Subject();
  http.createServer((request, response) => {
    served += 1;
    const one = crate();
    if (mode === 'replay') moved.next(one);
    else moved.pipe(map((at) => at + one.at)).subscribe((at) => at);
    response.end(JSON.stringify(small()));
  }).listen(port, '127.0.0.1');
}

function graphql() {
  const { buildSchema, graphql: ask } = require('graphql');
  const DataLoader = require('dataloader');
  const schema = buildSchema('type Query { crate(id: Int!): Crate } type Crate { id: Int items: [String] }');
  const made = () => new DataLoader(async (ids) => ids.map((id) => ({ id, ...crate() })));
  const all = made();
  http.createServer(async (request, response) => {
    served += 1;
    const loader = mode === 'loader' ? all : made();
    const rootValue = { crate: ({ id }) => loader.load(id) };
    const answer = await ask({ schema, rootValue, source: `{ crate(id: ${served}) { id items } }` });
    response.end(JSON.stringify(answer).slice(0, 2000));
  }).listen(port, '127.0.0.1');
}

async function sql() {
  const { Database } = await require('sql.js')();
  const db = new Database();
  db.run('create table crates (id integer primary key, body text)');
  http.createServer((request, response) => {
    served += 1;
    db.run('insert into crates values (?, ?)', [served, JSON.stringify(crate())]);
    if (mode === 'prune') db.run('delete from crates where id <= ?', [served - limit]);
    response.end(JSON.stringify(db.exec('select count(*) from crates')));
  }).listen(port, '127.0.0.1');
}

function nightly() {
  let index = new Map();
  setInterval(() => {
    const next = new Map();
    for (let k = 0; k < 20000; k += 1) next.set(`entry ${k}`, Math.random().toString(36).repeat(bytes / 12));
    index = next;
  }, limit * 1000);
  http.createServer((request, response) => response.end(JSON.stringify([index.size, small()]))).listen(port, '127.0.0.1');
}

const rooms = {
  handlers: hapi, catbox: hapi, thumbs: hapi, memo: polka, memomax: polka, ejs: polka, audit: polka,
  subjects: rxjs, replay: rxjs, loader: graphql, perrequest: graphql, table: sql, prune: sql, nightly,
};
rooms[mode]();
