use std::fmt;

use nv_core::Name;
use thiserror::Error;

/// A kind of result that steps produce and consume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataKind {
    /// Objects.
    Objects,
    /// Tracks.
    Tracks,
    /// Embeddings of objects.
    Embeddings,
    /// Signals of this name.
    Signal(Name),
    /// Artifacts of this schema.
    Artifact(Name),
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Objects => f.write_str("objects"),
            Self::Tracks => f.write_str("tracks"),
            Self::Embeddings => f.write_str("embeddings"),
            Self::Signal(name) => write!(f, "signal {name:?}"),
            Self::Artifact(schema) => write!(f, "artifact {schema:?}"),
        }
    }
}

/// What a step needs and what it makes. Checked when a pipeline is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What an earlier step must produce.
    pub consumes: Vec<DataKind>,
    /// What it produces.
    pub produces: Vec<DataKind>,
    /// Whether it reads pixels through [`nv_core::Frame::host`].
    pub host_pixels: bool,
}

/// A pipeline whose steps don't fit together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Nothing before the step makes what it needs, but something after it does.
    #[error(
        "step {step:?} needs {needs}, which step {producer:?} makes only after it: put {producer:?} before {step:?}"
    )]
    OutOfOrder {
        /// The step that lacks something.
        step: Name,
        /// What it lacks.
        needs: DataKind,
        /// The later step that makes it.
        producer: Name,
    },
    /// No step makes what the step needs.
    #[error("step {step:?} needs {needs}, and none of the steps before it makes that ({})", listed(.before))]
    Missing {
        /// The step that lacks something.
        step: Name,
        /// What it lacks.
        needs: DataKind,
        /// The steps before it.
        before: Vec<Name>,
    },
    /// Two steps of one pipeline have one name.
    #[error("two steps are called {0:?}: give one of them another name")]
    DuplicateStep(Name),
}

fn listed(steps: &[Name]) -> String {
    if steps.is_empty() { "there are none".into() } else { steps.join(", ") }
}

/// Checks that each step finds what it consumes among what the steps before it produce, and that names are distinct.
///
/// # Errors
/// The first step, in order, that lacks something.
pub fn check_graph(steps: &[(Name, Capabilities)]) -> Result<(), GraphError> {
    for (i, (step, capabilities)) in steps.iter().enumerate() {
        let (earlier, later) = (&steps[..i], &steps[i + 1..]);
        if earlier.iter().any(|(name, _)| name == step) {
            return Err(GraphError::DuplicateStep(step.clone()));
        }
        for needs in &capabilities.consumes {
            let makes = |(_, c): &&(Name, Capabilities)| c.produces.contains(needs);
            if earlier.iter().any(|s| makes(&s)) {
                continue;
            }
            let (step, needs) = (step.clone(), needs.clone());
            return Err(match later.iter().find(makes) {
                Some((producer, _)) => GraphError::OutOfOrder { step, needs, producer: producer.clone() },
                None => GraphError::Missing { step, needs, before: earlier.iter().map(|s| s.0.clone()).collect() },
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_must_find_what_it_consumes() {
        fn check(steps: &[(&str, &[DataKind], &[DataKind])], expected: Option<&str>) {
            let steps: Vec<_> = steps
                .iter()
                .map(|(name, consumes, produces)| {
                    let c =
                        Capabilities { consumes: consumes.to_vec(), produces: produces.to_vec(), host_pixels: false };
                    (Name::new(name), c)
                })
                .collect();
            assert_eq!(check_graph(&steps).err().map(|e| e.to_string()).as_deref(), expected);
        }
        use DataKind::{Objects, Tracks};
        check(&[], None);
        check(&[("detect", &[], &[Objects]), ("track", &[Objects], &[Tracks])], None);
        check(
            &[("track", &[Objects], &[Tracks]), ("detect", &[], &[Objects])],
            Some(r#"step "track" needs objects, which step "detect" makes only after it: put "detect" before "track""#),
        );
        check(
            &[("blur", &[], &[]), ("track", &[Objects], &[Tracks])],
            Some(r#"step "track" needs objects, and none of the steps before it makes that (blur)"#),
        );
        check(
            &[("pose", &[DataKind::Artifact("acme.pose/2".into())], &[])],
            Some(
                r#"step "pose" needs artifact "acme.pose/2", and none of the steps before it makes that (there are none)"#,
            ),
        );
        check(&[("a", &[], &[]), ("a", &[], &[])], Some(r#"two steps are called "a": give one of them another name"#));
    }
}
