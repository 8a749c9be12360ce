// node plaza.js MODE [A] [B]: what sells tickets for concerts. Leaks:
//   contexts   connect; cls-hooked contexts that are entered and never left
//   queues     hono; a p-queue for each session, to take its orders in turn
//   formats    h3; Intl formatters by the preferences of each user
//   views      express; lokijs, and a view for each order's page
//   quotes     koa; axios calls under way are shared, and only those that fail are taken off the list
//   drafts     express; parts of uploads wait for the last one, which does not always come
//   reminders  koa; a job each minute for each order of node-schedule, also after the concert
//   slugs      find-my-way; a route for each campaign
//   visitors   h3; what each visitor saw, by a cookie of whom many come once
// Healthy:
//   mails      connect; nunjucks compiles A templates when they are first asked for
//   tiny       hono; tiny-lru of A entries
//   seats      koa-session; sessions in memory that live A seconds, swept
//   holds      express; lokijs with a TTL of A seconds
//   backlog    h3; a p-queue of two at a time that falls behind in bursts
//   listings   koa; every B seconds cheerio reads a page of A concerts
//   posters    express; an upload of up to A KiB in chunks, put together and dropped
//   journal    hono; a journal of pino lines, written out each A lines
'use strict';
const http = require('http');
const crypto = require('crypto');
const [mode, first = '0', second = '0'] = process.argv.slice(2);
const [a, b] = [Number(first), Number(second)];
const port = Number(process.env.PORT);

const WORDS = 'hall row seat stage light piano late door strings tour night live open balcony loud encore brass and the of'.split(' ');
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const prose = (n) => Array.from({ length: n }, () => pick(WORDS)).join(' ');
const concert = (id) => ({
  id, title: prose(4), about: prose(40 + Math.floor(Math.random() * 200)), doors: new Date(Date.now() + (id % 1e6) * 1000),
  seats: Array.from({ length: 5 + Math.floor(Math.random() * 25) }, (_, k) => ({ row: k % 9, seat: k, price: 20 + Math.random() * 80, view: prose(8) })),
});
const idOf = (url) => Number(url.split('/').pop());
const regular = (id, people) => Math.floor(people * (id / 1e9) ** 3); // some come often

const serve = {
  plain: (answer) => http.createServer(async (request, response) => {
    const text = JSON.stringify(await answer(idOf(request.url)));
    response.setHeader('content-type', 'application/json');
    response.end(text);
  }).listen(port, '127.0.0.1'),
  connect: (answer, ...layers) => {
    const app = require('connect')();
    layers.forEach((layer) => app.use(layer));
    app.use(async (request, response) => response.end(JSON.stringify(await answer(idOf(request.url)))));
    http.createServer(app).listen(port, '127.0.0.1');
  },
  express: (answer) => {
    const app = require('express')();
    app.get('/item/:id', async (request, response) => response.json(await answer(Number(request.params.id))));
    app.listen(port, '127.0.0.1');
  },
  koa: (answer, ...layers) => {
    const app = new (require('koa'))();
    layers.forEach((layer) => app.use(layer(app)));
    app.use(async (context) => { context.body = await answer(idOf(context.path), context); });
    app.listen(port, '127.0.0.1');
  },
  hono: (answer) => {
    const app = new (require('hono').Hono)();
    app.get('/item/:id', async (context) => context.json(await answer(Number(context.req.param('id')))));
    require('@hono/node-server').serve({ fetch: app.fetch, port, hostname: '127.0.0.1' });
  },
  h3: (answer) => {
    const { createApp, eventHandler, toNodeListener } = require('h3');
    const app = createApp();
    app.use('/item', eventHandler((event) => answer(idOf(event.path))));
    http.createServer(toNodeListener(app)).listen(port, '127.0.0.1');
  },
};

const modes = {
  contexts() {
    const namespace = require('cls-hooked').createNamespace('request');
    serve.connect((id) => {
      namespace.set('concert', concert(id));
      return namespace.get('concert');
    }, (request, response, next) => {
      const context = namespace.createContext();
      namespace.enter(context);
      namespace.set('headers', request.headers);
      next();
    });
  },
  queues() {
    const PQueue = require('p-queue').default;
    const queues = new Map();
    serve.hono((id) => {
      const session = crypto.createHash('sha1').update(String(id)).digest('hex');
      if (!queues.has(session)) queues.set(session, new PQueue({ concurrency: 1 }).on('error', console.error));
      return queues.get(session).add(async () => concert(id));
    });
  },
  formats() {
    const formats = new Map();
    const zones = Intl.supportedValuesOf('timeZone');
    serve.h3((id) => {
      const found = concert(id);
      const key = `user-${id % 5000011}`;
      if (!formats.has(key)) {
        formats.set(key, {
          money: new Intl.NumberFormat(['de', 'en', 'fr', 'cs'][id % 4], { style: 'currency', currency: 'EUR' }),
          day: new Intl.DateTimeFormat('de', { dateStyle: 'long', timeZone: zones[id % zones.length] }),
        });
      }
      const { money, day } = formats.get(key);
      return { ...found, day: day.format(found.doors), prices: found.seats.map((seat) => money.format(seat.price)) };
    });
  },
  views() {
    const orders = new (require('lokijs'))('plaza').addCollection('orders', { indices: ['number'] });
    serve.express((id) => {
      orders.insert({ number: id, open: true, ...concert(id) });
      const page = orders.addDynamicView(`order-${id}`);
      page.applyFind({ number: id });
      const [found] = page.data();
      if (orders.count() > 200) orders.chain().simplesort('$loki').limit(1).remove();
      return found;
    });
  },
  quotes() {
    const upstream = http.createServer((request, response) => response.end(JSON.stringify(concert(idOf(request.url))))).listen(0, '127.0.0.1');
    const axios = require('axios').create({ proxy: false });
    const underWay = new Map();
    serve.koa((id) => {
      const url = `http://127.0.0.1:${upstream.address().port}/price/${id}`;
      if (!underWay.has(url)) underWay.set(url, axios.get(url).catch((error) => { underWay.delete(url); throw error; }));
      return underWay.get(url).then(({ data }) => data);
    });
  },
  drafts() {
    const drafts = new Map();
    serve.express((id) => {
      const upload = id % 4 ? crypto.randomUUID() : [...drafts.keys()].pop();
      const parts = drafts.get(upload) ?? [];
      parts.push(crypto.randomBytes(2000 + (id % 9000)));
      drafts.set(upload, parts);
      if (parts.length < 2) return { upload, parts: 1 };
      drafts.delete(upload);
      return { upload, size: Buffer.concat(parts).length };
    });
  },
  reminders() {
    const schedule = require('node-schedule');
    serve.koa((id) => {
      const order = concert(id);
      const rule = { second: id % 60 };
      schedule.scheduleJob(`order-${id}`, rule, () => { if (order.doors - Date.now() < 3600e3) order.reminded = true; });
      return order;
    });
  },
  slugs() {
    const router = require('find-my-way')();
    http.createServer((request, response) => {
      const id = idOf(request.url);
      const campaign = concert(id);
      router.on('GET', `/go/${campaign.title.replace(/ /g, '-')}-${id}`, (asked, answered) => answered.end(JSON.stringify(campaign)));
      router.lookup({ method: 'GET', url: `/go/${campaign.title.replace(/ /g, '-')}-${id}`, headers: {} }, response);
    }).listen(port, '127.0.0.1');
  },
  visitors() {
    const seen = {};
    serve.h3((id) => {
      const who = id % 3 ? `guest-${id}` : `user-${regular(id, 900)}`;
      const { title, doors, seats } = concert(id);
      (seen[who] ??= []).push({ title, doors, seats: seats.slice(0, 12) });
      if (seen[who].length > 15) seen[who].shift();
      return { title, doors, seen: seen[who].length };
    });
  },

  mails() {
    const nunjucks = require('nunjucks');
    const names = Array.from({ length: a }, (_, k) => [`mail-${k}`,
      `<h1>${prose(9)}</h1>${Array.from({ length: 30 }, () => `{% if c.id % 2 %}<p>${prose(12)} {{ c.title | upper }}</p>{% else %}{{ c.about | truncate(80) }}{% endif %}`).join('')}{% for s in c.seats %}<li>{{ s.view }}{% endfor %}`]);
    const sources = new Map(names);
    const mails = new nunjucks.Environment({ getSource: (name) => ({ src: sources.get(name), path: name, noCache: false }) });
    serve.connect((id) => ({ mail: mails.render(`mail-${regular(id, a)}`, { c: concert(id) }) }));
  },
  tiny() {
    const cache = require('tiny-lru').lru(a);
    serve.hono((id) => {
      const key = String(regular(id, a * 3));
      let found = cache.get(key);
      if (!found) cache.set(key, (found = concert(id)));
      return found;
    });
  },
  seats() {
    const sessions = new Map();
    const store = {
      get: async (key) => sessions.get(key)?.session,
      set: async (key, session) => { sessions.set(key, { session, until: Date.now() + a * 1000 }); },
      destroy: async (key) => { sessions.delete(key); },
    };
    setInterval(() => {
      for (const [key, { until }] of sessions) if (until < Date.now()) sessions.delete(key);
    }, 5000);
    serve.koa((id, context) => {
      context.session.basket = [concert(id), concert(id + 1)];
      return context.session.basket;
    }, (app) => {
      app.keys = ['a'];
      return require('koa-session')({ store, maxAge: a * 1000 }, app);
    });
  },
  holds() {
    const holds = new (require('lokijs'))('plaza').addCollection('holds', { ttl: a * 1000, ttlInterval: 5000 });
    serve.express((id) => {
      holds.insert(concert(id));
      return { held: holds.count(), ...concert(id) };
    });
  },
  backlog() {
    const queue = new (require('p-queue').default)({ concurrency: 2 });
    serve.h3((id) => {
      const found = concert(id);
      queue.add(() => new Promise((done) => { setTimeout(done, 50 + (id % 250), Buffer.from(JSON.stringify([found, found]))); }));
      return { ...found, ahead: queue.size };
    });
  },
  listings() {
    const { load } = require('cheerio');
    let best = [];
    setInterval(() => {
      const page = load(Array.from({ length: a }, (_, k) => `<article id=${k}><h2>${prose(4)}</h2><p class=price>${Math.random()}</p><p>${prose(30)}</p></article>`).join(''));
      best = page('article').map((_, one) => ({ title: page(one).find('h2').text(), price: Number(page(one).find('.price').text()) })).get()
        .sort((x, y) => x.price - y.price).slice(0, 20);
    }, b * 1000);
    serve.koa((id) => ({ ...concert(id), best }));
  },
  posters() {
    serve.express(async (id) => {
      const chunks = [];
      const size = Math.ceil(Math.random() ** 2 * a * 1024);
      for (let got = 0; got < size; got += 16384) {
        chunks.push(Buffer.alloc(16384, String(got)));
        if (got % 131072 === 0) await new Promise((done) => { setTimeout(done, 10); });
      }
      return { id, sum: crypto.createHash('sha256').update(Buffer.concat(chunks)).digest('hex') };
    });
  },
  journal() {
    let lines = [];
    const log = require('pino')({}, { write: (line) => {
      lines.push(line);
      if (lines.length < a) return;
      require('fs').writeFile('/dev/null', lines.join(''), () => {});
      lines = [];
    } });
    serve.hono((id) => {
      const found = concert(id);
      for (let k = 0; k < 8; k++) log.info({ id, found }, prose(6));
      return found;
    });
  },
};

modes[mode]();
