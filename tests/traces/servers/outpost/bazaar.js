// bazaar.js MODE [A] [B]: what a bazaar keeps, under restana or a bare server. Leaks:
//   stalls     eventemitter2; each buyer listens for the stalls she looked at, also when she has gone
//   banners    mustache; the names are put into the template before it is parsed, and each text is cached
//   colours    emotion; a style for each seller's own colours, on the server, whose cache nobody empties
//   spans      opentelemetry; the exporter into memory, forgotten in production
//   quotes     p-memoize; a quote for each buyer and thing, remembered without a bound
//   reminders  croner; a job for each basket reminds of it daily, also of those paid
//   uploads    csv-parse; a parser for each upload, kept for its next part, which often does not come
//   closing    each request listens for the end of the whole server
// Healthy:
//   prices     hashlru; the prices asked for last, about A
//   guests     a session store of A seconds, swept every ten
//   pages      react; a page of up to A things for each request
//   ledger     exceljs; every B seconds a workbook of A rows
//   orders     fastq; orders wait for one of two clerks, in surges many
//   scales     piscina; at most A threads weigh, started when there are more goods
//   replay     denque; the last A events, for those who come back
//   snippets   highlight.js; languages are loaded when first asked for, A of them
//   baskets    nedb; baskets of the last A seconds
//   awnings    emotion; styles of A colours, twice
//   receipts   mustache; A templates, what differs is put in when they are rendered
const http = require('node:http')

const [mode, a, b] = [process.argv[2], +process.argv[3], +process.argv[4]]
const words = 'carpet lamp spice tea brass silk coin seller bargain basket copper saffron bread awning alley noon'.split(' ')
const random = n => Math.floor(Math.random() * n)
const prose = n => Array.from({ length: n }, () => words[random(words.length)]).join(' ')
const regular = (id, people) => Math.floor(people * (id / 1e9) ** 3) // some come often
const thing = id => ({ id, name: prose(4), text: prose(50 + random(250)), offers: Array.from({ length: random(14) }, (_, at) => ({ at, by: prose(2), note: prose(11) })) })
const wait = ms => new Promise(resolve => setTimeout(resolve, ms))

const modes = {
  stalls () {
    const { EventEmitter2 } = require('eventemitter2')
    const market = new EventEmitter2({ wildcard: true, maxListeners: 0 })
    return id => {
      const found = thing(id)
      const stall = `stall.${random(400)}`
      market.on(`${stall}.*`, price => { found.price = price })
      if (random(5) === 0) market.emit(`${stall}.price`, random(100))
      return found
    }
  },
  banners () {
    const mustache = require('mustache')
    return id => {
      const found = thing(id)
      return { banner: mustache.render(`Dear ${prose(2)} ${id},\n{{name}}: {{text}}{{#offers}}\n- {{by}} says {{note}}{{/offers}}\nYours, ${prose(3)}`, found) }
    }
  },
  colours () {
    const { css } = require('@emotion/css')
    return id => {
      const hue = id % 360
      const seller = css`
        color: hsl(${hue}, ${id % 97}%, 40%);
        padding: ${random(20)}px;
        & > .offer { border: 1px solid hsl(${hue}, 30%, ${id % 89}%); &:hover { margin: ${random(9)}px; } }
        @media (max-width: ${400 + id % 501}px) { & > .offer { display: none; background: hsl(${id % 353}, 20%, 90%); } }`
      return { seller, ...thing(id) }
    }
  },
  spans () {
    const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-base')
    const tracer = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new InMemorySpanExporter())] }).getTracer('bazaar')
    return id => {
      const span = tracer.startSpan('thing', { attributes: { 'http.route': '/item/:id', 'http.target': `/item/${id}` } })
      const found = thing(id)
      for (const { by } of found.offers) tracer.startSpan('offer', { attributes: { by, id } }).end()
      span.end()
      return found
    }
  },
  quotes () {
    const ready = import(`${process.env.NODE_PATH}/p-memoize/dist/index.js`)
      .then(({ default: memoize }) => memoize(async (buyer, id) => ({ buyer, ...thing(id) }), { cacheKey: JSON.stringify }))
    return async id => (await ready)(regular(id, 5000), id % 300)
  },
  reminders () {
    const { Cron } = require('croner')
    return id => {
      const basket = Array.from({ length: 1 + random(3) }, () => thing(id))
      new Cron('0 9 * * *', () => basket.forEach(one => { one.reminded = true }))
      return basket
    }
  },
  uploads () {
    const { parse } = require('csv-parse')
    const uploads = new Map()
    return id => {
      const upload = regular(id, 100000)
      if (!uploads.has(upload)) uploads.set(upload, { rows: [], parser: parse({ columns: true }).on('data', row => uploads.get(upload).rows.push(row)).on('error', () => {}) })
      const { parser, rows } = uploads.get(upload)
      if (!rows.length) parser.write('name,text,price\n')
      for (let k = random(12); k >= 0; k--) parser.write(`${prose(3)},${prose(20)},${random(500)}\n`)
      return { upload, rows: rows.length }
    }
  },
  closing () {
    const closing = new AbortController()
    require('node:events').setMaxListeners(0, closing.signal)
    process.on('SIGTERM', () => { closing.abort(); process.exit() })
    return async id => {
      const found = thing(id)
      const given = new Promise((resolve, reject) => {
        closing.signal.addEventListener('abort', () => reject(new Error(`closing, no ${found.name}`)), { once: true })
        setTimeout(resolve, random(40), found)
      })
      return given
    }
  },
  prices () {
    const prices = require('hashlru')(a)
    return id => {
      const key = Math.floor(4 * a * (id / 1e9) ** 2)
      if (!prices.has(key)) prices.set(key, { ...thing(key), picture: Buffer.alloc(1000 + random(9000), 1) })
      return { id: key, size: prices.get(key).picture.length }
    }
  },
  guests () {
    const guests = new Map()
    setInterval(() => {
      for (const [name, { seen }] of guests) if (seen < Date.now() - a * 1000) guests.delete(name)
    }, 10000)
    return id => {
      const name = regular(id, 20000)
      const guest = guests.get(name) ?? { name, looked: [] }
      guest.seen = Date.now()
      guest.looked.push(thing(id))
      if (guest.looked.length > 5) guest.looked.shift()
      guests.set(name, guest)
      return { name, looked: guest.looked.length }
    }
  },
  pages () {
    const { createElement: h } = require('react')
    const { renderToString } = require('react-dom/server')
    const Offer = ({ by, note }) => h('li', { className: 'offer' }, h('b', null, by), ' ', note)
    const Thing = ({ name, text, offers }) => h('section', null, h('h2', null, name), h('p', null, text), h('ul', null, offers.map(one => h(Offer, { key: one.at, ...one }))))
    return id => ({ html: renderToString(h('main', null, Array.from({ length: 1 + random(a) }, (_, k) => h(Thing, { key: k, ...thing(id) })))) })
  },
  ledger () {
    const excel = require('exceljs')
    setInterval(async () => {
      const book = new excel.Workbook()
      const sheet = book.addWorksheet('ledger')
      for (let k = 0; k < a; k++) {
        sheet.addRow([k, prose(3), prose(9), random(500), new Date()])
        if (k % 200 === 0) await wait(5)
      }
      await book.xlsx.writeBuffer()
    }, b * 1000)
    return thing
  },
  orders () {
    const clerks = require('fastq').promise(async order => { await wait(150 + random(150)); return order.scan.length }, 2)
    return id => {
      clerks.push({ ...thing(id), scan: Buffer.alloc(40000, id % 250) })
      return { waiting: clerks.length() }
    }
  },
  scales () {
    const { Piscina } = require('piscina')
    const weigh = `module.exports = list => { const seen = new Map(); for (const one of list) for (const word of one.text.split(' ')) seen.set(word, (seen.get(word) ?? 0) + one.id); return [...seen] }`
    const file = require('node:path').join(require('node:os').tmpdir(), `weigh-${process.pid}.js`)
    require('node:fs').writeFileSync(file, weigh)
    const pool = new Piscina({ filename: file, minThreads: 1, maxThreads: a, idleTimeout: 120000, concurrentTasksPerWorker: 1 })
    const load = id => Array.from({ length: 20 + random(60) }, () => thing(id))
    return async id => (await Promise.all(Array.from({ length: 1 + random(a) }, () => pool.run(load(id))))).flat()
  },
  replay () {
    const Denque = require('denque')
    const events = new Denque([], { capacity: a })
    return id => {
      events.push({ at: Date.now(), ...thing(id) })
      return { last: events.size() }
    }
  },
  snippets () {
    const core = require('highlight.js/lib/core')
    const names = require('node:fs').readdirSync(`${process.env.NODE_PATH}/highlight.js/lib/languages`).map(name => name.split('.')[0]).slice(0, a)
    return id => {
      const language = names[regular(id, names.length)]
      if (!core.getLanguage(language)) core.registerLanguage(language, require(`highlight.js/lib/languages/${language}`))
      const { offers } = thing(id)
      return { html: core.highlight(offers.map(({ at, by, note }) => `if (${by.replace(' ', '_')} == ${at}) { print("${note}"); } // ${note}`).join('\n'), { language }).value }
    }
  },
  baskets () {
    const Store = require('@seald-io/nedb')
    const store = new Store()
    store.ensureIndex({ fieldName: 'buyer' })
    store.ensureIndex({ fieldName: 'at' })
    setInterval(() => store.removeAsync({ at: { $lt: Date.now() - a * 1000 } }, { multi: true }), 5000)
    return async id => {
      const buyer = regular(id, 3000)
      await store.insertAsync({ buyer, at: Date.now(), ...thing(id) })
      return store.countAsync({ buyer })
    }
  },
  awnings () {
    const { css } = require('@emotion/css')
    return id => ({ awning: css({ color: `hsl(${regular(id, a)}, 40%, 50%)`, '&:hover': { margin: id % 2 } }), ...thing(id) })
  },
  receipts () {
    const mustache = require('mustache')
    const templates = Array.from({ length: a }, () => `{{name}} ${prose(60)} {{#offers}}\n${prose(5)} {{by}}: {{note}}{{/offers}}`)
    return id => ({ receipt: mustache.render(templates[regular(id, a)], thing(id)) })
  }
}

const answer = modes[mode]()
const port = +process.env.PORT
if (['stalls', 'colours', 'spans', 'reminders', 'guests', 'ledger', 'replay', 'scales'].includes(mode)) {
  require('restana')().get('/item/:id', async (request, response) => response.send(await answer(+request.params.id))).start(port, '127.0.0.1')
} else {
  http.createServer(async (request, response) => response.end(JSON.stringify(await answer(+request.url.split('/').pop())))).listen(port, '127.0.0.1')
}
