//! The template that is inside the binary.

use bivouac_service::spec::template::{LoadError, Mode, Template, Templates};

/// Its name.
pub(crate) const WHITEBOARD: &str = "whiteboard";

const TOML: &str = include_str!("../../templates/whiteboard/template.toml");
const JOBSPEC: &str = include_str!("../../templates/whiteboard/job.nomad.hcl");

/// The whiteboard.
pub(crate) fn whiteboard() -> Result<Template, LoadError> {
    Templates::from_embedded(WHITEBOARD, TOML, Some(JOBSPEC), &[], Mode::Processes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_bundled_template_is_a_valid_one() {
        let template = super::whiteboard().unwrap();
        assert!(template.problem().is_none());
        assert!(template.wake);
    }
}
