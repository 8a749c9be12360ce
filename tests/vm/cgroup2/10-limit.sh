# The limit holds against the fastest allocator; the kernel kills, and the record says so.
configure 64MiB 'exec stanch __fill 1GiB'
start
expect 'cgroup2 is told' is cgroup2
worker=$(worker)
leaf=$(cgroup_of "$worker")
expect 'the limit' [ "$(cat "$leaf/memory.max")" = 67108864 ]
expect 'no swap beyond it' [ ! -e "$leaf/memory.swap.max" -o "$(cat "$leaf/memory.swap.max")" = 0 ]
expect 'all go together' [ "$(cat "$leaf/memory.oom.group")" = 1 ]
go
eventually 'the kernel killed it' event memory_oom_killed '"cause":"hard_limit"'
peak_kib=$(events | sed -n 's/.*"memory_oom_killed".*"peak_kib":\([0-9]*\).*/\1/p')
expect "peak of $peak_kib KiB" [ "$peak_kib" -le 65536 -a "$peak_kib" -gt 60000 ]
eventually 'its replacement is ready' generation 2
expect 'its end' event worker_retired '"cause":"killed"'
expect 'nothing of it is left' [ ! -e "$leaf" ]
stop
nothing_left /sys/fs/cgroup
