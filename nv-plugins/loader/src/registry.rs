use std::path::{Path, PathBuf};

use nv_perception::{KindDescriptor, PluginDescriptor};
use tracing::debug;

use crate::error::{FindError, LoadError, LoadErrorKind, Reason};
use crate::load::{LoadedPlugin, Loader};
use crate::search::libraries;

/// The plugins of a program, linked or loaded, each under its own name.
#[derive(Debug, Default)]
pub struct Registry {
    loader: Loader,
    plugins: Vec<RegisteredPlugin>,
}

/// A plugin and where it came from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegisteredPlugin {
    /// What it offers.
    pub descriptor: PluginDescriptor,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a plugin came from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// It is part of the program.
    Linked,
    /// It was loaded from a file.
    Loaded(Box<LoadedPlugin>),
}

impl Origin {
    fn describe(&self) -> String {
        match self {
            Self::Linked => "part of this program".into(),
            Self::Loaded(plugin) => plugin.file.path.display().to_string(),
        }
    }
}

impl Registry {
    /// A registry without plugins.
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry without plugins, which loads with `loader`.
    pub fn with_loader(loader: Loader) -> Self {
        Self { loader, plugins: Vec::new() }
    }

    /// Adds a plugin that is part of the program.
    ///
    /// # Errors
    /// [`LoadErrorKind::DuplicateName`].
    pub fn link(&mut self, descriptor: PluginDescriptor) -> Result<(), LoadError> {
        let name = PathBuf::from(&descriptor.name);
        self.add(RegisteredPlugin { descriptor, origin: Origin::Linked }, &name)
    }

    /// Loads a plugin from a file and adds it under its own name.
    ///
    /// # Errors
    /// Why it was not loaded.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<&PluginDescriptor, LoadError> {
        let path = path.as_ref();
        let checked = self.loader.check(path)?;
        // Nothing of a plugin that would not be added should run.
        self.check_name(&checked.file.note.name, path)?;
        let loaded = self.loader.load_checked(checked)?;
        self.add_loaded(loaded, path, |_| {})
    }

    /// Loads a plugin from a file and adds it under a name of the caller's choice, as `[plugin.NAME]` in a config does.
    ///
    /// # Errors
    /// Why it was not loaded.
    pub fn load_as(&mut self, name: &str, path: impl AsRef<Path>) -> Result<&PluginDescriptor, LoadError> {
        let path = path.as_ref();
        self.check_name(name, path)?;
        let loaded = self.loader.load(path)?;
        self.add_loaded(loaded, path, |descriptor| descriptor.name = name.into())
    }

    /// Loads the plugins in `dirs` that the registry does not have by name already: earlier folders come first. Folders that
    /// are not there and libraries that are no plugins are passed over.
    ///
    /// Returns the plugins that were refused, and why.
    pub fn search<P: AsRef<Path>>(&mut self, dirs: impl IntoIterator<Item = P>) -> Vec<LoadError> {
        let mut refused = Vec::new();
        for path in dirs.into_iter().flat_map(|dir| libraries(dir.as_ref())) {
            match self.load(&path).map(|_| ()) {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), LoadErrorKind::NotAPlugin | LoadErrorKind::DuplicateName) => {
                    debug!("passed over: {e}");
                }
                Err(e) => refused.push(e),
            }
        }
        refused
    }

    /// The plugins, in the order in which they were added.
    pub fn plugins(&self) -> &[RegisteredPlugin] {
        &self.plugins
    }

    /// The plugin called `name`.
    pub fn plugin(&self, name: &str) -> Option<&RegisteredPlugin> {
        self.plugins.iter().find(|p| p.descriptor.name == name)
    }

    /// The kind that config calls `name`: `plugin/kind`, or the kind alone where only one plugin has it.
    ///
    /// # Errors
    /// [`FindError`], which names what there is and suggests what may have been meant.
    pub fn find(&self, name: &str) -> Result<&KindDescriptor, FindError> {
        match name.split_once('/') {
            Some((plugin, kind)) => self.find_in(plugin, kind),
            None => self.find_bare(name),
        }
    }

    fn find_in(&self, plugin: &str, kind: &str) -> Result<&KindDescriptor, FindError> {
        let Some(found) = self.plugin(plugin) else {
            let plugins: Vec<_> = self.plugins.iter().map(|p| p.descriptor.name.clone()).collect();
            return Err(FindError::Plugin { plugin: plugin.into(), suggestion: nearest(plugin, &plugins), plugins });
        };
        found.descriptor.kind(kind).ok_or_else(|| {
            let kinds: Vec<_> = found.descriptor.kinds.iter().map(|k| k.kind.clone()).collect();
            FindError::Kind { plugin: plugin.into(), kind: kind.into(), suggestion: nearest(kind, &kinds), kinds }
        })
    }

    fn find_bare(&self, kind: &str) -> Result<&KindDescriptor, FindError> {
        let all = || self.plugins.iter().flat_map(|p| p.descriptor.kinds.iter().map(move |k| (&p.descriptor.name, k)));
        let full_name = |(plugin, kind): (&String, &KindDescriptor)| format!("{plugin}/{}", kind.kind);
        let mut found = all().filter(|(_, k)| k.kind == kind);
        match (found.next(), found.next()) {
            (Some((_, found)), None) => Ok(found),
            (Some(_), Some(_)) => {
                let candidates = all().filter(|(_, k)| k.kind == kind).map(full_name).collect();
                Err(FindError::Ambiguous { kind: kind.into(), candidates })
            }
            (None, _) => {
                let bare: Vec<_> = all().map(|(_, k)| k.kind.clone()).collect();
                let kinds: Vec<_> = all().map(full_name).collect();
                // The nearest bare name, by the name that finds it for certain.
                let suggestion =
                    nearest(kind, &bare).and_then(|near| Some(kinds[bare.iter().position(|b| *b == near)?].clone()));
                Err(FindError::Bare { kind: kind.into(), suggestion, kinds })
            }
        }
    }

    fn add_loaded(
        &mut self,
        loaded: LoadedPlugin,
        path: &Path,
        rename: impl FnOnce(&mut PluginDescriptor),
    ) -> Result<&PluginDescriptor, LoadError> {
        let mut descriptor = loaded.descriptor.clone();
        rename(&mut descriptor);
        self.add(RegisteredPlugin { descriptor, origin: Origin::Loaded(Box::new(loaded)) }, path)?;
        Ok(&self.plugins[self.plugins.len() - 1].descriptor)
    }

    fn add(&mut self, plugin: RegisteredPlugin, path: &Path) -> Result<(), LoadError> {
        self.check_name(&plugin.descriptor.name, path)?;
        self.plugins.push(plugin);
        Ok(())
    }

    fn check_name(&self, name: &str, path: &Path) -> Result<(), LoadError> {
        match self.plugin(name) {
            None => Ok(()),
            Some(first) => {
                let origin = first.origin.describe();
                Err(LoadError::new(path, Reason::Duplicate { name: name.into(), origin }))
            }
        }
    }
}

/// The name among `names` that was probably meant, if one is near enough.
fn nearest(meant: &str, names: &[String]) -> Option<String> {
    let distance = |name: &String| strsim::damerau_levenshtein(meant, name);
    let near = names.iter().min_by_key(|name| distance(name))?;
    (distance(near) <= 1 + meant.chars().count() / 4).then(|| near.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nv_perception::{Creator, StageError};

    use super::*;

    fn plugin(name: &str, kinds: &[&str]) -> PluginDescriptor {
        let kind = |kind: &&str| KindDescriptor {
            kind: (*kind).into(),
            summary: format!("{kind} of {name}"),
            config_schema: "{}".into(),
            creator: Creator::Stage(Arc::new(|_, _| Err(StageError::config("not to be built")))),
        };
        PluginDescriptor { name: name.into(), version: "0.1.0".into(), kinds: kinds.iter().map(kind).collect() }
    }

    #[test]
    fn kinds_are_found_by_name() {
        let mut registry = Registry::new();
        let check = |registry: &Registry, name: &str, expected: Result<&str, &str>| {
            let found = registry.find(name).map(|k| k.summary.clone()).map_err(|e| e.to_string());
            assert_eq!(found, expected.map(String::from).map_err(String::from), "{name}");
        };
        check(&registry, "detect", Err(r#"no plugin has a kind "detect" (there are no kinds)"#));
        check(&registry, "models/detect", Err(r#"there is no plugin "models" (there are no plugins)"#));

        registry.link(plugin("models", &["detect", "classify"])).unwrap();
        registry.link(plugin("acme", &["classify"])).unwrap();
        check(&registry, "models/detect", Ok("detect of models"));
        check(&registry, "detect", Ok("detect of models"));
        check(&registry, "acme/classify", Ok("classify of acme"));
        check(
            &registry,
            "classify",
            Err(r#"several plugins have a kind "classify": say which you mean, "models/classify" or "acme/classify""#),
        );
        check(
            &registry,
            "model/detect",
            Err(r#"there is no plugin "model", did you mean "models"? (plugins: models, acme)"#),
        );
        check(
            &registry,
            "models/dtect",
            Err(r#"plugin "models" has no kind "dtect", did you mean "detect"? (kinds: detect, classify)"#),
        );
        check(
            &registry,
            "detec",
            Err(
                r#"no plugin has a kind "detec", did you mean "models/detect"? (kinds: models/detect, models/classify, acme/classify)"#,
            ),
        );
        check(
            &registry,
            "ocr",
            Err(r#"no plugin has a kind "ocr" (kinds: models/detect, models/classify, acme/classify)"#),
        );
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut registry = Registry::new();
        registry.link(plugin("models", &[])).unwrap();
        let error = registry.link(plugin("models", &["detect"])).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::DuplicateName);
        assert_eq!(
            error.to_string(),
            "cannot load plugin models: a plugin called \"models\" is there already (part of this program)"
        );
    }
}
