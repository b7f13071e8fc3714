locals {
  # The jobs' own files decide these. Nomad lets a job read nomad/jobs/<its id> without a policy.
  service_secrets = "nomad/jobs/bivouac-service"
  proxy_secrets   = "nomad/jobs/bivouac-proxy"

  jobspecs = "${path.module}/../../../jobspecs"

  session_domain = regex("^https?://([^:/]+)", var.session_url)[0]

  # Whether a destroy takes away what a job that is ending still needs.
  rights_end = var.enable_consul_acl || var.delete_records_on_destroy

  # HCL, in which "${" would begin a template.
  hcl = {
    datacenters     = replace(jsonencode(var.datacenters), "$${", "$$${")
    templates       = replace(jsonencode(var.templates), "$${", "$$${")
    allowed_origins = replace(jsonencode(var.allowed_origins), "$${", "$$${")
    allowed_hosts   = replace(jsonencode(var.allowed_hosts), "$${", "$$${")
    balancers       = replace(jsonencode(var.proxy_protocol_from), "$${", "$$${")
    trusted_hops    = replace(jsonencode(var.trusted_hops), "$${", "$$${")
  }

  common_variables = merge(
    {
      datacenters            = local.hcl.datacenters
      namespace              = var.namespace
      node_pool              = var.node_pool
      driver                 = var.driver
      binary_path            = var.binary_path
      image                  = var.image
      consul_prefix          = var.prefix
      consul_address         = var.consul.address
      consul_ca_file         = var.consul.ca_file
      consul_cert_file       = var.consul.cert_file
      consul_key_file        = var.consul.key_file
      consul_tls_server_name = var.consul.tls_server_name
      consul_identity        = tostring(var.enable_consul_acl)
      consul_audience        = var.audience
      revision               = var.revision
    },
    var.user == null ? {} : { user = var.user.name, secrets_uid = tostring(var.user.uid) },
  )

  service_variables = merge(
    local.common_variables,
    {
      replicas              = tostring(var.replicas)
      session_url           = var.session_url
      templates             = local.hcl.templates
      templates_path        = "${var.prefix}/templates"
      templates_dir         = var.templates_dir
      secrets_variable      = local.service_secrets
      allowed_origins       = local.hcl.allowed_origins
      allowed_hosts         = local.hcl.allowed_hosts
      nomad_ca_file         = var.nomad.ca_file
      nomad_cert_file       = var.nomad.cert_file
      nomad_key_file        = var.nomad.key_file
      nomad_tls_server_name = var.nomad.tls_server_name
    },
    var.nomad.address == null ? {} : { nomad_address = var.nomad.address },
    var.service_variables,
  )

  proxy_variables = merge(
    local.common_variables,
    {
      every_node          = tostring(var.proxies == 0)
      proxies             = tostring(max(var.proxies, 1))
      port                = tostring(var.proxy_port)
      domain              = local.session_domain
      data_dir            = var.proxy_data_dir
      data_volume         = var.proxy_data_volume
      drain_timeout       = tostring(var.drain_timeout)
      proxy_protocol_from = local.hcl.balancers
      trusted_hops        = local.hcl.trusted_hops
      secrets_variable    = local.proxy_secrets
    },
    var.proxy_tls == null ? {} : {
      tls_port      = tostring(var.proxy_tls.port)
      tls_cert_file = var.proxy_tls.cert_file
      tls_key_file  = var.proxy_tls.key_file
    },
    var.proxy_variables,
  )
}

resource "nomad_job" "service" {
  jobspec = file("${local.jobspecs}/service.nomad.hcl")

  hcl2 {
    vars = local.service_variables
  }

  # An apply ends when the replicas are ready, or says why they are not.
  detach           = false
  purge_on_destroy = true

  lifecycle {
    precondition {
      condition     = length(var.templates) > 0 || var.templates_dir != ""
      error_message = "Without templates nothing can be spawned: give templates or templates_dir."
    }
    precondition {
      condition     = var.driver != "docker" || var.image != ""
      error_message = "With the driver docker an image is needed."
    }
  }

  depends_on = [nomad_variable.service, terraform_data.service_ended]
}

resource "nomad_job" "proxy" {
  jobspec = file("${local.jobspecs}/proxy.nomad.hcl")

  hcl2 {
    vars = local.proxy_variables
  }

  detach           = false
  purge_on_destroy = true

  timeouts {
    create = "10m"
    update = "60m"
  }

  depends_on = [nomad_variable.proxy, terraform_data.proxies_ended]
}

# Made empty and then left alone: only its end matters, which takes all records along.
resource "consul_key_prefix" "records" {
  count = var.delete_records_on_destroy ? 1 : 0

  path_prefix = "${var.prefix}/"
  subkeys     = {}

  lifecycle {
    ignore_changes = all
  }
}

# A destroy takes the proxies away, then the service, then what both need: records and rights. A job's end is asked for and
# not waited for, so there are pauses in between.
#
# Proxies first, and no two jobs at once: a purge deletes its allocations together with the job, and a client that hears of
# one purge while another happens overlooks the second for minutes (Nomad 1.11.3, Node.GetClientAllocs: the index of its
# answer does not rise when allocations are deleted).
resource "terraform_data" "proxies_ended" {
  input = local.rights_end ? var.drain_timeout + 15 : 5

  provisioner "local-exec" {
    when    = destroy
    command = "sleep ${self.input}"
  }

  depends_on = [nomad_job.service]
}

# Until it has ended, a replica needs its token, and Consul that of its registration to take it out of the catalogue.
resource "terraform_data" "service_ended" {
  # The namespace is here for the order alone: whatever it comes from is taken away after this.
  input = {
    seconds   = local.rights_end ? 20 : 0
    namespace = var.namespace
  }

  provisioner "local-exec" {
    when    = destroy
    command = "sleep ${self.input.seconds}"
  }

  depends_on = [consul_key_prefix.records]
}
