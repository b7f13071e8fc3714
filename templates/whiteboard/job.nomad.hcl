# The whiteboard as a Nomad job. The service completes it for each session: id, environment, Consul service, and the
# policies by which no session is ever started a second time.

variable "binary" {
  description = "The bivouac binary on the client: a path, or a name that is found on the Nomad agent's PATH."
  type        = string
  default     = "bivouac"
}

job "whiteboard" {
  datacenters = ["*"]
  type        = "batch"

  group "whiteboard" {
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

    task "whiteboard" {
      driver = "raw_exec"

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
