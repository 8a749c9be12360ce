# stanch is stuck: the watchdog ends it, and the workers serve on.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
mkdir -p /run/systemd/system/stanch@.service.d
printf '[Service]\nWatchdogSec=3\n' >/run/systemd/system/stanch@.service.d/soon.conf
systemctl daemon-reload
before=$(property MainPID)
kill -9 "$before"
eventually 'systemd has started another' restarted "$before"
before=$(property MainPID)
kill -STOP "$before"
eventually 'the watchdog has ended it' restarted "$before"
expect 'they were adopted' event supervisor_recovered '"adopted":2'
expect 'it serves' serves 8000
rm -r /run/systemd/system/stanch@.service.d
systemctl daemon-reload
# A running one is held to the old time still, and that is short for what follows on an emulated processor.
workers=$(pids)
before=$(property MainPID)
kill -9 "$before"
eventually 'systemd has started another' restarted "$before"
eventually 'they are replaced' replaced "$workers"
