# The words of the steps. A step has a folder of its own as its current one.

fail() {
    echo "FAILED: $*"
    exit 1
}

# eventually WHAT COMMAND...: asks until the command is well.
eventually() {
    what=$1
    shift
    deadline=$(($(date +%s) + 30))
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt $deadline ] || fail "not within 30 s: $what"
        sleep 0.1
    done
}

# expect WHAT COMMAND...: is well now.
expect() {
    what=$1
    shift
    "$@" || fail "$what"
}

# configure LIMIT SCRIPT: one worker, a shell that runs the script when the file `go` comes.
configure() {
    printf 'until mv %s %s.taken; do sleep 0.1; done 2>/dev/null\n%s\n' "$PWD/go" "$PWD/go" "$2" >work
    cat >stanch.toml <<END
[app]
name = "shop"
command = ["sh", "$PWD/work"]
[listen]
mode = "none"
[memory]
hard_limit = "$1"
[leak]
action = "off"
[restart]
backoff_initial = "10ms"
[control]
socket = "$PWD/control.sock"
[store]
path = "$PWD/store.db"
END
}

# start [COMMAND...]: stanch, in front of it perhaps a command that executes it.
start() {
    "$@" stanch run --config stanch.toml >>stanch.log 2>&1 &
    supervisor=$!
    eventually 'a worker is ready' is ready
}

status() { stanch status --json --socket "${socket:-control.sock}"; }
is() { status | grep -q "\"$1\""; }
events() { stanch incidents events --json --store "${store:-store.db}"; }
# event KIND [TEXT]: there is one, and it has the text.
event() { events | grep "\"kind\":\"$1\"" | grep -q -- "${2:-}"; }
worker() { status | sed 's/.*"pid":\([0-9]*\).*/\1/'; }
generation() { status | grep -q "\"generation\":$1,.*\"state\":\"ready\""; }
gone() { ! kill -0 "$1" 2>/dev/null; }
cgroup_of() { echo "/sys/fs/cgroup$(sed 's/^0:://' "/proc/$1/cgroup")"; }
go() { touch go; }
# In front of a command: as a user without rights.
as_shop() { exec su -m -s /bin/sh -- shop -c 'exec "$@"' sh "$@"; }

stop() {
    kill "$supervisor"
    eventually 'stanch has ended' gone "$supervisor"
    wait "$supervisor" || true
}

# nothing_left FOLDER: stanch left no cgroup there.
nothing_left() {
    left=$(find "$1" -name 'stanch-*')
    [ -z "$left" ] || fail "cgroups were left: $left"
}

# What follows is for steps under systemd.

# configure_unit NAME PORT: an instance of the unit, with two workers.
configure_unit() {
    mkdir -p /etc/stanch /etc/systemd/system/stanch@.service.d
    # There is no journal.
    printf '[Service]\nStandardOutput=append:/tmp/%%i.log\n' >/etc/systemd/system/stanch@.service.d/log.conf
    systemctl daemon-reload
    cat >"/etc/stanch/$1.toml" <<END
[app]
name = "$1"
command = ["stanch", "__leaky-server", "--address", "127.0.0.1:$2", "--session", "1KiB"]
workers = 2
[listen]
address = ["127.0.0.1:$2"]
[memory]
soft_limit = "60MiB"
hard_limit = "64MiB"
[rolling]
slow_start = "0s"
cooldown = "1s"
drain_timeout = "5s"
END
}

# Whether a port answers. Who closes his side has no interest in the answer, so it is held open for a while.
serves() {
    { printf 'GET / HTTP/1.0\r\nHost: x\r\n\r\n' && sleep 2; } | timeout 5 nc 127.0.0.1 "$1" |
        grep -q '^HTTP/1.* 200'
}
property() { systemctl show --property "$1" --value stanch@shop; }
# The pids of the workers that are ready, the newest last.
pids() { status | grep -o '"slot":[0-9]*,"pid":[0-9]*' | sed 's/.*://'; }
# restarted PID: another stanch is in its place, and ready.
restarted() { [ "$(property MainPID)" != "$1" ] && [ "$(property ActiveState)" = active ] && up; }
up() { [ "$(status | grep -o '"state":"ready"' | wc -l)" -ge 2 ]; }
# replaced PIDS: none of them lives.
replaced() {
    for old in $1; do
        gone "$old" || return 1
    done
    up
}
