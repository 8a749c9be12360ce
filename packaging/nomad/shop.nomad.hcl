# nomad job run packaging/nomad/shop.nomad.hcl
job "shop" {
  group "shop" {
    count = 2

    network {
      port "http" { to = 8000 }
    }

    service {
      name     = "shop"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/"
        interval = "5s"
        timeout  = "2s"
      }
    }

    # Taken out of the service first, then told to stop.
    shutdown_delay = "5s"

    task "shop" {
      driver = "docker"

      config {
        image           = "shop:latest"
        ports           = ["http"]
        readonly_rootfs = true

        mount {
          type   = "tmpfs"
          target = "/run/stanch"
        }
        volumes = ["../alloc/data:/var/lib/stanch"]
      }

      # SIGTERM drains; more than rolling.drain_timeout.
      kill_timeout = "40s"

      # Fits shop.toml: workers, one more while one is replaced, and stanch.
      resources {
        cpu    = 500
        memory = 640
      }
    }
  }
}
