# Another stanch takes over in the same process: for systemd it is a reload, the workers and their limits stay.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
workers=$(pids)
before=$(property MainPID)
stanch upgrade --socket $socket
stanch upgrade --socket $socket
expect 'it is told' event supervisor_upgraded '"workers_kept":2'
expect 'it is the same process' [ "$(property MainPID)" = "$before" ]
eventually 'it is active' [ "$(property ActiveState)" = active ]
expect 'the workers are the same' [ "$(pids)" = "$workers" ]
for worker in $workers; do
    expect 'the kernel holds their limit' grep -q $((64 << 20)) "$(cgroup_of "$worker")/memory.max"
done
expect 'it serves' serves 8000
stanch restart --socket $socket
eventually 'they are replaced' replaced "$workers"
worker=$(pids | tail -n 1)
expect 'the kernel holds the limit of new ones' \
    grep -q $((64 << 20)) "$(cgroup_of "$worker")/memory.max"
