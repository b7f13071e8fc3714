locals {
  # Editors' and operating systems' own files begin with a dot.
  files = sort([for file in fileset(var.folder, "*") : file if !startswith(file, ".")])
  items = { for name in local.files : name => file("${var.folder}/${name}") }

  # Nomad counts the bytes of names and contents. Base64 has four letters for three bytes, and ASCII letters alone.
  size = floor(sum([for name, text in local.items : length(name) + length(base64encode(text)) * 3 / 4]))
}

resource "nomad_variable" "template" {
  path      = "${var.prefix}/templates/${var.name}"
  namespace = var.namespace
  items     = local.items

  lifecycle {
    precondition {
      condition     = local.size <= 65536
      error_message = "The template ${var.name} has about ${local.size} bytes, and a Nomad Variable holds 65536."
    }
  }
}
