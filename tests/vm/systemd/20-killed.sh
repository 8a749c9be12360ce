# stanch is killed: the workers serve on under the next one, which takes them over and replaces them.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
workers=$(pids)
before=$(property MainPID)
kill -9 "$before"
expect 'it serves' serves 8000
eventually 'systemd has started another' restarted "$before"
expect 'they were adopted' event supervisor_recovered '"adopted":2'
expect 'it serves' serves 8000
eventually 'they are replaced' replaced "$workers"
expect 'none crashed' [ "$(events | grep -c worker_crashed)" = 0 ]
worker=$(pids | tail -n 1)
expect 'the kernel holds the limit of new ones' \
    grep -q $((64 << 20)) "$(cgroup_of "$worker")/memory.max"
