# Bivouac's proxy: where users reach their sessions. It talks to Consul and to the service, never to Nomad.
#
#   nomad job run -var link_secret_file=/etc/bivouac/link.secret … proxy.nomad.hcl
#
# Its connections are its users': it is replaced slowly, and never without a drain.

variable "datacenters" {
  description = "Where proxies may run."
  type        = list(string)
  default     = ["*"]
}

variable "namespace" {
  description = "The Nomad namespace of this job."
  type        = string
  default     = "default"
}

variable "proxies" {
  description = "How many proxies run, each on a node of its own."
  type        = number
  default     = 1

  validation {
    condition     = var.proxies >= 1 && var.proxies == floor(var.proxies)
    error_message = "The number of proxies must be a whole number of at least 1."
  }
}

variable "binary_path" {
  description = "The bivouac binary on the client: a path, or a name that is found on the Nomad agent's PATH."
  type        = string
  default     = "bivouac"
}

variable "port" {
  description = "The port for users, the same on every node, so that a load balancer or DNS can point to it."
  type        = number
  default     = 7080

  validation {
    condition     = var.port >= 1 && var.port <= 65535
    error_message = "The port must be between 1 and 65535."
  }
}

variable "domain" {
  description = "The domain of the sessions' hostnames, as in the service's session_url."
  type        = string
  default     = "localhost"

  validation {
    condition     = var.domain != "" && regex_replace(var.domain, "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "") == ""
    error_message = "The domain must be a domain name in lower case, without a scheme or port."
  }
}

variable "link_secret_file" {
  description = "The file on the client with the secret by which services and proxies know each other."
  type        = string
}

variable "data_dir" {
  description = "A folder on the client that outlives the allocation. Each start leaves a lock file there; who can take the lock of an earlier start knows that it is dead."
  type        = string
}

variable "backend_networks" {
  description = "Networks in which sessions may live; a proxy connects to nothing else. Empty: loopback and the private ones."
  type        = list(string)
  default     = []
}

variable "backend_ports" {
  description = "Ranges of ports on which sessions may listen, \"20000-32000\". Empty: Nomad's usual range."
  type        = list(string)
  default     = []
}

variable "drain_timeout" {
  description = "How long open requests and connections may go on once the proxy is told to stop, in seconds."
  type        = number
  default     = 30

  validation {
    condition     = var.drain_timeout >= 0
    error_message = "The drain timeout must not be negative."
  }
}

variable "consul_prefix" {
  description = "The folder in Consul's KV store for all of this installation's records, as for the service."
  type        = string
  default     = "bivouac"

  validation {
    condition     = var.consul_prefix != "" && regex_replace(var.consul_prefix, "^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", "") == ""
    error_message = "The prefix must be made of letters, digits, \"-\" and \"_\", with \"/\" in between."
  }
}

variable "consul_address" {
  description = "The HTTP API of the Consul agent on the proxy's node. May refer to the node: $${meta.consul_http_addr}."
  type        = string
  default     = "http://127.0.0.1:8500"
}

variable "args" {
  description = "Further flags, as `bivouac proxy --help` lists them, each word an element."
  type        = list(string)
  default     = []
}

variable "log_level" {
  description = "What is logged: error, warn, info, debug, or a filter such as info,bivouac_proxy=debug."
  type        = string
  default     = "info"
}

variable "cpu" {
  description = "MHz for each proxy."
  type        = number
  default     = 500
}

variable "memory_mb" {
  description = "Memory for each proxy: about 4 KiB for each idle WebSocket, and a base."
  type        = number
  default     = 256
}

job "bivouac-proxy" {
  datacenters = var.datacenters
  namespace   = var.namespace
  type        = "service"

  # Above the service's: without a proxy nobody reaches a running session.
  priority = 90

  group "proxy" {
    count = var.proxies

    # They share one port number and one data folder.
    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      port "public" {
        static = var.port
      }
      port "admin" {}
    }

    # Every user of this node waits for it: try again at once, and never give up.
    restart {
      attempts = 10
      interval = "1m"
      delay    = "1s"
      mode     = "delay"
    }

    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = true
    }

    # One at a time, each seen to be ready before the next one drains.
    update {
      max_parallel     = 1
      health_check     = "checks"
      min_healthy_time = "3s"
      healthy_deadline = "1m"
      auto_revert      = true
    }

    service {
      name = "bivouac-proxy"
      port = "public"
      tags = ["bivouac"]

      check {
        name     = "ready for users"
        type     = "http"
        port     = "admin"
        path     = "/readyz"
        interval = "2s"
        timeout  = "2s"
      }
    }

    task "proxy" {
      driver = "raw_exec"

      config {
        command = var.binary_path
        args = concat(
          [
            "proxy",
            "--listen", "$${NOMAD_ADDR_public}",
            "--admin", "$${NOMAD_ADDR_admin}",
            "--domain", var.domain,
            "--link-secret-file", var.link_secret_file,
            "--data-dir", var.data_dir,
            "--drain-timeout", "${var.drain_timeout}s",
            "--prefix", var.consul_prefix,
          ],
          flatten([for network in var.backend_networks : ["--backend-network", network]]),
          flatten([for range in var.backend_ports : ["--backend-ports", range]]),
          var.args,
        )
      }

      env {
        CONSUL_HTTP_ADDR = var.consul_address
        BIVOUAC_LOG      = var.log_level
      }

      # raw_exec's default is SIGINT, which is for people at a terminal.
      kill_signal = "SIGTERM"

      # Load balancers that follow Consul stop sending new users before the drain begins.
      shutdown_delay = "2s"

      # The drain, and time for the last report. Nomad cuts this to the client's max_kill_timeout, 30 s by default:
      # raise that one on every client that runs a proxy.
      kill_timeout = "${var.drain_timeout + 10}s"

      resources {
        cpu    = var.cpu
        memory = var.memory_mb
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }
    }
  }
}
