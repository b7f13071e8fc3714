//! Terraform's configuration, as far as it can be understood without Terraform: what is declared, what refers to what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hcl::expr::{FuncCall, ObjectKey, Traversal, TraversalOperator};
use hcl::structure::Block;
use hcl::template::{Element, Template};
use hcl::{Body, Expression};

/// The repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below a folder whose name ends so, sorted.
pub(super) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's content as HCL.
pub(super) fn parse(file: &Path) -> Body {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    hcl::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// One module or example: a folder of `.tf` files.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    blocks: Vec<Block>,
}

/// A call of a module.
pub(super) struct Call {
    pub(super) name: String,
    /// The module's folder.
    pub(super) source: PathBuf,
    pub(super) arguments: BTreeSet<String>,
}

impl Folder {
    /// Every module and every example.
    pub(super) fn all() -> Vec<Self> {
        let terraform = root().join("terraform");
        let folders: BTreeSet<_> =
            files(&terraform, ".tf").iter().map(|file| file.parent().unwrap().to_owned()).collect();
        folders.iter().map(|folder| Self::read(folder)).collect()
    }

    pub(super) fn read(path: &Path) -> Self {
        let bodies = files(path, ".tf").into_iter().filter(|file| file.parent() == Some(path));
        let blocks = bodies.flat_map(|file| parse(&file).into_blocks().collect::<Vec<_>>()).collect();
        Self { path: path.to_owned(), blocks }
    }

    /// The blocks of a kind that carry a name.
    pub(super) fn named<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Body)> {
        named(self.blocks.iter(), kind)
    }

    /// Each `local` and what it is.
    fn locals(&self) -> BTreeMap<&str, &Expression> {
        let blocks = self.blocks.iter().filter(|block| block.identifier() == "locals");
        blocks.flat_map(|block| block.body().attributes()).map(|one| (one.key(), one.expr())).collect()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        const META: [&str; 6] = ["source", "version", "providers", "count", "for_each", "depends_on"];
        let call = |(name, body): (&str, &Body)| {
            let source = attribute(body, "source").and_then(literal).unwrap_or_default();
            let arguments = body.attributes().map(|argument| argument.key().to_owned());
            Call {
                name: name.to_owned(),
                source: self.path.join(source),
                arguments: arguments.filter(|name| !META.contains(&name.as_str())).collect(),
            }
        };
        self.named("module").map(call).collect()
    }

    /// The paths that begin at the module's own folder, as patterns: `*` for what is known only when it is applied.
    pub(super) fn paths(&self) -> BTreeSet<String> {
        let own = self.path.display().to_string();
        let mut found = BTreeSet::new();
        for block in &self.blocks {
            each_expression(block.body(), &mut |expression| {
                found.extend(self.pattern(expression).filter(|text| text.starts_with(&own)));
            });
        }
        found
    }

    /// What is given to a function that reads files, as patterns, or as it is written if it cannot be told.
    pub(super) fn read_by_functions(&self) -> Vec<Result<String, String>> {
        const READERS: [&str; 4] = ["file", "templatefile", "fileexists", "filebase64"];
        let mut found = Vec::new();
        for block in &self.blocks {
            each_expression(block.body(), &mut |expression| {
                if let Expression::FuncCall(call) = expression
                    && READERS.contains(&call.name.name.as_str())
                {
                    found.push(self.pattern(&call.args[0]).ok_or_else(|| format!("{:?}", call.args[0])));
                }
            });
        }
        found
    }

    fn pattern(&self, expression: &Expression) -> Option<String> {
        match expression {
            Expression::String(text) => Some(text.clone()),
            Expression::TemplateExpr(template) => {
                let template = Template::from_expr(template).ok()?;
                let parts = template.elements().iter().map(|element| match element {
                    Element::Literal(text) => Some(text.clone()),
                    Element::Interpolation(inner) => self.pattern(&inner.expr),
                    Element::Directive(_) => None,
                });
                parts.collect()
            }
            Expression::Traversal(traversal) => {
                match (root_of(traversal)?, attributes_of(traversal).as_slice()) {
                    ("path", ["module"]) => Some(self.path.display().to_string()),
                    ("local", [name]) => self.pattern(self.locals().get(name)?),
                    // Given from outside.
                    ("var", _) => None,
                    _ => Some("*".to_owned()),
                }
            }
            Expression::Variable(_) => Some("*".to_owned()),
            _ => None,
        }
    }

    /// The keys of a map that is put together from others: `merge`, conditions, other locals.
    pub(super) fn keys_of_local(&self, name: &str) -> BTreeSet<String> {
        self.keys(self.locals().get(name).unwrap_or_else(|| panic!("no local {name}")))
    }

    fn keys(&self, expression: &Expression) -> BTreeSet<String> {
        match expression {
            Expression::Object(object) => object.keys().map(key).collect(),
            Expression::FuncCall(call) => call.args.iter().flat_map(|part| self.keys(part)).collect(),
            Expression::Conditional(either) => {
                [&either.true_expr, &either.false_expr].into_iter().flat_map(|part| self.keys(part)).collect()
            }
            Expression::Traversal(traversal) => {
                match (root_of(traversal), attributes_of(traversal).as_slice()) {
                    (Some("local"), [name]) => self.keys_of_local(name),
                    _ => BTreeSet::new(),
                }
            }
            _ => BTreeSet::new(),
        }
    }
}

/// The blocks of a kind that carry a name.
pub(super) fn named<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    kind: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Body)> {
    blocks
        .filter(move |block| block.identifier() == kind)
        .map(|block| (block.labels()[0].as_str(), block.body()))
}

pub(super) fn attribute<'a>(body: &'a Body, name: &str) -> Option<&'a Expression> {
    body.attributes().find(|one| one.key() == name).map(|one| one.expr())
}

pub(super) fn literal(expression: &Expression) -> Option<&str> {
    if let Expression::String(text) = expression { Some(text) } else { None }
}

fn key(key: &ObjectKey) -> String {
    match key {
        ObjectKey::Identifier(name) => name.to_string(),
        ObjectKey::Expression(Expression::String(name)) => name.clone(),
        other => panic!("a key that is made up: {other:?}"),
    }
}

fn root_of(traversal: &Traversal) -> Option<&str> {
    if let Expression::Variable(name) = &traversal.expr { Some(name.as_str()) } else { None }
}

fn attributes_of(traversal: &Traversal) -> Vec<&str> {
    traversal
        .operators
        .iter()
        .filter_map(|operator| match operator {
            TraversalOperator::GetAttr(name) => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// Every expression below a body, also those within others.
fn each_expression(body: &Body, see: &mut impl FnMut(&Expression)) {
    for attribute in body.attributes() {
        within(attribute.expr(), see);
    }
    for block in body.blocks() {
        each_expression(block.body(), see);
    }
}

fn within(expression: &Expression, see: &mut impl FnMut(&Expression)) {
    see(expression);
    match expression {
        Expression::Array(parts) => parts.iter().for_each(|part| within(part, see)),
        Expression::Object(object) => object.values().for_each(|part| within(part, see)),
        Expression::FuncCall(call) => {
            let FuncCall { args, .. } = &**call;
            args.iter().for_each(|part| within(part, see));
        }
        Expression::Parenthesis(inner) => within(inner, see),
        Expression::Conditional(either) => {
            [&either.cond_expr, &either.true_expr, &either.false_expr]
                .into_iter()
                .for_each(|part| within(part, see));
        }
        Expression::ForExpr(each) => {
            let parts = [Some(&each.collection_expr), Some(&each.value_expr), each.cond_expr.as_ref()];
            parts.into_iter().flatten().for_each(|part| within(part, see));
        }
        _ => {}
    }
}
