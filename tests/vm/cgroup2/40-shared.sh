# Beside other processes, as in a shell of root's: the folder is made next to that cgroup.
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/session
sleep 1000 &
shell=$!
echo $shell >/sys/fs/cgroup/session/cgroup.procs
configure 64MiB 'exec stanch __fill 1GiB'
start sh -c 'echo $$ >/sys/fs/cgroup/session/cgroup.procs; exec "$@"' sh
expect 'cgroup2 is told' is cgroup2
expect 'stanch stays where it was' [ "$(cgroup_of "$supervisor")" = /sys/fs/cgroup/session ]
go
eventually 'the kernel killed it' event memory_oom_killed
stop
nothing_left /sys/fs/cgroup
kill $shell
eventually 'the session ends' rmdir /sys/fs/cgroup/session
