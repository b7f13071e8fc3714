variable "prefix" {
  description = "The installation's name: the folder of its records in Consul, and how its services there begin."
  type        = string
  default     = "bivouac"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.prefix))
    error_message = "The prefix is made of letters, digits, \"-\" and \"_\", at most 64 of them."
  }
}

variable "namespace" {
  description = "The Nomad namespace of the service and the proxies. With ACLs: the access module's `platform_namespace`."
  type        = string
  default     = "default"
  nullable    = false
}

variable "datacenters" {
  description = "Where the service and the proxies may run."
  type        = list(string)
  default     = ["*"]
  nullable    = false
}

variable "node_pool" {
  description = "The pool of nodes on which the service and the proxies run."
  type        = string
  default     = "default"
  nullable    = false
}

variable "session_url" {
  description = "Where sessions are reached: scheme, domain and port. A session's hostname is its id in front of the domain, which must serve nothing else."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$", var.session_url))
    error_message = "The session URL must look like https://sessions.example.com or http://localhost:7080."
  }
}

variable "templates" {
  description = "The session templates, each name with the names of its files: merge() of the template modules' `files`. A change of a file's content reaches the service without a restart."
  type        = map(list(string))
  default     = {}
  nullable    = false
}

variable "templates_dir" {
  description = "Instead of that, a folder on the clients with the session templates."
  type        = string
  default     = ""
  nullable    = false
}

variable "driver" {
  description = "How the service and the proxies run: raw_exec or exec with the binary that is on the clients, or docker with an image."
  type        = string
  default     = "raw_exec"
  nullable    = false

  validation {
    condition     = contains(["raw_exec", "exec", "docker"], var.driver)
    error_message = "The driver must be raw_exec, exec or docker."
  }
}

variable "binary_path" {
  description = "Without docker: the bivouac binary on the clients, a path or a name that is found on the Nomad agent's PATH."
  type        = string
  default     = "bivouac"
  nullable    = false
}

variable "image" {
  description = "With docker: the image, whose entry point is the bivouac binary."
  type        = string
  default     = ""
  nullable    = false
}

variable "user" {
  description = "The user that the service and the proxies run as, and its number, which then owns their secrets. Without it: the driver's default, which with exec is nobody and has to be given."
  type = object({
    name = string
    uid  = number
  })
  default = null
}

variable "replicas" {
  description = "How many replicas of the service run. One suffices for correctness; a second one makes a host's loss unnoticeable."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.replicas >= 1 && var.replicas == floor(var.replicas)
    error_message = "The number of replicas must be a whole number of at least 1."
  }
}

variable "proxies" {
  description = "How many proxies run, each on a node of its own. 0: every node of the pool has one."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.proxies >= 0 && var.proxies == floor(var.proxies)
    error_message = "The number of proxies must be a whole number, and not below 0."
  }
}

variable "proxy_port" {
  description = "The port for users, the same on every node, so that a load balancer or DNS can point to it."
  type        = number
  default     = 7080
  nullable    = false

  validation {
    condition     = var.proxy_port >= 1 && var.proxy_port <= 65535
    error_message = "The port must be between 1 and 65535."
  }
}

variable "proxy_tls" {
  description = "The port for users with TLS, HTTP/2 included, and the files on the clients with the certificate for the sessions' domain, its subdomains included, and with its key. They are followed for changes. Without it, something in front of the proxies speaks TLS."
  type = object({
    port      = number
    cert_file = string
    key_file  = string
  })
  default = null
}

variable "proxy_protocol_from" {
  description = "Networks of load balancers that begin each connection with a PROXY header, version 2."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "trusted_hops" {
  description = "Networks of HTTP proxies in front of the proxies, whose X-Forwarded-* and Forwarded fields are believed."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "proxy_data_dir" {
  description = "Where a proxy keeps the lock files by which its earlier starts are known to be dead: a folder on the clients that outlives allocations."
  type        = string
  default     = "/var/lib/bivouac/proxy"
  nullable    = false
}

variable "proxy_data_volume" {
  description = "With exec and docker: the host volume that is mounted there."
  type        = string
  default     = ""
  nullable    = false
}

variable "drain_timeout" {
  description = "How long open requests and connections may go on once a proxy is told to stop, in seconds. Every client's max_kill_timeout must be 10 s above it."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.drain_timeout >= 0
    error_message = "The drain timeout must not be negative."
  }
}

variable "allowed_origins" {
  description = "Origins of web pages that may call the API, \"https://app.example.com\"."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "allowed_hosts" {
  description = "Hostnames by which the API may be called, beside its own address."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "nomad" {
  description = "Nomad's API as the service sees it: its address (by default the agent of the replica's own node), and where it speaks TLS the files on the clients, and the name in its certificate."
  type = object({
    address         = optional(string)
    ca_file         = optional(string, "")
    cert_file       = optional(string, "")
    key_file        = optional(string, "")
    tls_server_name = optional(string, "")
  })
  default  = {}
  nullable = false
}

variable "consul" {
  description = "The same for Consul's agent on each client."
  type = object({
    address         = optional(string, "http://127.0.0.1:8500")
    ca_file         = optional(string, "")
    cert_file       = optional(string, "")
    key_file        = optional(string, "")
    tls_server_name = optional(string, "")
  })
  default  = {}
  nullable = false
}

variable "enable_consul_acl" {
  description = "Whether Consul has ACLs, so that the jobs log in to it with identities. The access module makes what that needs."
  type        = bool
  default     = false
  nullable    = false
}

variable "audience" {
  description = "For whom the identities are that Nomad shows to Consul: one of the auth method's BoundAudiences."
  type        = string
  default     = "consul.io"
  nullable    = false
}

variable "secrets" {
  description = "Secrets that exist already, each at least 32 characters. Those that are left out are made at the first apply and kept. The cluster secret must never change: the ids of sessions with keys are derived from it."
  type = object({
    cluster_secret = optional(string)
    link_secret    = optional(string)
    ticket_secret  = optional(string)
    api_token      = optional(string)
  })
  default   = {}
  nullable  = false
  sensitive = true

  validation {
    condition     = alltrue([for secret in values(var.secrets) : secret == null || try(length(secret) >= 32, false)])
    error_message = "A secret must have at least 32 characters."
  }
}

variable "revision" {
  description = "Any text. Changing it replaces replicas and proxies one by one, to have them read their secrets again."
  type        = string
  default     = ""
  nullable    = false
}

variable "service_variables" {
  description = "Further variables of jobspecs/service.nomad.hcl. Lists and maps as jsonencode() writes them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "proxy_variables" {
  description = "Further variables of jobspecs/proxy.nomad.hcl. Lists and maps as jsonencode() writes them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "delete_records_on_destroy" {
  description = "Whether a destroy also deletes everything below the prefix in Consul's KV store. It has to be set before the first apply, and Terraform's state then holds a copy of the records."
  type        = bool
  default     = false
  nullable    = false
}
