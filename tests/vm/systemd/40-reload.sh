# A reload is told to systemd, and an error in the file ends nothing.
socket=/run/stanch/shop.sock store=/var/lib/stanch/shop.db
sed -i 's/soft_limit = .*/soft_limit = "48MiB"/' /etc/stanch/shop.toml
systemctl reload stanch@shop
eventually 'it is read' event config_reloaded
echo nonsense >>/etc/stanch/shop.toml
systemctl reload stanch@shop
eventually 'it is refused' event config_refused
expect 'it is active' [ "$(systemctl is-active stanch@shop)" = active ]
sed -i '$d' /etc/stanch/shop.toml
