output "name" {
  description = "The template's name."
  value       = var.name
}

output "files" {
  description = "For the platform module's `templates`: the template's name and the names of its files. Known before anything is applied, which a job's variables must be."
  value       = { (var.name) = local.files }
  depends_on  = [nomad_variable.template]
}

output "path" {
  description = "Where the template is among Nomad's Variables."
  value       = nomad_variable.template.path
}
