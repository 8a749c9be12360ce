// node's own HTTP server. node server.js [HOST [PORT [careless]]], or: fd NUMBER
// A careless one does not handle SIGTERM, as most first versions do not.
'use strict';
const http = require('node:http');

const host = process.argv[2] || '127.0.0.1';
const port = Number(process.argv[3] || 8000);
const kept = [];

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const answer = () => response.end(`${process.pid}\n`);
  switch (url.pathname) {
    case '/':
    case '/pid':
      return answer();
    case '/leak':
      kept.push(Buffer.alloc(Number(url.searchParams.get('kib') || 0) * 1024, 1));
      return answer();
    case '/slow':
      return setTimeout(answer, Number(url.searchParams.get('ms') || 0));
    case '/events':
      response.setHeader('content-type', 'text/event-stream');
      response.write('data: begun\n\n');
      response.timer = setInterval(() => response.write('data: more\n\n'), 100);
      return response.on('close', () => clearInterval(response.timer));
    case '/hang':
      for (;;);
    default:
      response.statusCode = 404;
      return response.end('not found\n');
  }
});

server.listen(host === 'fd' ? { fd: port } : { port, host });
if (process.argv[4] !== 'careless') {
  process.on('SIGTERM', () => server.close(() => process.exit(0)));
}
