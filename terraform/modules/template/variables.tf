variable "name" {
  description = "The template's name, which a spawn gives."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "A template's name is made of lower-case letters, digits and \"-\", at most 63 of them."
  }
}

variable "folder" {
  description = "The template's folder: template.toml, the jobspec that it names, and nothing below that."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists("${var.folder}/template.toml")
    error_message = "There is no template.toml in the folder."
  }
}

variable "namespace" {
  description = "The Nomad namespace of the platform's jobs, where the service reads its templates. Sessions run in the namespace that the template's jobspec names."
  type        = string
  default     = "default"
  nullable    = false
}

variable "prefix" {
  description = "The installation's name, as for the platform module: the template is put at PREFIX/templates/NAME."
  type        = string
  default     = "bivouac"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.prefix))
    error_message = "The prefix is made of letters, digits, \"-\" and \"_\", at most 64 of them."
  }
}
