# Whose SIGKILL it was: somebody's.
configure 64MiB 'sleep 1000'
start
kill -9 "$(worker)"
eventually 'somebody killed it' event worker_crashed '"cause":"foreign_kill"'
stop
