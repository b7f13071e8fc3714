# Bivouac's service: the API that spawns sessions, and the only part that talks to Nomad.
#
#   nomad job run -var secrets_variable=nomad/jobs/bivouac-service … service.nomad.hcl
#
# Killing it at any moment loses nothing: what matters is in Consul and Nomad. Any number of replicas may run.
# terraform/modules/platform runs this same file.

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

variable "node_pool" {
  description = "The pool of nodes on which replicas may run."
  type        = string
  default     = "default"
}

variable "driver" {
  description = "How a replica runs: raw_exec or exec with the binary that is on the client, or docker with an image."
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
  description = "The user that a replica runs as. Empty: the driver's default, which is the agent's user with raw_exec and nobody with exec."
  type        = string
  default     = ""
}

variable "secrets_uid" {
  description = "The number of that user, which then owns the rendered secrets. Below 0: they are the agent's user's."
  type        = number
  default     = -1
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
  description = "Without docker: the bivouac binary on the client, a path or a name that is found on the Nomad agent's PATH."
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

variable "session_namespaces" {
  description = "The Nomad namespaces in which sessions may run. Empty: any; with ACLs the job's identity must then be able to read every namespace that there is."
  type        = list(string)
  default     = []
}

variable "templates" {
  description = "Session templates that Nomad Variables hold, and the names of their files: { whiteboard = [\"template.toml\", \"job.nomad.hcl\"] }. A change of a file's content reaches the service without a restart."
  type        = map(list(string))
  default     = {}
}

variable "templates_path" {
  description = "Where these Nomad Variables are: one for each template, its files as its items."
  type        = string
  default     = "bivouac/templates"

  validation {
    condition     = var.templates_path != "" && regex_replace(var.templates_path, "^[A-Za-z0-9_~-]+(/[A-Za-z0-9_~-]+)*$", "") == ""
    error_message = "The path must be made of letters, digits, \"-\", \"_\" and \"~\", with \"/\" in between."
  }
}

variable "templates_dir" {
  description = "Instead of that, the folder with the session templates on the client, one folder for each."
  type        = string
  default     = ""
}

variable "template_vars" {
  description = "Values for HCL variables of the templates' jobspecs, each \"TEMPLATE.VARIABLE=VALUE\"."
  type        = list(string)
  default     = []
}

variable "secrets_variable" {
  description = "The Nomad Variable with the items cluster_secret, link_secret, ticket_secret and api_token. Nomad lets this job read nomad/jobs/bivouac-service without a policy. Empty: the secrets are in the files below."
  type        = string
  default     = ""
}

variable "cluster_secret_file" {
  description = "The file on the client with the secret that session ids are derived from. Make it once and never change it: ids of keys would change."
  type        = string
  default     = ""
}

variable "link_secret_file" {
  description = "The file on the client with the secret by which services and proxies know each other."
  type        = string
  default     = ""
}

variable "ticket_secret_file" {
  description = "The file on the client with the secret that users' tickets are signed with. It may have several, one on each line, of which the first signs."
  type        = string
  default     = ""
}

variable "token_file" {
  description = "The file on the client with the API's token."
  type        = string
  default     = ""
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

variable "nomad_identity" {
  description = "Whether Nomad's API is called with the job's own identity, to which the policies of the access module are bound. Without ACLs it makes no difference."
  type        = bool
  default     = true
}

variable "nomad_ca_file" {
  description = "The authority that signed Nomad's certificate, a PEM file on the client. Empty: the system's authorities."
  type        = string
  default     = ""
}

variable "nomad_cert_file" {
  description = "The certificate that the service shows to Nomad, where Nomad asks for one."
  type        = string
  default     = ""
}

variable "nomad_key_file" {
  description = "That certificate's key."
  type        = string
  default     = ""
}

variable "nomad_tls_server_name" {
  description = "The name in Nomad's certificate if it is not that of the address, \"server.global.nomad\"."
  type        = string
  default     = ""
}

variable "consul_address" {
  description = "The HTTP API of the Consul agent on the replica's node. May refer to the node: $${meta.consul_http_addr}."
  type        = string
  default     = "http://127.0.0.1:8500"
}

variable "consul_identity" {
  description = "Whether Consul is called with a token that Nomad gets for this task, and services are registered with one. Where Consul has ACLs."
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
  description = "The certificate that the service shows to Consul, where Consul asks for one."
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
  description = "Any text. Changing it replaces the replicas one by one, to have them read their secrets again."
  type        = string
  default     = ""
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

locals {
  # By these names the replicas are found; they begin with the prefix, so that two installations do not meet.
  service_name = "${replace(var.consul_prefix, "/", "-")}-service"
  link_name    = "${replace(var.consul_prefix, "/", "-")}-link"

  template_files = flatten([for name, files in var.templates : [for file in files : { template = name, file = file }]])

  # Where each secret is, as the task sees it.
  secrets = {
    cluster_secret = var.secrets_variable == "" ? var.cluster_secret_file : "$${NOMAD_SECRETS_DIR}/cluster_secret"
    link_secret    = var.secrets_variable == "" ? var.link_secret_file : "$${NOMAD_SECRETS_DIR}/link_secret"
    ticket_secret  = var.secrets_variable == "" ? var.ticket_secret_file : "$${NOMAD_SECRETS_DIR}/ticket_secret"
    api_token      = var.secrets_variable == "" ? var.token_file : "$${NOMAD_SECRETS_DIR}/api_token"
  }

  args = concat(
    [
      "service",
      "--api", "$${NOMAD_ADDR_api}",
      "--internal", "$${NOMAD_ADDR_internal}",
      "--templates", length(var.templates) == 0 ? var.templates_dir : "$${NOMAD_TASK_DIR}/templates",
      "--session-url", var.session_url,
      "--cluster-secret-file", local.secrets.cluster_secret,
      "--link-secret-file", local.secrets.link_secret,
      "--ticket-secret-file", local.secrets.ticket_secret,
      "--token-file", local.secrets.api_token,
      "--prefix", var.consul_prefix,
    ],
    flatten([for origin in var.allowed_origins : ["--allow-origin", origin]]),
    flatten([for host in var.allowed_hosts : ["--allow-host", host]]),
    flatten([for name in var.session_namespaces : ["--nomad-namespace", name]]),
    flatten([for setting in var.template_vars : ["--template-var", setting]]),
    var.args,
  )
}

job "bivouac-service" {
  datacenters = var.datacenters
  namespace   = var.namespace
  node_pool   = var.node_pool
  type        = "service"

  meta {
    revision = var.revision
  }

  # What people read at the top of the job's page.
  ui {
    description = "Bivouac's control plane: its API, and the decisions about sessions. Stopping or updating it cuts no session. `bivouac doctor` says whether everything that it stands on is well."
  }

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

      # Whoever waits for the deployment is told soon: it stops soon or never.
      progress_deadline = "2m"
      auto_revert       = true
    }

    service {
      name = local.service_name
      port = "api"
      tags = ["bivouac"]

      # Nomad registers with this identity: its own token need not be able to write any service.
      dynamic "identity" {
        for_each = var.consul_identity ? [var.consul_audience] : []
        content {
          aud = [identity.value]
          ttl = "1h"
        }
      }

      check {
        name     = "ready to spawn sessions"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "2s"
      }
    }

    service {
      name = local.link_name
      port = "internal"
      tags = ["bivouac"]

      dynamic "identity" {
        for_each = var.consul_identity ? [var.consul_audience] : []
        content {
          aud = [identity.value]
          ttl = "1h"
        }
      }

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

          # It binds the addresses that Nomad assigned, and calls the agents of its own node.
          network_mode = "host"
          volumes      = var.docker_volumes
        }
      }

      # Nomad's API is called in the name of this job: nothing to hand out, and it ends with the allocation.
      identity {
        env  = false
        file = var.nomad_identity
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

      # In memory, and for the task's user only. A change is read at the next start: see `revision`.
      dynamic "template" {
        for_each = var.secrets_variable == "" ? [] : keys(local.secrets)
        content {
          data        = "{{ with nomadVar \"${var.secrets_variable}\" }}{{ .${template.value} }}{{ end }}"
          destination = "$${NOMAD_SECRETS_DIR}/${template.value}"
          perms       = "0400"
          uid         = var.secrets_uid < 0 ? null : var.secrets_uid
          change_mode = "noop"
        }
      }

      # The service looks at its templates every two seconds, so there is nothing to do when one changes.
      dynamic "template" {
        for_each = local.template_files
        content {
          data        = "{{ with nomadVar \"${var.templates_path}/${template.value.template}\" }}{{ index . \"${template.value.file}\" }}{{ end }}"
          destination = "$${NOMAD_TASK_DIR}/templates/${template.value.template}/${template.value.file}"
          change_mode = "noop"
        }
      }

      env {
        NOMAD_ADDR            = var.nomad_address
        NOMAD_TOKEN_FILE      = var.nomad_identity ? "$${NOMAD_SECRETS_DIR}/nomad_token" : ""
        NOMAD_CACERT          = var.nomad_ca_file
        NOMAD_CLIENT_CERT     = var.nomad_cert_file
        NOMAD_CLIENT_KEY      = var.nomad_key_file
        NOMAD_TLS_SERVER_NAME = var.nomad_tls_server_name

        CONSUL_HTTP_ADDR       = var.consul_address
        CONSUL_CACERT          = var.consul_ca_file
        CONSUL_CLIENT_CERT     = var.consul_cert_file
        CONSUL_CLIENT_KEY      = var.consul_key_file
        CONSUL_TLS_SERVER_NAME = var.consul_tls_server_name

        BIVOUAC_LOG = var.log_level
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
