# Without root, in a delegated cgroup (Delegate=yes): the supervisor makes room for its workers, and
# takes it back at its end.
own=/sys/fs/cgroup/shop.service
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir "$own"
chown shop "$own" "$own/cgroup.procs" "$own/cgroup.subtree_control" "$own/cgroup.threads"
configure 64MiB 'exec stanch __fill 1GiB'
chown shop .
in_the_unit() {
    sh -c 'echo $PPID >"$1/cgroup.procs"' sh "$own"
    as_shop "$@"
}
start in_the_unit
expect 'cgroup2 is told' is cgroup2
case $(cgroup_of "$supervisor") in
"$own"/stanch-shop.*/supervisor) ;;
*) fail "stanch is in $(cgroup_of "$supervisor")" ;;
esac
go
eventually 'the kernel killed it' event memory_oom_killed
eventually 'its replacement is ready' generation 2
stop
nothing_left "$own"
expect 'room is taken back' [ -z "$(cat "$own/cgroup.subtree_control")" ]
eventually 'the unit ends' rmdir "$own"
