# Bivouac on a cluster without ACLs and TLS: to try it, and for clusters whose network is all the protection they need.

provider "nomad" {
  address = var.nomad_address
}

provider "consul" {
  address = var.consul_address
}

module "whiteboard" {
  source = "../../modules/template"

  name   = "whiteboard"
  folder = "${path.module}/../../../templates/whiteboard"
}

module "platform" {
  source = "../../modules/platform"

  session_url    = var.session_url
  templates      = module.whiteboard.files
  binary_path    = var.binary_path
  replicas       = var.replicas
  proxies        = 1
  proxy_port     = var.proxy_port
  proxy_data_dir = var.proxy_data_dir

  consul = { address = var.jobs_consul_address }

  # The whiteboard's own program is a part of the bivouac binary.
  service_variables = { template_vars = jsonencode(["whiteboard.binary=${var.binary_path}"]) }
}
