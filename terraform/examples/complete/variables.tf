variable "nomad_address" {
  description = "Nomad's API, as Terraform reaches it."
  type        = string
  default     = "https://127.0.0.1:4646"
  nullable    = false
}

variable "consul_address" {
  description = "Consul's API, as Terraform reaches it."
  type        = string
  default     = "https://127.0.0.1:8501"
  nullable    = false
}

variable "terraform_tls" {
  description = "The authority of Nomad's and Consul's certificates, and the certificate that Terraform shows: files beside Terraform. None: the system's authorities, and no certificate."
  type = object({
    ca_file   = optional(string)
    cert_file = optional(string)
    key_file  = optional(string)
  })
  default  = {}
  nullable = false
}

variable "jobs_tls" {
  description = "The same for the service and the proxies: files on the clients."
  type = object({
    ca_file   = optional(string, "")
    cert_file = optional(string, "")
    key_file  = optional(string, "")
  })
  default = {
    ca_file   = "/etc/bivouac/tls/ca.pem"
    cert_file = "/etc/bivouac/tls/bivouac.pem"
    key_file  = "/etc/bivouac/tls/bivouac-key.pem"
  }
  nullable = false
}

variable "jobs_nomad_address" {
  description = "Nomad's API as the service reaches it: by default the agent of its own node."
  type        = string
  default     = "https://$${attr.unique.advertise.address}"
  nullable    = false
}

variable "jobs_consul_address" {
  description = "The Consul agent of each client, as the jobs on it reach it."
  type        = string
  default     = "https://127.0.0.1:8501"
  nullable    = false
}

variable "enable_auth_method" {
  description = "Whether the auth method by which Nomad's workloads log in to Consul is made here. Not where `nomad setup consul` has made it."
  type        = bool
  default     = true
  nullable    = false
}

variable "nomad_jwks_url" {
  description = "Where Consul's servers read the keys of Nomad's identities."
  type        = string
  default     = "https://127.0.0.1:4646/.well-known/jwks.json"
  nullable    = false
}

variable "nomad_jwks_ca" {
  description = "The authority that signed Nomad's certificate, as PEM text, for Consul's servers."
  type        = string
  default     = ""
  nullable    = false
}

variable "session_url" {
  description = "Where sessions are reached: scheme, domain and port."
  type        = string
  default     = "http://localhost:7080"
  nullable    = false
}

variable "driver" {
  description = "How the service and the proxies run: raw_exec, exec or docker."
  type        = string
  default     = "raw_exec"
  nullable    = false
}

variable "platform_node_pool" {
  description = "The pool of nodes on which the service and the proxies run."
  type        = string
  default     = "default"
  nullable    = false
}

variable "platform_user" {
  description = "The user that the service and the proxies run as, and its number, which then owns their secrets. Without it: the driver's default, with raw_exec the Nomad agent's own."
  type = object({
    name = string
    uid  = number
  })
  default = null
}

variable "session_driver" {
  description = "The only driver that sessions may use: exec, which shows a process no other's files, or raw_exec, which shows it whatever its user may read."
  type        = string
  default     = "exec"
  nullable    = false

  validation {
    condition     = contains(["exec", "raw_exec"], var.session_driver)
    error_message = "The templates of this example run with exec or raw_exec."
  }
}

variable "session_node_pool" {
  description = "The pool of nodes on which sessions run: best another than the platform's."
  type        = string
  default     = "default"
  nullable    = false
}

variable "session_user" {
  description = "The user that sessions run as. Empty: the driver's default, nobody with exec and the Nomad agent's own with raw_exec."
  type        = string
  default     = ""
  nullable    = false
}

variable "binary_path" {
  description = "The bivouac binary on the clients."
  type        = string
  default     = "bivouac"
  nullable    = false
}

variable "image" {
  description = "With docker: the image of the service and the proxies."
  type        = string
  default     = ""
  nullable    = false
}

variable "replicas" {
  description = "How many replicas of the service run."
  type        = number
  default     = 2
  nullable    = false
}

variable "proxy_port" {
  description = "The proxies' port, as in the session URL."
  type        = number
  default     = 7080
  nullable    = false
}

variable "proxy_data_dir" {
  description = "The folder where the proxies keep their lock files."
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
  description = "How long open connections may go on once a proxy is told to stop, in seconds."
  type        = number
  default     = 300
  nullable    = false
}

variable "delete_records_on_destroy" {
  description = "Whether a destroy also deletes all records in Consul."
  type        = bool
  default     = false
  nullable    = false
}
