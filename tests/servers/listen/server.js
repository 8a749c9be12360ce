// An HTTP server that listens wherever it is told: node server.js WHERE...
//   fd:3          a descriptor that it inherits
//   env:PORT      127.0.0.1 and the port in that variable
//   8000          no host: `::`, both families
//   [::1]:8000    one address
//   try:8000      as a debugger does: if it is taken, go on without
// With CLUSTER=rr or CLUSTER=none it is a node cluster of two children, with that scheduling.
'use strict';
const cluster = require('node:cluster');
const http = require('node:http');

function options(where) {
  const [, kind, rest] = /^(?:(fd|env|try):)?(.+)$/.exec(where);
  if (kind === 'fd') return { fd: Number(rest) };
  if (kind === 'env') return { port: Number(process.env[rest]), host: '127.0.0.1' };
  const [, host, port] = /^(?:\[?([^\]]*)\]?:)?(\d+)$/.exec(rest);
  return { port: Number(port), host };
}

function serve() {
  const servers = process.argv.slice(2).map((where) => {
    const server = http.createServer((request, response) => response.end(`${process.pid}\n`));
    if (where.startsWith('try:')) server.on('error', () => {});
    return server.listen(options(where));
  });
  process.on('SIGTERM', () => {
    let open = servers.length;
    const closed = () => --open || process.exit(0);
    servers.forEach((server) => server.close(closed));
  });
}

if (process.env.CLUSTER && cluster.isPrimary) {
  cluster.schedulingPolicy =
    process.env.CLUSTER === 'rr' ? cluster.SCHED_RR : cluster.SCHED_NONE;
  cluster.fork();
  cluster.fork();
  // The children get the signal as well; the primary goes when they have.
  process.on('SIGTERM', () => {});
  cluster.on('exit', () => Object.keys(cluster.workers).length || process.exit(0));
} else {
  serve();
}
