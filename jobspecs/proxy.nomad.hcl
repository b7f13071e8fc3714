# Bivouac's proxy: where users reach their sessions. It talks to Consul and to the service, never to Nomad.
#
#   nomad job run -var secrets_variable=nomad/jobs/bivouac-proxy … proxy.nomad.hcl
#
# Its connections are its users': it is replaced slowly, and never without a drain. terraform/modules/platform runs this
# same file.

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

variable "node_pool" {
  description = "The pool of nodes on which proxies may run."
  type        = string
  default     = "default"
}

variable "driver" {
  description = "How a proxy runs: raw_exec or exec with the binary that is on the client, or docker with an image."
  type        = string
  default     = "raw_exec"

  validation {
    condition     = contains(["raw_exec", "exec", "docker"], var.driver)
    error_message = "The driver must be raw_exec, exec or docker."
  }
}

variable "image" {
  description = "With docker: the image, whose entry point is the bivouac binary."
  type        = string
  default     = ""
}

variable "docker_volumes" {
  description = "With docker: folders of the client that are shown in the container, \"/etc/bivouac/tls:/etc/bivouac/tls:ro\". Certificates, for instance."
  type        = list(string)
  default     = []
}

variable "user" {
  description = "The user that a proxy runs as. Empty: the driver's default, which is the agent's user with raw_exec and nobody with exec."
  type        = string
  default     = ""
}

variable "secrets_uid" {
  description = "The number of that user, which then owns the rendered secrets. Below 0: they are the agent's user's."
  type        = number
  default     = -1
}

variable "every_node" {
  description = "Whether each node of the pool has a proxy, also those to come. If not, `proxies` nodes have."
  type        = bool
  default     = false
}

variable "proxies" {
  description = "How many proxies run, each on a node of its own, unless every node has one."
  type        = number
  default     = 1

  validation {
    condition     = var.proxies >= 1 && var.proxies == floor(var.proxies)
    error_message = "The number of proxies must be a whole number of at least 1."
  }
}

variable "binary_path" {
  description = "Without docker: the bivouac binary on the client, a path or a name that is found on the Nomad agent's PATH."
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

variable "tls_port" {
  description = "The port for users with TLS, HTTP/2 included, the same on every node. 0: none."
  type        = number
  default     = 0

  validation {
    condition     = var.tls_port >= 0 && var.tls_port <= 65535
    error_message = "The port must be between 0 and 65535."
  }
}

variable "tls_cert_file" {
  description = "With TLS: the certificate for the domain and its subdomains, and its chain, a PEM file on the client. A change is noticed within seconds, without a restart."
  type        = string
  default     = ""
}

variable "tls_key_file" {
  description = "That certificate's key, readable by the proxy's user."
  type        = string
  default     = ""
}

variable "proxy_protocol_from" {
  description = "Networks of load balancers that pass TCP and begin each connection with a PROXY header, version 2."
  type        = list(string)
  default     = []
}

variable "trusted_hops" {
  description = "Networks of HTTP proxies in front of this one, whose X-Forwarded-* and Forwarded fields are believed."
  type        = list(string)
  default     = []
}

variable "access_log" {
  description = "Where each request and tunnel is logged as a line of JSON: \"-\" is standard output, with the proxy's own log on standard error. Empty: nowhere."
  type        = string
  default     = "-"
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

variable "secrets_variable" {
  description = "The Nomad Variable with the item link_secret. Nomad lets this job read nomad/jobs/bivouac-proxy without a policy. Empty: the secret is in the file below."
  type        = string
  default     = ""
}

variable "link_secret_file" {
  description = "The file on the client with the secret by which services and proxies know each other."
  type        = string
  default     = ""
}

variable "data_dir" {
  description = "A folder that outlives the allocation. Each start leaves a lock file there; who can take the lock of an earlier start knows that it is dead."
  type        = string
}

variable "data_volume" {
  description = "The host volume that is mounted at data_dir, where the driver shows the task no other folders of the client: exec and docker."
  type        = string
  default     = ""
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

variable "consul_identity" {
  description = "Whether Consul is called with a token that Nomad gets for this task, and the service is registered with one. Where Consul has ACLs."
  type        = bool
  default     = false
}

variable "consul_audience" {
  description = "For whom the identities are that Nomad shows to Consul: one of the auth method's BoundAudiences."
  type        = string
  default     = "consul.io"
}

variable "consul_ca_file" {
  description = "The authority that signed Consul's certificate, a PEM file on the client. Empty: the system's authorities."
  type        = string
  default     = ""
}

variable "consul_cert_file" {
  description = "The certificate that the proxy shows to Consul, where Consul asks for one."
  type        = string
  default     = ""
}

variable "consul_key_file" {
  description = "That certificate's key."
  type        = string
  default     = ""
}

variable "consul_tls_server_name" {
  description = "The name in Consul's certificate if it is not that of the address, \"server.dc1.consul\"."
  type        = string
  default     = ""
}

variable "revision" {
  description = "Any text. Changing it replaces the proxies one by one, to have them read their secret again."
  type        = string
  default     = ""
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

locals {
  args = concat(
    [
      "proxy",
      "--listen", "$${NOMAD_ADDR_public}",
      "--admin", "$${NOMAD_ADDR_admin}",
      "--domain", var.domain,
      "--link-secret-file", var.secrets_variable == "" ? var.link_secret_file : "$${NOMAD_SECRETS_DIR}/link_secret",
      "--data-dir", var.data_dir,
      "--drain-timeout", "${var.drain_timeout}s",
      "--prefix", var.consul_prefix,
    ],
    flatten([for network in var.backend_networks : ["--backend-network", network]]),
    flatten([for range in var.backend_ports : ["--backend-ports", range]]),
    var.tls_port == 0 ? [] : [
      "--listen-tls", "$${NOMAD_ADDR_secure}",
      "--tls-cert", var.tls_cert_file,
      "--tls-key", var.tls_key_file,
    ],
    flatten([for network in var.proxy_protocol_from : ["--proxy-protocol-from", network]]),
    flatten([for network in var.trusted_hops : ["--trusted-hop", network]]),
    var.access_log == "" ? [] : ["--access-log", var.access_log],
    var.args,
  )
}

job "bivouac-proxy" {
  datacenters = var.datacenters
  namespace   = var.namespace
  node_pool   = var.node_pool
  type        = var.every_node ? "system" : "service"

  meta {
    revision = var.revision
  }

  # What people read at the top of the job's page.
  ui {
    description = "Bivouac's data plane: users reach their sessions through it. Stopping one lets its connections end by themselves for `drain_timeout`, and cuts the rest: use an update, which replaces one after the other."
  }

  # Above the service's: without a proxy nobody reaches a running session.
  priority = 90

  group "proxy" {
    count = var.every_node ? 1 : var.proxies

    # They share one port number and one data folder.
    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    dynamic "volume" {
      for_each = var.data_volume == "" ? [] : [var.data_volume]
      labels   = ["data"]
      content {
        type   = "host"
        source = volume.value
      }
    }

    network {
      port "public" {
        static = var.port
      }
      port "admin" {}

      dynamic "port" {
        for_each = var.tls_port == 0 ? [] : [var.tls_port]
        labels   = ["secure"]
        content {
          static = port.value
        }
      }
    }

    # Every user of this node waits for it: try again at once, and never give up.
    restart {
      attempts = 10
      interval = "1m"
      delay    = "1s"
      mode     = "delay"
    }

    # On every node there is nowhere else to go.
    dynamic "reschedule" {
      for_each = var.every_node ? [] : ["5s"]
      content {
        delay          = reschedule.value
        delay_function = "exponential"
        max_delay      = "1m"
        unlimited      = true
      }
    }

    # One at a time, each seen to be ready before the next one drains.
    update {
      max_parallel     = 1
      health_check     = "checks"
      min_healthy_time = "3s"
      healthy_deadline = "1m"

      # The drain of the one before is not counted.
      progress_deadline = "2m"
      auto_revert       = true
    }

    service {
      # It begins with the prefix, so that two installations do not meet.
      name = "${replace(var.consul_prefix, "/", "-")}-proxy"
      port = "public"
      tags = ["bivouac"]

      # Where Prometheus finds the metrics: docs/monitoring.
      meta {
        admin_port = "$${NOMAD_PORT_admin}"
      }

      # Nomad registers with this identity: its own token need not be able to write any service.
      dynamic "identity" {
        for_each = var.consul_identity ? [var.consul_audience] : []
        content {
          aud = [identity.value]
          ttl = "1h"
        }
      }

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
      driver = var.driver
      user   = var.user

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [var.binary_path]
        content {
          command = config.value
          args    = local.args
        }
      }

      dynamic "config" {
        for_each = var.driver == "docker" ? [var.image] : []
        content {
          image = config.value
          args  = local.args

          # It binds the addresses that Nomad assigned, and reaches sessions wherever they listen.
          network_mode = "host"
          volumes      = var.docker_volumes
        }
      }

      dynamic "volume_mount" {
        for_each = var.data_volume == "" ? [] : [var.data_dir]
        content {
          volume      = "data"
          destination = volume_mount.value
        }
      }

      # With this Nomad logs in to Consul for the task, and hands it the token as CONSUL_HTTP_TOKEN. The token ends with
      # the allocation.
      dynamic "identity" {
        for_each = var.consul_identity ? [var.consul_audience] : []
        content {
          name = "consul_default"
          aud  = [identity.value]
          ttl  = "1h"
        }
      }

      dynamic "consul" {
        for_each = var.consul_identity ? [true] : []
        content {}
      }

      # In memory, and for the task's user only. A change is read at the next start, after a drain: see `revision`.
      dynamic "template" {
        for_each = var.secrets_variable == "" ? [] : ["link_secret"]
        content {
          data        = "{{ with nomadVar \"${var.secrets_variable}\" }}{{ .${template.value} }}{{ end }}"
          destination = "$${NOMAD_SECRETS_DIR}/${template.value}"
          perms       = "0400"
          uid         = var.secrets_uid < 0 ? null : var.secrets_uid
          change_mode = "noop"
        }
      }

      env {
        CONSUL_HTTP_ADDR       = var.consul_address
        CONSUL_CACERT          = var.consul_ca_file
        CONSUL_CLIENT_CERT     = var.consul_cert_file
        CONSUL_CLIENT_KEY      = var.consul_key_file
        CONSUL_TLS_SERVER_NAME = var.consul_tls_server_name

        BIVOUAC_LOG = var.log_level
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
