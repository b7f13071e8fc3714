output "api_token" {
  description = "The bootstrap token of the API, with which `bivouac token create` makes tokens for applications."
  value       = local.secrets.api_token
  sensitive   = true
}

output "api_service" {
  description = "The API's name in Consul: it answers at its address and port."
  value       = "${var.prefix}-service"
  depends_on  = [nomad_job.service]
}

output "proxy_service" {
  description = "The proxies' name in Consul."
  value       = "${var.prefix}-proxy"
  depends_on  = [nomad_job.proxy]
}

output "proxy_port" {
  description = "The port of the proxies on every node that has one."
  value       = var.proxy_port
}

output "session_domain" {
  description = "The domain whose hostnames, `*.` in front, must lead to the proxies."
  value       = local.session_domain
}

output "jobs" {
  description = "The ids of the two jobs."
  value       = { service = nomad_job.service.id, proxy = nomad_job.proxy.id }
}
