# The unit starts two instances; each is ready when its workers are.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
configure_unit shop 8000
configure_unit desk 9000
ifconfig lo up
systemctl start stanch@shop stanch@desk
expect 'it is active' [ "$(systemctl is-active stanch@shop)" = active ]
expect 'it tells its state' [ "$(property StatusText)" = 'running: 2 of 2 workers ready' ]
expect 'the kernel holds the limit' is 'enforced_by":"cgroup2'
expect 'status shows both' [ "$(stanch status --json | wc -l)" = 2 ]
systemd-analyze --no-pager security stanch@shop | tail -n 1
