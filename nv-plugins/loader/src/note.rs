use std::fmt;

use nv_plugin_abi as abi;

use crate::error::Reason;

/// Who a library says it is, in the note that is read without loading it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginNote {
    /// The plugin's name, as config uses it.
    pub name: String,
    /// The crate's name.
    pub package: String,
    /// The crate's version.
    pub version: String,
    /// The generation of the plugin boundary.
    pub generation: u32,
    /// The version of the plugin boundary within the generation.
    pub abi_version: String,
    /// The target triple that it was compiled for.
    pub target: String,
    /// What happens in it on a panic.
    pub panic: String,
    /// The compiler that compiled it. Information, not a criterion.
    pub rustc: String,
    /// The symbol of its entry.
    pub entry: String,
}

/// What this program is compiled for.
const HOST_TARGET: &str = env!("NV_LOADER_TARGET");

impl PluginNote {
    /// Reads the description of an ELF note.
    pub(crate) fn parse(description: &[u8]) -> Result<Self, Reason> {
        let note = abi::Note::from_description(description)
            .ok_or_else(|| Reason::Damaged(format!("its plugin note has only {} bytes", description.len())))?;
        let text = |text: Option<&str>, field: &str| {
            let text = text.filter(|t| !t.is_empty() && !t.contains(char::is_control));
            text.map(String::from).ok_or_else(|| Reason::Damaged(format!("the plugin note's {field} is no text")))
        };
        Ok(Self {
            name: text(note.name(), "name")?,
            package: text(note.package(), "package")?,
            version: text(note.version(), "version")?,
            generation: note.generation(),
            abi_version: text(note.abi_version(), "version of the boundary")?,
            target: text(note.target(), "target")?,
            panic: text(note.panic(), "panic strategy")?,
            rustc: text(note.rustc(), "compiler")?,
            entry: text(note.entry(), "entry")?,
        })
    }

    /// Whether this program may load such a plugin, as far as the note tells.
    pub(crate) fn check(&self) -> Result<(), Reason> {
        if self.generation != abi::GENERATION {
            return Err(Reason::Generation { library: self.generation, host: abi::GENERATION });
        }
        // Within a major version either side may be newer: the layout check tells whether it only added.
        if major(&self.abi_version) != major(abi::VERSION) {
            return Err(Reason::AbiVersion { library: self.abi_version.clone(), host: abi::VERSION });
        }
        if self.target != HOST_TARGET {
            return Err(Reason::Target { library: self.target.clone(), host: HOST_TARGET });
        }
        if self.panic != abi::PanicStrategy::Unwind.as_str() {
            return Err(Reason::Panic(self.panic.clone()));
        }
        Ok(())
    }
}

impl fmt::Display for PluginNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

fn major(version: &str) -> Option<u64> {
    version.split('.').next()?.parse().ok()
}
