# The kernel has no memory for a copy of stanch, which is what a process begins as: fork fails with ENOMEM. The
# other worker is let alone, and when there is memory a new one comes. (Under vm.overcommit_memory=2 memory is
# counted when it is asked for, so what is left can be set: too little for the stacks of stanch's threads.)
configure 64MiB 'exec sleep 1000'
sed -i 's/^command = .*/command = ["sleep", "1000"]\nworkers = 2/' stanch.toml
sed -i 's/^\[restart\]/[restart]\nbackoff_max = "100ms"\nintensity = { restarts = 10000, within = "10s" }/' stanch.toml
up() { [ "$(status | grep -o '"state":"ready"' | wc -l)" = 2 ]; }
start
eventually 'both are ready' up
workers=$(status | grep -o '"pid":[0-9]*' | sed 's/.*://')
killed=$(echo "$workers" | head -n 1)
other=$(echo "$workers" | tail -n 1)

mkfifo never
committed=$(sed -n 's/^Committed_AS: *\([0-9]*\) kB/\1/p' /proc/meminfo)
echo 0 >/proc/sys/vm/user_reserve_kbytes
echo $((committed + 6144)) >/proc/sys/vm/overcommit_kbytes
echo 2 >/proc/sys/vm/overcommit_memory
kill -9 "$killed"
# Nothing is forked until there is memory again: this shell might get none either.
says() {
    while read -r line; do
        case $line in *'Cannot allocate memory'*) return 0 ;; esac
    done <stanch.log
    return 1
}
seconds=0
until says; do
    [ $seconds -lt 30 ] || fail 'not within 30 s: it is said'
    read -r -t 1 nothing <>never || seconds=$((seconds + 1))
done
expect 'stanch lives' kill -0 "$supervisor"
expect 'the other lives' kill -0 "$other"

echo 0 >/proc/sys/vm/overcommit_memory
eventually 'there are two again' up
expect 'the other was let alone' kill -0 "$other"
expect 'it is in the log' event worker_start_failed 'Cannot allocate memory'
expect 'the log is whole' stanch incidents verify --store store.db
stop
nothing_left /sys/fs/cgroup
