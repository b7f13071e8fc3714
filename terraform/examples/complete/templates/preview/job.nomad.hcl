# A board in the namespace for previews. The whiteboard's job says what the service adds to it.

variable "binary" {
  description = "The bivouac binary on the client: a path, or a name that is found on the Nomad agent's PATH."
  type        = string
  default     = "bivouac"
}

variable "driver" {
  description = "exec, or raw_exec, which keeps nothing from the process that its user may read."
  type        = string
  default     = "exec"
}

variable "node_pool" {
  description = "The pool of nodes on which these sessions run."
  type        = string
  default     = "default"
}

variable "user" {
  description = "The user that they run as. Empty: the driver's default, nobody with exec and the Nomad agent's own with raw_exec."
  type        = string
  default     = ""
}

job "preview" {
  namespace   = "previews"
  datacenters = ["*"]
  node_pool   = var.node_pool
  type        = "batch"

  group "preview" {
    network {
      port "http" {}
    }

    service {
      name = "session-${NOMAD_META_bivouac_session}"
      port = "http"

      # For operators who look at Consul; proxies find out by themselves whether a session answers.
      check {
        name     = "answers"
        type     = "http"
        path     = "/healthz"
        interval = "30s"
        timeout  = "2s"

        initial_status = "passing"
      }
    }

    task "preview" {
      driver = var.driver
      user   = var.user

      config {
        command = var.binary
        args    = ["whiteboard", "--dir", "${NOMAD_TASK_DIR}/state"]
      }

      # It drops connections and leaves on this one; raw_exec's default is SIGINT.
      kill_signal = "SIGTERM"

      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
