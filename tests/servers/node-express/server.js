// Express with the default session store, which never forgets a session: each client that sends no
// cookie costs it one. node server.js [HOST [PORT]]
'use strict';
const express = require('express');
const session = require('express-session');

const host = process.argv[2] || '127.0.0.1';
const port = Number(process.argv[3] || 8000);
const kept = [];

const app = express();
// The warning of express-session that its memory store leaks is the point of this server.
app.use(session({ secret: 'test', resave: false, saveUninitialized: true }));

const answer = (response) => response.type('text').send(`${process.pid}\n`);
app.get(['/', '/pid'], (request, response) => answer(response));
app.get('/leak', (request, response) => {
  kept.push(Buffer.alloc(Number(request.query.kib || 0) * 1024, 1));
  answer(response);
});
app.get('/slow', (request, response) => {
  setTimeout(() => answer(response), Number(request.query.ms || 0));
});
app.get('/hang', () => {
  for (;;);
});

const server = app.listen(port, host);
process.on('SIGTERM', () => server.close(() => process.exit(0)));
