# A container's own root, with an init beside stanch: all processes make room.
own=/sys/fs/cgroup/container
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir "$own"
configure 64MiB 'exec stanch __fill 1GiB'
start unshare -m sh -c "
    mount --make-rprivate /
    mount --bind $own /sys/fs/cgroup
    echo \$\$ >/sys/fs/cgroup/cgroup.procs
    sleep 1000 &
    exec \"\$@\"" sh
expect 'cgroup2 is told' is cgroup2
expect 'the root is empty' [ -z "$(cat "$own/cgroup.procs")" ]
go
eventually 'the kernel killed it' event memory_oom_killed
stop
nothing_left "$own"
expect 'the init is back' [ "$(wc -l <"$own/cgroup.procs")" = 1 ]
kill "$(cat "$own/cgroup.procs")"
eventually 'the container ends' rmdir "$own"
