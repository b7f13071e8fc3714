output "api_service" {
  description = "The API's name in Consul."
  value       = module.platform.api_service
}

output "api_token" {
  description = "The API's bootstrap token: `terraform output -raw api_token`."
  value       = module.platform.api_token
  sensitive   = true
}

output "session_domain" {
  description = "The domain whose hostnames must lead to the proxies."
  value       = module.platform.session_domain
}

output "policies" {
  description = "The policies for people, to be bound to whoever looks after sessions."
  value = {
    nomad  = module.access.nomad_policies.operator
    consul = module.access.consul_policies.operator
  }
}
