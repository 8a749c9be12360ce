# A stop drains the workers, leaves nothing, and does not touch the other instance.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
workers=$(pids)
systemctl stop stanch@shop
for worker in $workers; do
    expect "worker $worker has ended" gone "$worker"
done
expect 'it ended in order' event supervisor_stopped
expect 'no cgroup is left' [ -z "$(find /sys/fs/cgroup -name 'stanch-shop.*')" ]
expect 'the other serves' serves 9000
expect 'the other is found' [ "$(stanch status --json | wc -l)" = 1 ]
# A configuration that cannot work is not started again and again.
echo nonsense >>/etc/stanch/shop.toml
systemctl start stanch@shop && fail 'it started'
expect 'it is given up' [ "$(systemctl is-failed stanch@shop)" = failed ]
