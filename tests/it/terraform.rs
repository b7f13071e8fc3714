//! terraform/ and jobspecs/: what can be said of them without Terraform's providers is said everywhere; with providers
//! (`BIVOUAC_TERRAFORM_PLUGINS`) they are applied to real agents.

mod applying;
mod reading;
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use bivouac_tests::agents::{Agents, AgentsConfig};
use reading::{Folder, attribute, files, literal, named, parse, root};
use tool::{Terraform, left_out};

#[test]
fn every_file_is_formatted() {
    let Some(terraform) = Terraform::here() else {
        return left_out("every_file_is_formatted", "there is no terraform");
    };
    let output = terraform.run(&["fmt", "-check", "-diff", "-recursive"]);
    assert!(output.status.success(), "run terraform fmt:\n{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_module_has_the_parts_that_people_look_for() {
    for folder in Folder::all() {
        let name = folder.path.strip_prefix(root()).unwrap().display().to_string();
        for file in ["main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"] {
            assert!(folder.path.join(file).is_file(), "{name} has no {file}");
        }
        let readme = std::fs::read_to_string(folder.path.join("README.md")).unwrap();
        for (kind, needed) in [("variable", ["description", "type"].as_slice()), ("output", &["description"])]
        {
            for (declared, body) in folder.named(kind) {
                for attribute_name in needed {
                    assert!(
                        attribute(body, attribute_name).is_some(),
                        "{name}: the {kind} {declared} has no {attribute_name}"
                    );
                }
                assert!(
                    readme.contains(&format!("`{declared}`")),
                    "{name}/README.md does not mention {declared}"
                );
            }
        }
    }
}

#[test]
fn every_file_that_is_referred_to_is_there() {
    let known: Vec<_> = ["terraform", "jobspecs", "templates"]
        .iter()
        .flat_map(|folder| files(&root().join(folder), ""))
        .map(|file| file.display().to_string())
        .collect();
    let exists = |pattern: &str| {
        let path = normal(Path::new(pattern));
        if path.exists() {
            return true;
        }
        let path = path.display().to_string();
        path.contains('*') && known.iter().any(|file| matches(&path, file))
    };
    let mut referred = BTreeSet::new();
    for folder in Folder::all() {
        for call in folder.calls() {
            assert!(
                normal(&call.source).is_dir(),
                "{}: module {} is not there",
                folder.path.display(),
                call.name
            );
        }
        for read in folder.read_by_functions() {
            // What cannot be told here is a folder that is given from outside, and is checked where it is given.
            if let Err(expression) = read {
                assert!(
                    expression.contains("var.") || expression.contains("\"var\""),
                    "{}: {expression}",
                    folder.path.display()
                );
            }
        }
        for path in folder.paths() {
            assert!(exists(&path), "{}: nothing matches {path}", folder.path.display());
            referred.extend(
                known.iter().filter(|file| matches(&normal(Path::new(&path)).display().to_string(), file)),
            );
        }
    }
    // Processes outside Nomad register themselves, and are none of Terraform's business.
    let outside = |file: &str| file.contains("/consul/register-");
    let policies = files(&root().join("terraform/modules/access/policies"), ".hcl");
    let unread: Vec<_> = policies
        .iter()
        .map(|file| file.display().to_string())
        .filter(|file| !outside(file) && !referred.contains(file))
        .collect();
    assert!(unread.is_empty(), "no module reads {unread:?}");
}

#[test]
fn every_module_is_called_with_what_it_declares() {
    for folder in Folder::all() {
        for call in folder.calls() {
            let module = Folder::read(&normal(&call.source));
            let declared: BTreeMap<_, _> = module
                .named("variable")
                .map(|(name, body)| (name.to_owned(), attribute(body, "default").is_none()))
                .collect();
            let place = format!("{}: module {}", folder.path.display(), call.name);
            for argument in &call.arguments {
                assert!(declared.contains_key(argument), "{place} knows no {argument}");
            }
            let missing: Vec<_> = declared
                .iter()
                .filter(|(name, required)| **required && !call.arguments.contains(*name))
                .collect();
            assert!(missing.is_empty(), "{place} needs {missing:?}");
        }
    }
}

/// Every line of a policy has its reason, and only what both sides can fill in is left open.
#[test]
fn every_policy_can_be_filled_in_by_plain_replacement() {
    for file in files(&root().join("terraform/modules/access/policies"), ".hcl") {
        let text = std::fs::read_to_string(&file).unwrap();
        let filled = text.replace("${prefix}", "bivouac").replace("${namespace}", "sessions");
        assert!(!filled.contains("${"), "{}: another placeholder", file.display());
        hcl::parse(&filled).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(text.starts_with("# "), "{} does not say what it is for", file.display());
    }
}

/// The jobs with all variables that the platform module gives them, each driver in turn, before Nomad itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nomad_accepts_the_jobs_that_the_module_renders() {
    let agents = Agents::start(AgentsConfig { nomad_clients: 1, ..AgentsConfig::default() }).await.unwrap();
    let platform = Folder::read(&root().join("terraform/modules/platform"));
    for job in ["service", "proxy"] {
        let jobspec = root().join(format!("jobspecs/{job}.nomad.hcl"));
        let body = parse(&jobspec);
        let declared: BTreeMap<_, _> = named(body.blocks(), "variable").collect();
        let given = platform.keys_of_local(&format!("{job}_variables"));
        for (name, body) in &declared {
            let required = attribute(body, "default").is_none();
            assert!(!required || given.contains(*name), "the platform module does not give {job} its {name}");
        }
        for driver in ["raw_exec", "exec", "docker"] {
            for every_node in ["true", "false"] {
                let mut command = agents.nomad_command();
                command.args(["job", "validate"]);
                for name in &given {
                    let body = declared.get(name.as_str());
                    let body = body.unwrap_or_else(|| panic!("{job} knows no {name}"));
                    let value = match name.as_str() {
                        "driver" => driver,
                        "every_node" => every_node,
                        other => sample(other, body),
                    };
                    command.args(["-var", &format!("{name}={value}")]);
                }
                let output = command.arg(&jobspec).output().unwrap();
                let said = [output.stdout, output.stderr].concat();
                assert!(output.status.success(), "{job}, {driver}: {}", String::from_utf8_lossy(&said));
            }
        }
    }
}

/// A value that the module could give.
fn sample<'a>(name: &str, variable: &'a hcl::Body) -> &'a str {
    match name {
        "namespace" | "node_pool" => "default",
        "session_url" => "https://sessions.example.com",
        "domain" => "sessions.example.com",
        "consul_prefix" => "bivouac",
        "templates" => r#"{"whiteboard":["job.nomad.hcl","template.toml"],"preview":["template.toml"]}"#,
        "templates_path" => "bivouac/templates",
        "secrets_variable" => "nomad/jobs/bivouac-service",
        "data_dir" => "/var/lib/bivouac/proxy",
        "tls_port" => "443",
        _ => match attribute(variable, "type") {
            Some(hcl::Expression::Variable(kind)) => match kind.as_str() {
                "number" => "7",
                "bool" => "true",
                _ => "text",
            },
            _ => r#"["a","b"]"#,
        },
    }
}

/// Without `.` and `..`, whether it exists or not.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// Whether a text is of a pattern in which `*` stands for anything within one folder.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|after| {
            let folder_ends = after.find('/').unwrap_or(after.len());
            (0..=folder_ends).filter(|&n| after.is_char_boundary(n)).any(|n| matches(rest, &after[n..]))
        }),
    }
}

#[test]
fn a_pattern_stays_within_its_folder() {
    assert!(matches("/a/*.hcl", "/a/b.hcl") && matches("/a/b", "/a/b"));
    assert!(!matches("/a/*.hcl", "/a/b/c.hcl") && !matches("/a/*.hcl", "/a/b.tf"));
}

#[test]
fn the_examples_give_each_template_a_job_in_a_namespace_of_sessions() {
    let complete = root().join("terraform/examples/complete");
    for file in files(&complete.join("templates"), "job.nomad.hcl") {
        let body = parse(&file);
        let (_, job) = named(body.blocks(), "job").next().unwrap();
        let namespace = attribute(job, "namespace").and_then(literal).unwrap();
        let main = std::fs::read_to_string(complete.join("main.tf")).unwrap();
        assert!(main.contains(&format!("{namespace} = {{")), "{namespace} is no namespace of sessions");
    }
}
