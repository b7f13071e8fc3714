//! Templates that change while the service runs.
//!
//! The folder is read every two seconds. A change is taken once two looks in a row have seen the same: files are replaced
//! one after the other, and half a change is no change. What cannot be used is not taken: the template stays as it was,
//! and `/readyz` says why. Running sessions keep what they were started with.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::jobspec::{self, JobParser, ParseError};
use super::registry::{LoadError, Origin, Templates};
use super::{Job, Mode, Problem, Template};

/// How often the folder is read.
const EVERY: Duration = Duration::from_secs(2);

type Found = BTreeMap<String, Result<Template, LoadError>>;

impl Templates {
    /// Takes in what changes in the folder that the templates were loaded from, for ever. Ends at once if they are part
    /// of the program.
    pub async fn follow(&self, parser: Option<&dyn JobParser>) {
        let Some(origin) = self.origin.clone() else { return };
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = Looks::default();
        loop {
            ticks.tick().await;
            let Some(found) = self.look(&origin).await else { continue };
            let known =
                self.iter().map(|template| template.name.to_string()).chain(self.rejected().into_keys());
            for name in looks.gone(&found, known) {
                self.forget(&name);
            }
            for (folder, seen) in looks.settled(found) {
                self.take(&folder, seen, parser, &mut looks).await;
            }
        }
    }

    /// What is in the folder now. One that cannot be read says nothing about what is in it.
    async fn look(&self, origin: &Origin) -> Option<Found> {
        const WHOLE_FOLDER: &str = "";
        let reader = origin.clone();
        let read = tokio::task::spawn_blocking(move || reader.read_all()).await.ok()?;
        match read {
            Ok(found) => {
                self.settle(WHOLE_FOLDER);
                Some(found)
            }
            Err(error) => {
                if self.reject(WHOLE_FOLDER, &error.to_string()) {
                    tracing::warn!(%error, "The templates' folder cannot be read; they stay as they were.");
                }
                None
            }
        }
    }

    async fn take(
        &self,
        folder: &str,
        seen: Result<Template, LoadError>,
        parser: Option<&dyn JobParser>,
        looks: &mut Looks,
    ) {
        let template = match seen {
            Ok(template) => template,
            Err(error) => return self.keep_the_earlier(folder, &error.to_string()),
        };
        let current = self.get(&template.name);
        if current.as_ref().is_some_and(|current| current.hash == template.hash) {
            return self.settle(folder);
        }
        match judge(&template, parser).await {
            Ok(()) => {}
            Err(ParseError::Unavailable(detail)) => {
                looks.again(folder);
                return tracing::debug!(template = folder, %detail, "A changed template cannot be checked yet.");
            }
            Err(ParseError::Refused(detail)) => {
                // Without one that can be used there is nothing to keep.
                let is_of_use = |earlier: &Template| !matches!(earlier.problem(), Some(Problem::Broken(_)));
                if current.is_some_and(|current| is_of_use(&current)) {
                    return self.keep_the_earlier(folder, &detail);
                }
                tracing::warn!(template = folder, %detail, "A template is disabled.");
            }
        }
        tracing::info!(
            template = folder,
            hash = template.hash,
            "A template has changed: new sessions start from it."
        );
        self.replace(template);
    }

    fn keep_the_earlier(&self, folder: &str, why: &str) {
        if self.reject(folder, why) {
            tracing::warn!(template = folder, why, "A changed template cannot be used: it stays as it was.");
        }
    }

    fn forget(&self, folder: &str) {
        self.settle(folder);
        if folder.parse().is_ok_and(|name| self.remove(&name)) {
            tracing::info!(template = folder, "A template was removed: it can be spawned no more.");
        }
    }
}

/// Whether sessions could be started from it; its job is then parsed.
async fn judge(template: &Template, parser: Option<&dyn JobParser>) -> Result<(), ParseError> {
    let (Some(nomad), Some(parser), Mode::Nomad) = (&template.nomad, parser, template.mode) else {
        return template
            .problem()
            .filter(|problem| matches!(problem, Problem::Broken(_)))
            .map_or(Ok(()), |problem| Err(ParseError::Refused(problem.detail().to_owned())));
    };
    let job = jobspec::usable_job(template, nomad, parser).await;
    if let Err(ParseError::Refused(detail)) = &job {
        nomad.set_job(Job::Refused(format!("{}: {detail}", nomad.file)));
    }
    nomad.set_job(Job::Ready(job?.into()));
    Ok(())
}

/// What the looks so far have seen: for each folder its content's fingerprint, and whether it was acted upon.
#[derive(Debug, Default)]
struct Looks {
    last: BTreeMap<String, (String, Acted)>,
    /// Templates that were not there at the last look.
    missing: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acted {
    Yes,
    No,
}

impl Looks {
    /// Takes note of a look; returns what was the same at the one before and was not acted upon yet.
    fn settled(&mut self, found: Found) -> Found {
        let before = std::mem::take(&mut self.last);
        let mut settled = Found::new();
        for (folder, seen) in found {
            let fingerprint = match &seen {
                Ok(template) => template.hash.clone(),
                Err(error) => error.to_string(),
            };
            let acted = match before.get(&folder) {
                Some((same, acted)) if *same == fingerprint => {
                    if *acted == Acted::No {
                        settled.insert(folder.clone(), seen);
                    }
                    Acted::Yes
                }
                _ => Acted::No,
            };
            self.last.insert(folder, (fingerprint, acted));
        }
        settled
    }

    /// The folder is to be acted upon at the next look too.
    fn again(&mut self, folder: &str) {
        if let Some((_, acted)) = self.last.get_mut(folder) {
            *acted = Acted::No;
        }
    }

    /// Those of the known templates that neither this look nor the one before has found. Before [`Looks::settled`].
    fn gone(&mut self, found: &Found, known: impl Iterator<Item = String>) -> Vec<String> {
        let absent = known.filter(|name| !found.contains_key(name)).collect();
        let before = std::mem::replace(&mut self.missing, absent);
        self.missing.iter().filter(|name| before.contains(name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
