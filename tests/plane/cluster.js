// A cluster of two: the primary binds, its children accept.
const cluster = require('cluster');
if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  require('net').createServer((c) => c.end(process.env.PLANE_ID)).listen(Number(process.argv[2]));
}
