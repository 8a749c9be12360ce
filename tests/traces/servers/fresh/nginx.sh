#!/bin/sh
# nginx that counts requests by address in a zone of 512 KiB.
dir=$(mktemp -d)
chmod 755 "$dir"
yes "nginx serves this page to whoever asks" | head -n 4000 > "$dir/page.html"
cat > "$dir/nginx.conf" <<END
daemon off;
worker_processes 1;
pid $dir/pid;
error_log /dev/null;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path $dir/body;
  proxy_temp_path $dir/proxy;
  fastcgi_temp_path $dir/fastcgi;
  uwsgi_temp_path $dir/uwsgi;
  scgi_temp_path $dir/scgi;
  default_type text/html;
  limit_req_zone \$request_uri zone=paths:512k rate=100r/s;
  server {
    listen 127.0.0.1:$PORT;
    location / { limit_req zone=paths burst=20; root $dir; try_files /page.html =404; }
  }
}
END
exec nginx -e /dev/null -c "$dir/nginx.conf"
