# A child over the limit takes the whole tree, also what daemonized out of it with a clear environment.
configure 64MiB "
    env -i setsid sh -c 'echo \$\$ >$PWD/daemon; exec sleep 1000' &
    until [ -s $PWD/daemon ]; do sleep 0.1; done
    stanch __fill 1GiB
    sleep 1000"
start
worker=$(worker)
go
eventually 'the kernel killed it' event memory_oom_killed
eventually 'the leader went with it' gone "$worker"
eventually 'the daemon went with it' gone "$(cat daemon)"
eventually 'its replacement is ready' generation 2
stop
nothing_left /sys/fs/cgroup
