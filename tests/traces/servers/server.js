// node server.js leak|lru|churn|late : one small service, four ways of holding memory.
const http = require('http');
const [mode, size = '2000', bound = '30000'] = process.argv.slice(2);
const map = new Map();
let served = 0;
const page = (key) => ({ key, rows: Array.from({ length: 20 }, (_, i) => ({ i, text: `row ${i} of ${key}` })) });
http.createServer((req, res) => {
  served += 1;
  const key = req.url;
  const body = JSON.stringify(page(key));
  if (mode === 'leak' || (mode === 'late' && process.uptime() > 90)) {
    map.set(key + served, Buffer.alloc(+size, 1).toString('latin1') + served);
  } else if (mode === 'lru') {
    map.set(key, Buffer.alloc(+size, 1).toString('latin1') + served);
    if (map.size > +bound) map.delete(map.keys().next().value);
  }
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(JSON.parse(body)));
}).listen(+process.env.PORT, '127.0.0.1');
