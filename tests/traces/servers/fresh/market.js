// node market.js MODE [A] [B]: a shop's services. Leaks:
//   trails      restify; the trail of a request is dropped only if it failed
//   tenants     apollo; data sources by token, and every request has its own token
//   namespaces  socket.io; a namespace for every order
//   labels      prom-client; a histogram labelled by url
//   guests      express-session in memory, whose guests bring no cookie
//   aborts      undici; a listener of the shutdown signal for each call upstream
//   worker      a worker thread that forgets to delete done jobs
//   schemas     ajv compiles a schema for each request, and keeps it
//   keyv        keyv in a Map: what nobody reads again does not expire
// Healthy:
//   pages       lru-cache of A KiB of pages
//   quick       quick-lru of A entries
//   basket      memorystore, sessions live A seconds
//   pug         pages of a template, compiled once
//   images      buffers of up to A KiB, gzipped
//   reports     a report of A rows each B seconds
//   parser      a pool of two workers that parse A KiB of JSON
//   chat        ws; clients come, read the last A messages and go
'use strict';
const http = require('http');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const [mode, first = '0', second = '0'] = process.argv.slice(2);
const [a, b] = [Number(first), Number(second)];
const port = Number(process.env.PORT);

const WORDS = 'the of and wool linen oak steel small large blue green hand made shipped today sold by our store with care'.split(' ');
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const prose = (n) => Array.from({ length: n }, () => pick(WORDS)).join(' ');
const product = (id) => ({
  id, title: prose(6), text: prose(60 + Math.floor(Math.random() * 120)), price: Math.random() * 100, stock: Math.floor(Math.random() * 50),
  reviews: Array.from({ length: Math.floor(Math.random() * 12) }, (_, k) => ({ k, by: `user${id % 977}`, stars: k % 5, text: prose(20) })),
});
const idOf = (url) => Number(url.split('/').pop());
const userOf = (id, users) => Math.floor(users * (id / 1e9) ** 2); // some come often
const json = (response, value) => {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(value));
};
const plain = (handle) => http.createServer(handle).listen(port, '127.0.0.1');
const express = (...uses) => {
  const app = require('express')();
  uses.forEach((use) => app.use(use));
  app.listen(port, '127.0.0.1');
  return app;
};

const modes = {
  trails() {
    const server = require('restify').createServer();
    const trails = new Map();
    server.pre((request, response, next) => {
      request.trail = [];
      trails.set(request.id(), { url: request.url, headers: request.headers, at: new Date(), trail: request.trail });
      next();
    });
    server.on('after', (request, response) => {
      if (response.statusCode >= 500) {
        console.error(trails.get(request.id()));
        trails.delete(request.id());
      }
    });
    server.get('/item/:id', (request, response, next) => {
      const found = product(Number(request.params.id));
      request.trail.push({ query: 'select * from products where id = ?', took: Math.random() });
      for (const one of found.reviews) request.trail.push({ query: 'select * from users where name = ?', bound: one.by, row: one });
      response.send(found);
      next();
    });
    server.listen(port, '127.0.0.1');
  },
  async tenants() {
    const { ApolloServer } = require('@apollo/server');
    class Products {
      constructor(token) { this.token = token; this.cache = new Map(); }
      async load(id) {
        if (!this.cache.has(id)) this.cache.set(id, product(id));
        return this.cache.get(id);
      }
    }
    const sources = new Map();
    const server = new ApolloServer({
      typeDefs: 'type Review { by: String, stars: Int, text: String } type Product { id: Float, title: String, text: String, reviews: [Review] } type Query { product(id: Float): Product }',
      resolvers: { Query: { product: (_, { id }, context) => context.products.load(id) } },
    });
    await server.start();
    plain(async (request, response) => {
      const token = require('crypto').randomUUID(); // of the gateway, new for each request
      if (!sources.has(token)) sources.set(token, new Products(token));
      const { body } = await server.executeOperation(
        { query: 'query ($id: Float) { product(id: $id) { id title reviews { by stars } } }', variables: { id: idOf(request.url) } },
        { contextValue: { products: sources.get(token) } },
      );
      json(response, body.singleResult);
    });
  },
  namespaces() {
    const server = plain((request, response) => {
      const id = idOf(request.url);
      const order = product(id);
      const namespace = io.of(`/order-${id}`);
      namespace.on('connection', (socket) => socket.emit('order', order));
      namespace.emit('changed', order.id);
      json(response, order);
    });
    const io = new (require('socket.io').Server)(server);
  },
  labels() {
    const { Registry, Histogram, collectDefaultMetrics } = require('prom-client');
    const register = new Registry();
    collectDefaultMetrics({ register });
    const seconds = new Histogram({ name: 'http_seconds', help: 'time to answer', labelNames: ['method', 'url', 'code'], registers: [register] });
    express().get('*', (request, response) => {
      const end = seconds.startTimer({ method: request.method, url: request.originalUrl });
      response.on('finish', () => end({ code: response.statusCode }));
      json(response, product(idOf(request.url)));
    });
  },
  guests() {
    const session = require('express-session');
    const passport = require('passport');
    express(session({ secret: 'a', resave: false, saveUninitialized: true }), passport.initialize(), passport.session()).get('*', (request, response) => {
      const seen = product(idOf(request.url));
      request.session.basket = { seen: [seen], currency: 'EUR', since: new Date() };
      json(response, seen);
    });
  },
  aborts() {
    const { Agent, request: call } = require('undici');
    const upstream = http.createServer((request, response) => json(response, product(idOf(request.url)))).listen(0, '127.0.0.1');
    const agent = new Agent({ connections: 4 });
    const shutdown = new AbortController();
    require('events').setMaxListeners(0, shutdown.signal);
    plain(async (request, response) => {
      const answer = await call(`http://127.0.0.1:${upstream.address().port}${request.url}`, { dispatcher: agent });
      const found = await answer.body.json();
      shutdown.signal.addEventListener('abort', () => response.destroy(new Error(`shut down during ${found.title}`)));
      json(response, found);
    });
  },
  worker() {
    const worker = new Worker(__filename, { argv: ['worker', first], workerData: 'jobs' });
    const open = new Map();
    worker.on('message', ({ id, total }) => {
      open.get(id)?.(total);
      open.delete(id);
    });
    let next = 0;
    plain((request, response) => {
      const id = (next += 1);
      open.set(id, (total) => json(response, { total }));
      worker.postMessage({ id, lines: product(idOf(request.url)) });
    });
  },
  schemas() {
    const ajv = new (require('ajv').default)();
    express().get('*', (request, response) => {
      const order = product(idOf(request.url));
      const schema = { // the limits differ by shop
        type: 'object', required: ['id', 'title'],
        properties: { id: { type: 'number' }, title: { type: 'string', maxLength: 200 }, price: { type: 'number', maximum: 100 + (order.id % 7) } },
      };
      const valid = idOf(request.url) % 3 ? true : ajv.compile(schema)(order); // a third of them are orders
      json(response, { valid, order });
    });
  },
  keyv() {
    const cache = new (require('keyv'))({ ttl: 60000 });
    plain(async (request, response) => {
      const key = `quote:${request.url}`;
      const quote = (await cache.get(key)) ?? { ...product(idOf(request.url)), at: Date.now() };
      await cache.set(key, quote);
      json(response, quote);
    });
  },

  pages() {
    const { LRUCache } = require('lru-cache');
    const cache = new LRUCache({ maxSize: a * 1024, sizeCalculation: (page) => page.length });
    express().get('*', (request, response) => {
      const key = userOf(idOf(request.url), 40000);
      let page = cache.get(key);
      if (!page) cache.set(key, (page = Buffer.from(`<html>${JSON.stringify(product(key)).repeat(4)}</html>`)));
      response.send(page);
    });
  },
  quick() {
    const cache = new (require('quick-lru'))({ maxSize: a });
    plain((request, response) => {
      const id = idOf(request.url);
      if (!cache.has(id)) cache.set(id, product(id));
      json(response, cache.get(id));
    });
  },
  basket() {
    const session = require('express-session');
    const Store = require('memorystore')(session);
    const store = new Store({ checkPeriod: 10000, ttl: a * 1000 });
    express(session({ secret: 'a', resave: false, saveUninitialized: true, store })).get('*', (request, response) => {
      request.session.basket = [product(idOf(request.url)), product(1), product(2)];
      json(response, request.session.basket);
    });
  },
  pug() {
    const pages = Array.from({ length: 30 }, (_, k) => `html\n  body\n    h1 page ${k}\n    ul\n      each item in items\n        li(id=item.id) #{item.title}: #{item.text}`);
    const compiled = new Map();
    plain((request, response) => {
      const id = idOf(request.url);
      const which = id % pages.length;
      if (!compiled.has(which)) compiled.set(which, require('pug').compile(pages[which]));
      response.end(compiled.get(which)({ items: Array.from({ length: a }, (_, k) => product(k)) }));
    });
  },
  images() {
    const { gzip } = require('zlib');
    plain((request, response) => {
      const image = Buffer.alloc(Math.ceil(Math.random() ** 2 * a * 1024), request.url);
      gzip(image, (_, packed) => {
        response.setHeader('content-encoding', 'gzip');
        response.end(packed);
      });
    });
  },
  reports() {
    const latest = new Map();
    setInterval(() => {
      const rows = Array.from({ length: a }, (_, k) => product(k));
      rows.sort((x, y) => x.price - y.price);
      latest.set('prices', JSON.stringify(rows).slice(0, 100000));
    }, b * 1000);
    plain((request, response) => json(response, { ...product(idOf(request.url)), report: (latest.get('prices') ?? '').length }));
  },
  parser() {
    const pool = [0, 1].map(() => new Worker(__filename, { argv: ['parser', first], workerData: 'parse' }));
    let next = 0;
    plain((request, response) => {
      const worker = pool[(next += 1) % 2];
      worker.once('message', (count) => json(response, { count }));
      const text = JSON.stringify(Array.from({ length: Math.ceil(Math.random() * a) }, () => product(1)));
      worker.postMessage(text);
    });
  },
  chat() {
    const { WebSocket, WebSocketServer } = require('ws');
    const recent = [];
    const server = plain((request, response) => {
      const said = product(idOf(request.url));
      recent.push(said);
      if (recent.length > a) recent.shift();
      for (const one of sockets.clients) if (one.readyState === 1) one.send(JSON.stringify(said));
      const guest = new WebSocket(`ws://127.0.0.1:${port}`);
      guest.on('error', () => {});
      setTimeout(() => guest.close(), 3000);
      json(response, said);
    });
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket) => socket.send(JSON.stringify(recent.slice(-50))));
  },
};

if (isMainThread) modes[mode]();
else if (workerData === 'jobs') {
  const jobs = new Map();
  parentPort.on('message', (job) => {
    jobs.set(job.id, { ...job, state: 'done', at: Date.now() });
    parentPort.postMessage({ id: job.id, total: job.lines.price * job.lines.stock });
  });
} else parentPort.on('message', (text) => parentPort.postMessage(JSON.parse(text).length));
