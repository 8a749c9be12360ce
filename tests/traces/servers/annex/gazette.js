// gazette.js MODE [A] [B]: what a newspaper keeps, under tinyhttp, micro or a bare server with find-my-way. Leaks:
//   breakers   opossum; a circuit breaker for each address that is fetched
//   loggers    winston; a logger of its own for each request, which the container keeps
//   readers    xstate; an actor for each visit, not stopped when the reader leaves
//   feeds      a deflater for each feed, not closed when its reader is gone
//   counts     mobx; a reaction to the count of each article, not disposed of
//   search     minisearch; articles are added, those withdrawn only marked
//   locales    i18next; a bundle for each language header as it was sent
// Healthy:
//   styles     less; a stylesheet of up to A rules for each request
//   sections   eta; A templates, compiled when first asked for
//   limits     rate-limiter-flexible; each visitor is counted for A seconds
//   presses    generic-pool; at most A presses of a MiB each, made when there are none
//   index      minisearch; A articles, replaced now and then
//   drafts     immer; the last A states of an article
//   edition    every B seconds an edition of A articles
//   letters    bottleneck; letters wait for their turn, in surges many
const http = require('node:http')
const zlib = require('node:zlib')

const [mode, a, b] = [process.argv[2], +process.argv[3], +process.argv[4]]
const words = 'press page lead story quote source late night desk editor print run column fact proof ink'.split(' ')
const random = n => Math.floor(Math.random() * n)
const prose = n => Array.from({ length: n }, () => words[random(words.length)]).join(' ')
const regular = (id, people) => Math.floor(people * (id / 1e9) ** 3) // some come often
const article = id => ({ id, title: prose(6), text: prose(60 + random(300)), notes: Array.from({ length: random(16) }, (_, at) => ({ at, text: prose(12) })) })
const wait = ms => new Promise(done => setTimeout(done, ms))

const modes = {
  breakers () {
    const Breaker = require('opossum')
    const breakers = new Map()
    return async id => {
      const address = `/wire/${regular(id, 20000)}`
      if (!breakers.has(address)) breakers.set(address, new Breaker(async () => article(id), { timeout: 2000 }))
      return breakers.get(address).fire()
    }
  },
  loggers () {
    const winston = require('winston')
    const { Writable } = require('node:stream')
    const nowhere = new Writable({ write: (line, encoding, done) => done() })
    return id => {
      const log = winston.loggers.get(`request-${id}`, { transports: [new winston.transports.Stream({ stream: nowhere })], defaultMeta: { id } })
      log.info('asked')
      return article(id)
    }
  },
  readers () {
    const { createMachine, createActor, assign } = require('xstate')
    const machine = createMachine({
      id: 'reader',
      initial: 'reading',
      context: ({ input }) => ({ article: input, pages: 0 }),
      states: {
        reading: { on: { TURN: { actions: assign({ pages: ({ context }) => context.pages + 1 }) }, LEAVE: 'gone' }, after: { 3600000: 'gone' } },
        gone: { type: 'final' }
      }
    })
    return id => {
      const actor = createActor(machine, { input: article(id) })
      actor.start()
      actor.send({ type: 'TURN' })
      return actor.getSnapshot().context.article
    }
  },
  feeds () {
    const feeds = new Map()
    return id => {
      const feed = zlib.createDeflate({ memLevel: 5, windowBits: 12 })
      feed.on('data', () => {})
      feeds.set(id, feed)
      feed.write(JSON.stringify(article(id)))
      feed.flush()
      return { following: feeds.size }
    }
  },
  counts () {
    const { observable, autorun } = require('mobx')
    const total = observable({ visits: 0 })
    return id => {
      const found = observable(article(id))
      autorun(() => { found.seen = total.visits + found.notes.length })
      if (random(40) === 0) total.visits++
      return { ...found }
    }
  },
  search () {
    const MiniSearch = require('minisearch')
    const index = new MiniSearch({ fields: ['title', 'text'], storeFields: ['title', 'text', 'withdrawn'] })
    let last = 0
    return id => {
      index.add({ ...article(id), id: ++last, title: `${prose(4)} ${id}`, withdrawn: false })
      return index.search(prose(1), { filter: hit => !hit.withdrawn && hit.id > last - 50 }).slice(0, 3).map(hit => hit.title)
    }
  },
  locales () {
    const i18n = require('i18next').createInstance()
    i18n.init({ lng: 'en', resources: {} })
    return id => {
      const language = `en-${id % 1e5}-q${random(10)}`
      if (!i18n.hasResourceBundle(language, 'page')) {
        i18n.addResourceBundle(language, 'page', Object.fromEntries(Array.from({ length: 60 }, (_, k) => [`line${k}`, `${prose(4)} {{id}}`])))
      }
      return i18n.getFixedT(language, 'page')('line7', { id })
    }
  },
  styles () {
    const less = require('less')
    return async id => {
      const rules = Array.from({ length: 1 + random(a) }, (_, k) => `.r${k} { @w: ${k}px; width: (@w * 2); .in { color: lighten(#333, ${k % 50}%); margin: @w } }`)
      return (await less.render(rules.join('\n'))).css.slice(0, 4000)
    }
  },
  sections () {
    const { Eta } = require('eta')
    const eta = new Eta()
    const sources = Array.from({ length: a }, (_, n) => Array.from({ length: 60 }, () => `<p>${prose(8)} <% if (it.id > ${n}) { %><%= it.title %><% } %></p>`).join(''))
    return id => {
      const n = regular(id, a)
      if (!eta.templatesSync.get(`@${n}`)) eta.loadTemplate(`@${n}`, sources[n])
      return eta.render(`@${n}`, article(id))
    }
  },
  limits () {
    const { RateLimiterMemory } = require('rate-limiter-flexible')
    const limiter = new RateLimiterMemory({ points: 50, duration: a })
    const history = new Map()
    return async id => {
      const visitor = regular(id, 100000)
      await limiter.consume(visitor)
      const seen = article(id)
      history.set(visitor, [...(history.get(visitor) || []), seen].slice(-5))
      setTimeout(() => history.delete(visitor), a * 1000)
      return seen
    }
  },
  presses () {
    const pool = require('generic-pool').createPool({ create: async () => Buffer.alloc(1 << 20, 1), destroy: async () => {} }, { max: a })
    return async id => {
      const press = await pool.acquire()
      const text = JSON.stringify(article(id))
      press.write(text, random(1 << 19))
      wait(200 + random(2500)).then(() => pool.release(press))
      return text
    }
  },
  index () {
    const MiniSearch = require('minisearch')
    const index = new MiniSearch({ fields: ['title', 'text'], storeFields: ['title'] })
    return id => {
      const found = { ...article(id), id: regular(id, a) }
      if (index.has(found.id)) index.replace(found)
      else index.add(found)
      return index.search(prose(2)).slice(0, 5)
    }
  },
  drafts () {
    const { produce } = require('immer')
    const states = []
    let draft = { articles: Array.from({ length: 200 }, (_, id) => article(id)) }
    return id => {
      draft = produce(draft, next => { next.articles[id % 200] = article(id) })
      states.push(draft)
      if (states.length > a) states.shift()
      return draft.articles[id % 200]
    }
  },
  edition () {
    setInterval(() => {
      const pages = Array.from({ length: a }, (_, id) => article(id))
      pages.sort((x, y) => x.text < y.text ? -1 : 1)
      zlib.gzip(JSON.stringify(pages), () => {})
    }, b * 1000)
    return article
  },
  letters () {
    const Bottleneck = require('bottleneck')
    const desk = new Bottleneck({ maxConcurrent: 2, minTime: 120 })
    return id => {
      const letter = { ...article(id), scan: Buffer.alloc(30000, id % 250) }
      desk.schedule(() => wait(random(50)).then(() => letter.scan.length))
      return { waiting: desk.counts().QUEUED }
    }
  }
}

const answer = modes[mode]()
const port = +process.env.PORT
const number = path => +path.slice(path.lastIndexOf('/') + 1)
if (['breakers', 'feeds', 'sections', 'limits', 'edition'].includes(mode)) {
  import(`${process.env.NODE_PATH}/@tinyhttp/app/dist/index.js`).then(({ App }) => new App()
    .get('/item/:id', async (request, response) => response.json(await answer(+request.params.id)))
    .listen(port, undefined, '127.0.0.1'))
} else if (['loggers', 'readers', 'locales', 'styles', 'index', 'letters'].includes(mode)) {
  const { serve } = require('micro')
  http.createServer(serve(async request => answer(number(request.url)))).listen(port, '127.0.0.1')
} else {
  const router = require('find-my-way')()
  router.on('GET', '/item/:id', async (request, response, { id }) => response.end(JSON.stringify(await answer(+id))))
  http.createServer((request, response) => router.lookup(request, response)).listen(port, '127.0.0.1')
}
