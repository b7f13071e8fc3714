# Made once, at the first apply, and kept in Terraform's state: neither of the two providers makes random values.
# A uuid has 122 random bits from the operating system's source, so that three of them are worth more than the 256 bits
# of the digest. Not as `input`: that is repeated as `output`, which Terraform prints where it shows or destroys the resource.
resource "terraform_data" "secret" {
  for_each = toset(["cluster_secret", "link_secret", "ticket_secret", "api_token"])

  triggers_replace = sensitive(sha256(join("", [uuid(), uuid(), uuid()])))

  lifecycle {
    ignore_changes = [triggers_replace]
  }
}

locals {
  secrets = { for name, made in terraform_data.secret : name => coalesce(var.secrets[name], sensitive(made.triggers_replace)) }
}

# The service's job, and no other, may read this without a policy.
resource "nomad_variable" "service" {
  path      = local.service_secrets
  namespace = var.namespace
  items     = local.secrets
}

# A proxy proves itself to the service, and needs nothing else.
resource "nomad_variable" "proxy" {
  path      = local.proxy_secrets
  namespace = var.namespace
  items     = { link_secret = local.secrets.link_secret }
}
