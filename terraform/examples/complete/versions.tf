terraform {
  required_version = ">= 1.6"

  required_providers {
    nomad = {
      source  = "hashicorp/nomad"
      version = ">= 2.5, < 3.0"
    }
    consul = {
      source  = "hashicorp/consul"
      version = ">= 2.21, < 3.0"
    }
  }
}
