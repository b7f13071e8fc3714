# How Nomad's workloads log in to Consul. What it reads of an identity is what the rules below ask for.
resource "consul_acl_auth_method" "nomad" {
  count = var.enable_consul_acl && var.enable_auth_method ? 1 : 0

  name           = var.auth_method
  display_name   = var.auth_method
  description    = "Logs in the workloads of Nomad."
  type           = "jwt"
  token_locality = "local"

  config_json = jsonencode(merge(
    {
      JWKSURL          = var.nomad_jwks_url
      JWTSupportedAlgs = ["RS256"]
      BoundAudiences   = [var.audience]
      ClaimMappings = {
        nomad_namespace = "nomad_namespace"
        nomad_job_id    = "nomad_job_id"
        nomad_task      = "nomad_task"
        nomad_service   = "nomad_service"
      }
    },
    var.nomad_jwks_ca == "" ? {} : { JWKSCACert = var.nomad_jwks_ca },
  ))

  lifecycle {
    precondition {
      condition     = var.nomad_jwks_url != ""
      error_message = "The auth method needs nomad_jwks_url: without Nomad's keys Consul cannot tell an identity from a forgery."
    }
  }
}

# Nomad registers each service with an identity that is good for this one service. Whoever may register a job elsewhere
# must not have it taken for a session or for a link: the namespace decides which names are to be had.
resource "consul_acl_binding_rule" "session_services" {
  for_each = var.enable_consul_acl ? toset(keys(var.session_namespaces)) : toset([])

  auth_method = try(consul_acl_auth_method.nomad[0].name, var.auth_method)
  description = "A session in ${each.key} may register itself."
  selector    = "\"nomad_service\" in value and value.nomad_namespace == \"${each.key}\" and value.nomad_service matches \"^session-\""
  bind_type   = "service"
  bind_name   = "$${value.nomad_service}"
}

resource "consul_acl_binding_rule" "task_services" {
  for_each = local.consul_tasks

  auth_method = try(consul_acl_auth_method.nomad[0].name, var.auth_method)
  description = "The job ${each.value} may register its own services."
  selector    = "\"nomad_service\" in value and value.nomad_namespace == \"${var.platform_namespace}\" and value.nomad_job_id == \"${each.value}\" and value.nomad_service matches \"^${var.prefix}-(${local.registered[each.key]})$\""
  bind_type   = "service"
  bind_name   = "$${value.nomad_service}"
}

resource "consul_acl_policy" "task" {
  for_each = local.consul_tasks

  name        = "${var.prefix}-${each.key}"
  description = "Bivouac's ${each.key}."
  rules       = templatefile("${local.consul_policies}/${each.key}.hcl", { prefix = var.prefix, namespace = var.platform_namespace })
}

resource "consul_acl_role" "task" {
  for_each = local.consul_tasks

  name        = "${var.prefix}-${each.key}"
  description = "The task of the job ${each.value}."
  policies    = [consul_acl_policy.task[each.key].id]
}

resource "consul_acl_binding_rule" "task" {
  for_each = local.consul_tasks

  auth_method = try(consul_acl_auth_method.nomad[0].name, var.auth_method)
  description = "The task of the job ${each.value} is Bivouac's ${each.key}."
  selector    = "\"nomad_service\" not in value and value.nomad_namespace == \"${var.platform_namespace}\" and value.nomad_job_id == \"${each.value}\""
  bind_type   = "role"
  bind_name   = consul_acl_role.task[each.key].name
}

# Sessions: nothing of ours, whatever else their tasks may do.
resource "consul_acl_policy" "sessions" {
  count = var.enable_consul_acl ? 1 : 0

  name        = "${var.prefix}-sessions"
  description = "What a session's own token cannot do."
  rules       = templatefile("${local.consul_policies}/sessions.hcl", { prefix = var.prefix, namespace = "" })
}

resource "consul_acl_role" "sessions" {
  count = length(consul_acl_policy.sessions)

  name        = "${var.prefix}-sessions"
  description = "The tasks of sessions."
  policies    = [consul_acl_policy.sessions[0].id]
}

resource "consul_acl_binding_rule" "sessions" {
  for_each = var.enable_consul_acl ? toset(keys(var.session_namespaces)) : toset([])

  auth_method = try(consul_acl_auth_method.nomad[0].name, var.auth_method)
  description = "The tasks in ${each.key} are sessions."
  selector    = "\"nomad_service\" not in value and value.nomad_namespace == \"${each.key}\""
  bind_type   = "role"
  bind_name   = consul_acl_role.sessions[0].name
}

resource "consul_acl_policy" "operator" {
  count = var.enable_consul_acl && var.enable_operator_policies ? 1 : 0

  name        = "${var.prefix}-operator"
  description = "People look at Bivouac's records and services."
  rules       = templatefile("${local.consul_policies}/operator.hcl", { prefix = var.prefix, namespace = var.platform_namespace })
}
