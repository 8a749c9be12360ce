# All are killed at once: who connects meanwhile waits, in a socket that systemd has kept, for the next ones.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
kept() { [ "$(property NFileDescriptorStore)" -ge 2 ]; }
eventually 'the sockets are kept' kept
before=$(property MainPID)
systemctl kill --kill-whom=all --signal=KILL stanch@shop
waits() { { printf 'GET / HTTP/1.0\r\nHost: x\r\n\r\n' && sleep 25; } | timeout 30 nc 127.0.0.1 8000 | grep -q '^HTTP/1.* 200'; }
expect 'nobody is refused' waits
eventually 'systemd has started another' restarted "$before"
