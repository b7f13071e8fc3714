output "platform_namespace" {
  description = "The Nomad namespace of the service and the proxies, once it may be used."
  value       = var.platform_namespace
  depends_on  = [nomad_namespace.platform, nomad_acl_policy.service, nomad_acl_policy.templates, consul_acl_binding_rule.task_services, consul_acl_binding_rule.task]
}

output "session_namespaces" {
  description = "The Nomad namespaces in which sessions may run, once they may."
  value       = sort(keys(var.session_namespaces))
  depends_on  = [nomad_namespace.sessions, consul_acl_binding_rule.sessions, consul_acl_binding_rule.session_services]

  precondition {
    condition     = !contains(keys(var.session_namespaces), var.platform_namespace)
    error_message = "Sessions must not run in the platform's own namespace: there they could be taken for the service."
  }
}

output "prefix" {
  description = "The installation's name."
  value       = var.prefix
}

output "nomad_policies" {
  description = "The Nomad policies that were made, by what they are for."
  value = {
    service   = [for policy in nomad_acl_policy.service : policy.name]
    templates = nomad_acl_policy.templates[*].name
    operator  = [for policy in nomad_acl_policy.operator : policy.name]
  }
}

output "consul_policies" {
  description = "The Consul policies that were made, by what they are for."
  value = {
    tasks    = [for policy in consul_acl_policy.task : policy.name]
    sessions = consul_acl_policy.sessions[*].name
    operator = consul_acl_policy.operator[*].name
  }
}

output "auth_method" {
  description = "The auth method by which Nomad's workloads log in to Consul."
  value       = try(consul_acl_auth_method.nomad[0].name, var.auth_method)
}
