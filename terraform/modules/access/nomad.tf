resource "nomad_namespace" "platform" {
  count = var.enable_namespaces && var.platform_namespace != "default" ? 1 : 0

  name        = var.platform_namespace
  description = "Bivouac's service and proxies."
}

resource "nomad_namespace" "sessions" {
  for_each = { for name, settings in local.namespaces : name => settings if name != "default" }

  name        = each.key
  description = each.value.description

  dynamic "capabilities" {
    for_each = anytrue([for setting in ["enabled_task_drivers", "disabled_task_drivers", "enabled_network_modes", "disabled_network_modes"] : each.value[setting] != null]) ? [each.value] : []
    content {
      enabled_task_drivers   = capabilities.value.enabled_task_drivers
      disabled_task_drivers  = capabilities.value.disabled_task_drivers
      enabled_network_modes  = capabilities.value.enabled_network_modes
      disabled_network_modes = capabilities.value.disabled_network_modes
    }
  }
}

# Bound to the task itself: its identity has these rights, and there is no token to hand out.
resource "nomad_acl_policy" "service" {
  for_each = local.nomad_namespaces

  name        = "${var.prefix}-service-${each.key}"
  description = "Bivouac's service starts, watches and stops sessions in ${each.key}."
  rules_hcl   = templatefile("${local.nomad_policies}/service.hcl", { namespace = each.key, prefix = var.prefix })

  job_acl {
    namespace = var.platform_namespace
    job_id    = local.service_job
    group     = "service"
    task      = "service"
  }

  depends_on = [nomad_namespace.platform, nomad_namespace.sessions]
}

resource "nomad_acl_policy" "templates" {
  count = var.enable_nomad_acl ? 1 : 0

  name        = "${var.prefix}-templates"
  description = "Bivouac's service reads its templates."
  rules_hcl   = templatefile("${local.nomad_policies}/templates.hcl", { namespace = var.platform_namespace, prefix = var.prefix })

  job_acl {
    namespace = var.platform_namespace
    job_id    = local.service_job
    group     = "service"
    task      = "service"
  }

  depends_on = [nomad_namespace.platform]
}

resource "nomad_acl_policy" "operator" {
  for_each = var.enable_operator_policies ? local.nomad_namespaces : toset([])

  name        = "${var.prefix}-operator-${each.key}"
  description = "People look after Bivouac's sessions in ${each.key}."
  rules_hcl   = templatefile("${local.nomad_policies}/operator.hcl", { namespace = each.key, prefix = var.prefix })

  depends_on = [nomad_namespace.sessions]
}
