use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use nv_perception::{BatchProcessor, Creator, KindDescriptor, PluginDescriptor, Stage};
use nv_plugin_abi::{KindInfo, KindRole, PluginModule_Ref};
use tracing::{debug, warn};

use crate::batch::PluginBatch;
use crate::cache::Cache;
use crate::error::{LoadError, Reason};
use crate::library::{OpenError, open};
use crate::lock::{PluginLock, Sha256};
use crate::note::PluginNote;
use crate::stage::PluginStage;
use crate::{elf, host_api};

/// Loads plugins from files. See the crate's documentation for what is checked, and in what order.
#[derive(Clone, Debug)]
pub struct Loader {
    caches: Vec<Cache>,
    lock: Option<PluginLock>,
}

/// A file that may be loaded, as far as can be told without loading it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// Who it says it is.
    pub note: PluginNote,
}

/// A plugin that was loaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedPlugin {
    /// What it offers.
    pub descriptor: PluginDescriptor,
    /// The file that it came from.
    pub file: PluginFile,
    /// The crate's authors, as Cargo gives them; may be empty.
    pub authors: String,
    /// The crate's licence, as Cargo gives it; may be empty.
    pub license: String,
    /// The version of the SDK that it was built with.
    pub sdk_version: String,
}

/// A file and its content.
pub(crate) struct CheckedFile {
    pub(crate) file: PluginFile,
    content: Vec<u8>,
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

/// No plugin is so large; a disk image at the end of a mistyped path is.
const LARGEST: u64 = 1 << 30;

impl Loader {
    /// A loader that keeps its copies in the user's cache folder (`$XDG_CACHE_HOME/nextvision/plugins`, else in `~/.cache`),
    /// or, where that is not possible, in the system's temporary one.
    pub fn new() -> Self {
        Self { caches: Cache::standard(), lock: None }
    }

    /// The same loader, keeping its copies in `dir`, which must be the user's own.
    #[must_use]
    pub fn with_cache_dir(self, dir: impl Into<PathBuf>) -> Self {
        Self { caches: vec![Cache::new(dir.into())], ..self }
    }

    /// The same loader, which loads only what `lock` lists.
    #[must_use]
    pub fn with_lock(self, lock: PluginLock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// Checks a file without running any of it.
    ///
    /// # Errors
    /// Why it would not be loaded.
    pub fn inspect(&self, path: impl AsRef<Path>) -> Result<PluginFile, LoadError> {
        self.check(path.as_ref()).map(|checked| checked.file)
    }

    /// Loads a file. Loading the same bytes again gives the same plugin again.
    ///
    /// # Errors
    /// Why it was not loaded.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<LoadedPlugin, LoadError> {
        self.load_checked(self.check(path.as_ref())?)
    }

    /// All that is asked before any of the file runs.
    pub(crate) fn check(&self, path: &Path) -> Result<CheckedFile, LoadError> {
        self.try_check(path).map_err(|reason| LoadError::new(path, reason))
    }

    /// Loads what has been checked.
    pub(crate) fn load_checked(&self, checked: CheckedFile) -> Result<LoadedPlugin, LoadError> {
        let path = checked.file.path.clone();
        let module = self.open(&checked).map_err(|reason| LoadError::new(&path, reason))?;
        let plugin = describe(module, checked.file).map_err(|reason| LoadError::new(&path, reason))?;
        debug!(plugin = %plugin.file.note, path = %path.display(), sha256 = %plugin.file.sha256, "plugin loaded");
        Ok(plugin)
    }

    fn try_check(&self, path: &Path) -> Result<CheckedFile, Reason> {
        let content = read(path)?;
        let note = choose(elf::plugin_notes(&content)?, path)?;
        note.check()?;
        let sha256 = Sha256::of(&content);
        if let Some(lock) = &self.lock {
            lock.check(&note.name, sha256)?;
        }
        let bytes = content.len() as u64;
        Ok(CheckedFile { file: PluginFile { path: path.into(), bytes, sha256, note }, content })
    }

    /// Maps the checked bytes from the first cache where that is possible, or else the file itself.
    fn open(&self, CheckedFile { file, content }: &CheckedFile) -> Result<PluginModule_Ref, Reason> {
        for cache in &self.caches {
            let cached = match cache.put(file.sha256, content) {
                Ok(cached) => cached,
                Err(error) => {
                    debug!(?cache, %error, "no copy of the plugin could be made there");
                    continue;
                }
            };
            match open(&cached, &file.note.entry) {
                Ok(module) => return Ok(module),
                Err(OpenError::Refused(reason)) => return Err(reason),
                Err(OpenError::NotMappable(error)) => {
                    debug!(?cache, error, "the plugin's copy can't be run from there");
                }
            }
        }
        debug!(path = %file.path.display(), "loading the plugin's file itself: it must not be overwritten while in use");
        // A name without a slash would be looked for in the system's folders.
        let path = std::path::absolute(&file.path).map_err(Reason::Unreadable)?;
        open(&path, &file.note.entry).map_err(|e| match e {
            OpenError::Refused(reason) => reason,
            OpenError::NotMappable(error) => Reason::Link(error),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Reason> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Reason::NotFound,
        _ => Reason::Unreadable(e),
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Reason::Directory);
    }
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(Reason::Special);
    }
    let bytes = metadata.len();
    if bytes > LARGEST {
        return Err(Reason::TooLarge { bytes, limit: LARGEST });
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut content)).map_err(unreadable)?;
    Ok(content)
}

/// A library that links another plugin's crate carries that plugin's note too. Its own is the one that it is called after:
/// `libacme_colour.so` of package `acme-colour`.
fn choose(mut notes: Vec<PluginNote>, path: &Path) -> Result<PluginNote, Reason> {
    match notes.len() {
        0 => return Err(Reason::NoNote),
        1 => return Ok(notes.remove(0)),
        _ => {}
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let called = |note: &PluginNote| stem.trim_start_matches("lib") == note.package.replace('-', "_");
    match notes.iter().position(called) {
        Some(own) => Ok(notes.swap_remove(own)),
        None => {
            let names = notes.iter().map(|note| note.name.as_str()).collect::<Vec<_>>().join(", ");
            Err(Reason::SeveralNotes { names })
        }
    }
}

/// Initialises a plugin and asks what it offers.
fn describe(module: PluginModule_Ref, file: PluginFile) -> Result<LoadedPlugin, Reason> {
    let init = |e: nv_plugin_abi::StageError| Reason::Init(e.message.into_string());
    module.init()(host_api::host_api()).into_result().map_err(init)?;
    let info = module.info()().into_result().map_err(init)?;
    let name = info.name.into_string();
    let kinds = info.kinds.into_iter().filter_map(|kind| kind_descriptor(module, &name, kind)).collect();
    Ok(LoadedPlugin {
        descriptor: PluginDescriptor { name, version: info.version.into_string(), kinds },
        file,
        authors: info.authors.into_string(),
        license: info.license.into_string(),
        sdk_version: info.sdk_version.into_string(),
    })
}

fn kind_descriptor(module: PluginModule_Ref, plugin: &str, kind: KindInfo) -> Option<KindDescriptor> {
    let name = kind.kind.into_string();
    let label = format!("{plugin}/{name}");
    let creator = match kind.role {
        KindRole::STAGE => {
            let name = name.clone();
            Creator::Stage(std::sync::Arc::new(move |config, context| {
                let stage = PluginStage::create(module, &label, &name, config, context)?;
                Ok(Box::new(stage) as Box<dyn Stage>)
            }))
        }
        KindRole::BATCH => {
            let name = name.clone();
            Creator::Batch(std::sync::Arc::new(move |config, context| {
                let processor = PluginBatch::create(module, &label, &name, config, context)?;
                Ok(Box::new(processor) as Box<dyn BatchProcessor>)
            }))
        }
        KindRole(role) => {
            warn!(kind = label, role, "a plugin's kind is of a role that this program does not know: left out");
            return None;
        }
    };
    Some(KindDescriptor {
        kind: name,
        summary: kind.summary.into_string(),
        config_schema: kind.config_schema.into_string(),
        creator,
    })
}

#[cfg(test)]
mod tests;
