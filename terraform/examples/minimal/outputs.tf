output "api_service" {
  description = "The API's name in Consul."
  value       = module.platform.api_service
}

output "api_token" {
  description = "The API's bootstrap token: `terraform output -raw api_token`."
  value       = module.platform.api_token
  sensitive   = true
}
