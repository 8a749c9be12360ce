# Whose SIGKILL it was: the host's OOM killer, below the worker's own limit.
configure 4GiB 'exec stanch __fill 2GiB'
start
go
eventually 'the host killed it' event worker_crashed '"cause":"host_oom"'
expect 'the peak is told' event worker_crashed '"peak_kib":[1-9]'
expect 'not at its limit' sh -c '! stanch incidents events --json --store store.db | grep -q memory_oom_killed'
stop
