# The policies themselves are the files under policies/, each line with its reason. The tests apply the same files.
locals {
  service_job = "bivouac-service"
  proxy_job   = "bivouac-proxy"

  nomad_policies  = "${path.module}/policies/nomad"
  consul_policies = "${path.module}/policies/consul"

  namespaces = var.enable_namespaces ? var.session_namespaces : {}

  # What Nomad's access lists and Consul's are made for; empty where there are none.
  nomad_namespaces = var.enable_nomad_acl ? toset(keys(var.session_namespaces)) : toset([])
  consul_tasks = var.enable_consul_acl ? {
    service = local.service_job
    proxy   = local.proxy_job
  } : {}

  # What each of them registers, behind the prefix.
  registered = {
    service = "service|link"
    proxy   = "proxy"
  }
}
