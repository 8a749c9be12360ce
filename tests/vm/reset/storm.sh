# Before a storm of crashes: nothing that was on disk when the power went is missing. Then the storm, and
# a word on the second serial line for each event that a reader can see, which is on disk by then. The
# power goes in the middle of it.
mount -t ext4 /dev/nvme0n1 /mnt
noted=$(sed -n 's/.*noted=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
if [ -n "$noted" ]; then
    stanch incidents verify --store /mnt/store.db --head "$noted" >verified || {
        echo "### verified failed" >/dev/ttyS1
        cat verified >/dev/ttyS1
        exit 1
    }
    echo "### verified ok" >/dev/ttyS1
fi

cat >stanch.toml <<END
[app]
name = "shop"
command = ["sh", "-c", "sleep 0.1; exit 1"]
workers = 3
[listen]
mode = "none"
[restart]
backoff_initial = "10ms"
backoff_max = "10ms"
intensity = { restarts = 1000000, within = "1s" }
[control]
socket = "$PWD/control.sock"
[store]
path = "/mnt/store.db"
END
stanch run --config stanch.toml >stanch.log 2>&1 &
eventually 'events' stanch incidents events --store /mnt/store.db
stanch incidents events --json --store /mnt/store.db --follow --last 1 >/dev/ttyS1
