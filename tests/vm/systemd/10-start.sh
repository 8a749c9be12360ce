# The unit starts two instances; each is ready when its workers are.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
configure_unit shop 8000
configure_unit desk 9000
ifconfig lo up
insmod /modules/inet_diag.ko
insmod /modules/tcp_diag.ko
systemctl start stanch@shop stanch@desk
expect 'it is active' [ "$(systemctl is-active stanch@shop)" = active ]
told() { [ "$(property StatusText)" = 'running: 2 of 2 workers ready' ]; }
eventually 'it tells its state' told
expect 'the kernel holds the limit' is 'enforced_by":"cgroup2'
expect 'status shows both' [ "$(stanch status --json | wc -l)" = 2 ]
systemd-analyze --no-pager security stanch@shop | tail -n 1
