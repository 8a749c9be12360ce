# stanch is killed: its worker stays within its limit, and the next stanch clears away.
configure 64MiB 'exec stanch __fill 1GiB'
start
worker=$(worker)
leaf=$(cgroup_of "$worker")
kill -9 "$supervisor"
wait "$supervisor" || true
expect 'the worker serves on' kill -0 "$worker"
go
eventually 'the kernel holds the limit' gone "$worker"
expect 'its cgroup was left' [ -d "$leaf" ]
start
expect 'its cgroup was swept' [ ! -e "$leaf" ]
stop
nothing_left /sys/fs/cgroup
