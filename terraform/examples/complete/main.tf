# Bivouac on a cluster that is locked down: ACLs that deny by default, TLS everywhere, and sessions in two namespaces of
# their own. Tokens for Terraform itself come from NOMAD_TOKEN and CONSUL_HTTP_TOKEN.

provider "nomad" {
  address   = var.nomad_address
  ca_file   = var.terraform_tls.ca_file
  cert_file = var.terraform_tls.cert_file
  key_file  = var.terraform_tls.key_file
}

provider "consul" {
  address   = var.consul_address
  ca_file   = var.terraform_tls.ca_file
  cert_file = var.terraform_tls.cert_file
  key_file  = var.terraform_tls.key_file
}

locals {
  of_templates = {
    binary    = var.binary_path
    driver    = var.session_driver
    node_pool = var.session_node_pool
    user      = var.session_user
  }

  same_nodes = var.session_node_pool == var.platform_node_pool || contains([var.session_node_pool, var.platform_node_pool], "all")
  same_user  = var.session_user == "" || var.session_user == "root" || var.session_user == try(var.platform_user.name, "root")
}

# A warning and no error: on a laptop there is one node and one user.
check "sessions_cannot_read_the_platforms_secrets" {
  assert {
    condition     = !(var.session_driver == "raw_exec" && local.same_nodes && local.same_user)
    error_message = "Sessions run with raw_exec, on the nodes of the service and the proxies and as a user who may read their secrets: the cluster secret, the link secret, the ticket secret, the bootstrap token and the tokens for Nomad and Consul. Set session_driver to exec, or session_node_pool to another pool than platform_node_pool, or session_user to a user of their own."
  }
}

module "access" {
  source = "../../modules/access"

  session_namespaces = {
    sessions = {
      description          = "What users work with."
      enabled_task_drivers = [var.session_driver]
    }
    previews = {
      description          = "What a branch looks like before it is merged."
      enabled_task_drivers = [var.session_driver]
    }
  }

  enable_auth_method = var.enable_auth_method
  nomad_jwks_url     = var.nomad_jwks_url
  nomad_jwks_ca      = var.nomad_jwks_ca
}

module "whiteboard" {
  source = "../../modules/template"

  name      = "whiteboard"
  folder    = "${path.module}/templates/whiteboard"
  namespace = module.access.platform_namespace
}

module "preview" {
  source = "../../modules/template"

  name      = "preview"
  folder    = "${path.module}/templates/preview"
  namespace = module.access.platform_namespace
}

module "platform" {
  source = "../../modules/platform"

  namespace   = module.access.platform_namespace
  session_url = var.session_url
  templates   = merge(module.whiteboard.files, module.preview.files)

  node_pool         = var.platform_node_pool
  user              = var.platform_user
  driver            = var.driver
  binary_path       = var.binary_path
  image             = var.image
  replicas          = var.replicas
  proxies           = 0
  proxy_port        = var.proxy_port
  proxy_data_dir    = var.proxy_data_dir
  proxy_data_volume = var.proxy_data_volume
  drain_timeout     = var.drain_timeout

  nomad             = merge({ address = var.jobs_nomad_address }, var.jobs_tls)
  consul            = merge({ address = var.jobs_consul_address }, var.jobs_tls)
  enable_consul_acl = true

  # Where the sessions' program is, and how it runs.
  service_variables = {
    session_namespaces = jsonencode(module.access.session_namespaces)
    template_vars = jsonencode(flatten([
      for template in ["whiteboard", "preview"] : [
        for name, value in local.of_templates : "${template}.${name}=${value}" if value != ""
      ]
    ]))
  }

  delete_records_on_destroy = var.delete_records_on_destroy
}
