//! What a template takes from callers by name.

use regex::Regex;

/// One parameter.
#[derive(Debug, Clone)]
pub struct Param {
    /// What a value must match as a whole.
    pub pattern: Option<Pattern>,
    /// Whether a spawn must give it.
    pub required: bool,
    /// Its value where a spawn gives none. Neither: the parameter is then not set at all.
    pub default: Option<String>,
}

/// A regular expression that a text must match from its first to its last character.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Bounds what a pattern may cost to keep; the engine itself is linear in the text.
    const SIZE_LIMIT: usize = 1 << 20;

    /// Compiles it. The source must be an expression of its own, so that the anchors put around it hold.
    ///
    /// # Errors
    /// When it is not a regular expression, or a large one.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        let compile = |text: &str| regex::RegexBuilder::new(text).size_limit(Self::SIZE_LIMIT).build();
        compile(source)?;
        Ok(Self { source: source.to_owned(), regex: compile(&format!(r"\A(?:{source})\z"))? })
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The expression as the operator wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}
