# Without root and without delegation: polling, and the limit holds as well as that can.
configure 64MiB 'exec stanch __fill 1GiB --hold'
chown shop .
start as_shop
expect 'polling is told' is polling
expect 'why is told' grep -q 'cannot make or write' stanch.log
go
eventually 'stanch killed it' event memory_hard_limit
stop
