# The clock is set a day ahead and back again: nothing is done for it, and the log stays in its order.
configure 64MiB 'sleep 1000'
start
worker=$(worker)
now=$(date +%s)
date -s "@$((now + 86400))" >/dev/null
sleep 2
expect 'the worker lives' [ "$(worker)" = "$worker" ]
date -s "@$((now - 86400))" >/dev/null
sleep 2
expect 'the worker lives' [ "$(worker)" = "$worker" ]
kill -9 "$worker"
eventually 'it is replaced' generation 2
expect 'the log is whole' stanch incidents verify --store store.db
stop
date -s "@$now" >/dev/null
nothing_left /sys/fs/cgroup
