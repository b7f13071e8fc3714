variable "prefix" {
  description = "The installation's name: the folder of its records in Consul, and how everything that is made here begins."
  type        = string
  default     = "bivouac"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.prefix))
    error_message = "The prefix is made of letters, digits, \"-\" and \"_\", at most 64 of them."
  }
}

variable "platform_namespace" {
  description = "The Nomad namespace of the service and the proxies."
  type        = string
  default     = "bivouac"
  nullable    = false
}

variable "session_namespaces" {
  description = "The Nomad namespaces in which sessions may run, by name. Whoever may register jobs may run what the drivers let them: permit those alone that the templates need."
  type = map(object({
    description            = optional(string, "Sessions of Bivouac.")
    enabled_task_drivers   = optional(list(string))
    disabled_task_drivers  = optional(list(string))
    enabled_network_modes  = optional(list(string))
    disabled_network_modes = optional(list(string))
  }))
  default  = { sessions = {} }
  nullable = false

  validation {
    condition     = length(var.session_namespaces) > 0
    error_message = "Sessions need at least one namespace."
  }
}

variable "enable_namespaces" {
  description = "Whether the namespaces are made here. If not, they have to exist."
  type        = bool
  default     = true
  nullable    = false
}

variable "enable_nomad_acl" {
  description = "Whether Nomad has ACLs: policies are made and bound to the service's job."
  type        = bool
  default     = true
  nullable    = false
}

variable "enable_consul_acl" {
  description = "Whether Consul has ACLs: policies and roles are made, and rules that give them to the jobs' identities."
  type        = bool
  default     = true
  nullable    = false
}

variable "enable_operator_policies" {
  description = "Whether there are also policies for people, who see everything and change nothing. Bind them to whom you like."
  type        = bool
  default     = true
  nullable    = false
}

variable "enable_auth_method" {
  description = "Whether the auth method by which Nomad's workloads log in to Consul is made here. If not, it has to exist, as `nomad setup consul` makes it."
  type        = bool
  default     = true
  nullable    = false
}

variable "auth_method" {
  description = "Its name, which every Nomad client's `consul` block gives as service_auth_method and task_auth_method."
  type        = string
  default     = "nomad-workloads"
  nullable    = false
}

variable "audience" {
  description = "For whom the identities are that Nomad shows to Consul, as in the platform module."
  type        = string
  default     = "consul.io"
  nullable    = false
}

variable "nomad_jwks_url" {
  description = "Where Consul's servers read the keys of Nomad's identities: \"https://nomad.example.com:4646/.well-known/jwks.json\". Needed for the auth method."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.nomad_jwks_url == "" || can(regex("^https?://[^/]+/", var.nomad_jwks_url))
    error_message = "The URL must look like https://nomad.example.com:4646/.well-known/jwks.json."
  }
}

variable "nomad_jwks_ca" {
  description = "The authority that signed Nomad's certificate, as PEM text. Empty: the system's authorities of Consul's servers."
  type        = string
  default     = ""
  nullable    = false
}
