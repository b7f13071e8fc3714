variable "nomad_address" {
  description = "Nomad's API, as Terraform reaches it."
  type        = string
  default     = "http://127.0.0.1:4646"
  nullable    = false
}

variable "consul_address" {
  description = "Consul's API, as Terraform reaches it."
  type        = string
  default     = "http://127.0.0.1:8500"
  nullable    = false
}

variable "jobs_consul_address" {
  description = "The Consul agent of each client, as the jobs on it reach it."
  type        = string
  default     = "http://127.0.0.1:8500"
  nullable    = false
}

variable "session_url" {
  description = "Where sessions are reached: scheme, domain and port."
  type        = string
  default     = "http://localhost:7080"
  nullable    = false
}

variable "binary_path" {
  description = "The bivouac binary on the clients."
  type        = string
  default     = "bivouac"
  nullable    = false
}

variable "replicas" {
  description = "How many replicas of the service run."
  type        = number
  default     = 1
  nullable    = false
}

variable "proxy_port" {
  description = "The proxies' port, as in the session URL."
  type        = number
  default     = 7080
  nullable    = false
}

variable "proxy_data_dir" {
  description = "The folder on the clients where the proxies keep their lock files."
  type        = string
  default     = "/var/lib/bivouac/proxy"
  nullable    = false
}
