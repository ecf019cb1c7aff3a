//! Loads plugins and makes native stages of what they offer.
//!
//! A [`Registry`] holds plugins, whether linked into the program ([`Registry::link`]) or loaded from a `.so`
//! ([`Registry::load`]), and finds their kinds by name. What it hands out are plain
//! [`KindDescriptor`](nv_perception::KindDescriptor)s: whoever builds a pipeline of them need not know that plugins exist.
//!
//! ```
//! use nv_perception::PluginDescriptor;
//! use nv_plugin_loader::Registry;
//!
//! let mut registry = Registry::new();
//! registry.link(PluginDescriptor { name: "acme".into(), version: "0.1.0".into(), kinds: vec![] })?;
//!
//! let error = registry.load("/nowhere/libacme.so").unwrap_err();
//! assert_eq!(error.to_string(), "cannot load plugin /nowhere/libacme.so: there is no such file");
//! # Ok::<(), nv_plugin_loader::LoadError>(())
//! ```
//!
//! # What happens before a plugin runs
//! A library can do anything from the moment it is mapped, and a damaged one can end the process. So all that can be asked is
//! asked first, in this order; the first "no" is a [`LoadError`], one sentence that says what and why:
//! 1. The file is read once. Everything below is about these bytes, and these bytes are what is loaded: they go into a private
//!    cache under their own hash, so that a file that is overwritten later does not change a running plugin.
//! 2. It is a shared library for this machine; it ends where its headers say (mapping a truncated one would end the process).
//! 3. Its note (see [`PluginNote`]) says that it is a plugin of this generation of the boundary, for this target, and that it
//!    unwinds on panic.
//! 4. Its hash is what the lock says, if there is a [`PluginLock`].
//! 5. It is mapped, all symbols resolved at once and kept to itself.
//! 6. Its types are laid out as ours: compared type by type, with the older side as the measure, since the newer may have added.
//! 7. It is initialised, and says what it offers.
//!
//! **Invariant:** no plugin is ever unloaded.
#![allow(unsafe_code, reason = "this is the boundary: mapping a library and calling its entry")]

mod batch;
mod cache;
mod elf;
mod error;
mod host_api;
mod layout;
mod library;
mod load;
mod lock;
mod log;
mod note;
mod registry;
mod search;
mod stage;

pub use error::{FindError, LoadError, LoadErrorKind};
pub use load::{LoadedPlugin, Loader, PluginFile};
pub use lock::{PluginLock, Sha256};
pub use note::PluginNote;
pub use registry::{Origin, RegisteredPlugin, Registry};
pub use search::shipped_plugin_dirs;
