# Bivouac's service: the API that spawns sessions, and the only part that talks to Nomad.
#
#   nomad job run -var cluster_secret_file=/etc/bivouac/cluster.secret … service.nomad.hcl
#
# Killing it at any moment loses nothing: what matters is in Consul and Nomad. Any number of replicas may run.

variable "datacenters" {
  description = "Where replicas may run."
  type        = list(string)
  default     = ["*"]
}

variable "namespace" {
  description = "The Nomad namespace of this job. Sessions run in the namespace that their template's jobspec names."
  type        = string
  default     = "default"
}

variable "replicas" {
  description = "How many replicas run. One suffices for correctness; a second one makes a host's loss unnoticeable."
  type        = number
  default     = 1

  validation {
    condition     = var.replicas >= 1 && var.replicas == floor(var.replicas)
    error_message = "The number of replicas must be a whole number of at least 1."
  }
}

variable "binary_path" {
  description = "The bivouac binary on the client: a path, or a name that is found on the Nomad agent's PATH."
  type        = string
  default     = "bivouac"
}

variable "api_port" {
  description = "The port of the public API; 0 lets Nomad choose one, to be found in Consul as bivouac-service."
  type        = number
  default     = 0

  validation {
    condition     = var.api_port >= 0 && var.api_port <= 65535
    error_message = "The API's port must be between 0 and 65535."
  }
}

variable "internal_port" {
  description = "The port for the proxies' links, never to be exposed; 0 lets Nomad choose one, which proxies find in Consul as bivouac-link."
  type        = number
  default     = 0

  validation {
    condition     = var.internal_port >= 0 && var.internal_port <= 65535
    error_message = "The internal port must be between 0 and 65535."
  }
}

variable "session_url" {
  description = "Where sessions are reached: scheme, domain and port. A session's hostname is its id in front of the domain, which must serve nothing else."
  type        = string
  default     = "http://localhost:7080"

  validation {
    condition     = var.session_url != "" && regex_replace(var.session_url, "^https?://[a-z0-9.-]+(:[0-9]+)?$", "") == ""
    error_message = "The session URL must look like https://sessions.example.com or http://localhost:7080."
  }
}

variable "templates_dir" {
  description = "The folder with the session templates on the client, one folder for each."
  type        = string
}

variable "template_vars" {
  description = "Values for HCL variables of the templates' jobspecs, each \"TEMPLATE.VARIABLE=VALUE\"."
  type        = list(string)
  default     = []
}

variable "cluster_secret_file" {
  description = "The file on the client with the secret that session ids are derived from. Make it once and never change it: ids of keys would change."
  type        = string
}

variable "link_secret_file" {
  description = "The file on the client with the secret by which services and proxies know each other."
  type        = string
}

variable "token_file" {
  description = "The file on the client with the API's token."
  type        = string
}

variable "allowed_origins" {
  description = "Origins of web pages that may call the API, \"https://app.example.com\". None by default."
  type        = list(string)
  default     = []
}

variable "allowed_hosts" {
  description = "Hostnames by which the API may be called, beside its own address."
  type        = list(string)
  default     = []
}

variable "consul_prefix" {
  description = "The folder in Consul's KV store for all of this installation's records; the proxies need the same."
  type        = string
  default     = "bivouac"

  validation {
    condition     = var.consul_prefix != "" && regex_replace(var.consul_prefix, "^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", "") == ""
    error_message = "The prefix must be made of letters, digits, \"-\" and \"_\", with \"/\" in between."
  }
}

variable "nomad_address" {
  description = "Nomad's HTTP API as the service sees it. By default the agent of the replica's own node."
  type        = string
  default     = "http://$${attr.unique.advertise.address}"
}

variable "consul_address" {
  description = "The HTTP API of the Consul agent on the replica's node. May refer to the node: $${meta.consul_http_addr}."
  type        = string
  default     = "http://127.0.0.1:8500"
}

variable "args" {
  description = "Further flags, as `bivouac service --help` lists them, each word an element."
  type        = list(string)
  default     = []
}

variable "log_level" {
  description = "What is logged: error, warn, info, debug, or a filter such as info,bivouac_service=debug."
  type        = string
  default     = "info"
}

variable "cpu" {
  description = "MHz for each replica."
  type        = number
  default     = 500
}

variable "memory_mb" {
  description = "Memory for each replica: about 8 KiB for each session, and a base."
  type        = number
  default     = 256
}

job "bivouac-service" {
  datacenters = var.datacenters
  namespace   = var.namespace
  type        = "service"

  # Above the default of 50: when room is short, spawning and ending sessions must go on.
  priority = 80

  group "service" {
    count = var.replicas

    network {
      port "api" {
        static = var.api_port
      }
      port "internal" {
        static = var.internal_port
      }
    }

    # A host's loss must not take every replica.
    spread {
      attribute = "$${node.unique.id}"
    }

    # It starts in less than a second and finds everything again, so trying again soon is right; giving up never is.
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

    # One replica at a time, each seen to be ready before the next; a version that does not get ready is taken back.
    update {
      max_parallel     = 1
      health_check     = "checks"
      min_healthy_time = "3s"
      healthy_deadline = "1m"
      auto_revert      = true
    }

    service {
      name = "bivouac-service"
      port = "api"
      tags = ["bivouac"]

      check {
        name     = "ready to spawn sessions"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "2s"
      }
    }

    service {
      name = "bivouac-link"
      port = "internal"
      tags = ["bivouac"]

      # Proxies connect as soon as it is registered, and try again by themselves: waiting for a first check to pass would
      # only keep them waiting.
      check {
        name     = "accepts links"
        type     = "tcp"
        interval = "5s"
        timeout  = "2s"

        initial_status = "passing"
      }
    }

    task "service" {
      driver = "raw_exec"

      config {
        command = var.binary_path
        args = concat(
          [
            "service",
            "--api", "$${NOMAD_ADDR_api}",
            "--internal", "$${NOMAD_ADDR_internal}",
            "--templates", var.templates_dir,
            "--session-url", var.session_url,
            "--cluster-secret-file", var.cluster_secret_file,
            "--link-secret-file", var.link_secret_file,
            "--token-file", var.token_file,
            "--prefix", var.consul_prefix,
          ],
          flatten([for origin in var.allowed_origins : ["--allow-origin", origin]]),
          flatten([for host in var.allowed_hosts : ["--allow-host", host]]),
          flatten([for setting in var.template_vars : ["--template-var", setting]]),
          var.args,
        )
      }

      env {
        NOMAD_ADDR       = var.nomad_address
        CONSUL_HTTP_ADDR = var.consul_address
        BIVOUAC_LOG      = var.log_level
      }

      # raw_exec's default is SIGINT, which is for people at a terminal.
      kill_signal = "SIGTERM"

      # Ending means: give back the leader's lock, let requests finish. Cut short, the lock runs out by itself.
      kill_timeout = "15s"

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
