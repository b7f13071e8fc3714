//! The HCL2 variables that a job declares. Nomad leaves a value for any other variable alone without a word, and the
//! session would run with whatever the variable that was meant defaults to.

use std::collections::{BTreeMap, BTreeSet};

/// Whether every variable that is given a value is declared by the job. A text that cannot be read here is not judged:
/// Nomad has the last word on what HCL is.
pub(super) fn check(jobspec: &str, given: &BTreeMap<String, String>) -> Result<(), String> {
    let Some(declared) = declared(jobspec) else { return Ok(()) };
    let unknown: Vec<_> = given.keys().filter(|name| !declared.contains(*name)).map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let there_are = match declared.is_empty() {
        true => "it declares none".to_owned(),
        false => {
            format!("it declares {}", declared.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
        }
    };
    Err(format!("the job has no variable {}, which a value is given for: {there_are}", unknown.join(", ")))
}

fn declared(jobspec: &str) -> Option<BTreeSet<String>> {
    let body = match hcl_edit::parser::parse_body(jobspec) {
        Ok(body) => body,
        Err(error) => {
            tracing::debug!(%error, "A job's variables are not looked at: its text cannot be read here.");
            return None;
        }
    };
    let blocks =
        body.get_blocks("variable").filter_map(|block| Some(block.labels.first()?.as_str().to_owned()));
    Some(blocks.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JOB: &str = r#"
# variable "in_a_comment" {}
variable "image" {
  type        = string
  description = "What runs: $${not_interpolated} %%{ if"
  default     = "a"
}
variable count { default = 1 }
variable "map" { type = map(object({ a = string })) }
locals { text = "variable \"in_a_string\" {}" }
job "x" {
  variable "inside" {}
  task "t" {
    template {
      data = <<-EOT
        variable "in_a_heredoc" {}
        {{ range services }}${NOMAD_META_x}{{ end }}
      EOT
    }
  }
}
"#;

    fn given(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), String::new())).collect()
    }

    #[test]
    fn only_what_is_declared_at_the_top_can_be_given_a_value() {
        assert_eq!(declared(JOB), Some(["count", "image", "map"].map(str::to_owned).into()));
        assert_eq!(check(JOB, &given(&["count", "map"])), Ok(()));
        let refused = check(JOB, &given(&["image", "imgae", "inside"])).unwrap_err();
        assert!(
            refused.contains("no variable imgae, inside") && refused.contains("count, image, map"),
            "{refused}"
        );
        assert!(check("job \"x\" {}", &given(&["image"])).unwrap_err().contains("none"));
    }

    #[test]
    fn what_cannot_be_read_is_left_to_nomad() {
        assert_eq!(check("job \"x\" {", &given(&["image"])), Ok(()));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(variable|\"|\\{|\\}|\\$|=|<<EOT|\n| |[a-z]|.){0,60}") {
            let _ = check(&text, &given(&["image"]));
        }
    }
}
