//! Files that are not loaded, and what is said of them.

use std::fs;
use std::path::{Path, PathBuf};

use nv_plugin_loader::{LoadErrorKind, PluginLock, Registry, Sha256};

use super::{loader, probe_file};

/// Where the plugin's note has what, from the beginning of its owner's name.
mod note {
    pub(super) const GENERATION: usize = 12;
    pub(super) const ABI_VERSION: usize = 16;
    pub(super) const TARGET: usize = 36;
    pub(super) const PANIC: usize = 100;
    pub(super) const NAME: usize = 108;
    pub(super) const ENTRY: usize = 300;
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Loads `path` and checks that it is refused in one sentence that names it.
fn check(path: &Path, kind: LoadErrorKind, expected: &str) {
    let Err(error) = loader().load(path) else { panic!("{} was loaded", path.display()) };
    let message = error.to_string();
    let reason = message.strip_prefix(&format!("cannot load plugin {}: ", path.display()));
    let reason = reason.unwrap_or_else(|| panic!("the file is not named: {message}"));
    assert_eq!(reason, expected);
    assert_eq!(error.kind(), kind, "{message}");
    assert!(!message.contains('\n') && !message.ends_with('.'), "one sentence: {message}");
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|w| w == needle).expect("the plugin has it")
}

/// The test plugin's bytes with others in place of those at `offset` of its note.
fn with_note(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = fs::read(probe_file()).unwrap();
    let at = find(&file, b"NextVision\0\0") + offset;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// The test plugin's bytes with every `from` made `to`.
fn with_text(from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut file = fs::read(probe_file()).unwrap();
    let mut at = 0;
    while let Some(found) = file[at..].windows(from.len()).position(|w| w == from) {
        file[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    assert!(at > 0, "the plugin has no {:?}", String::from_utf8_lossy(from));
    file
}

#[test]
fn what_is_no_library() {
    let folder = Folder::new();
    check(&folder.0.path().join("gone.so"), LoadErrorKind::NotFound, "there is no such file");
    check(folder.0.path(), LoadErrorKind::NotALibrary, "it is a folder, not a shared library");
    check(&folder.file("e.so", b""), LoadErrorKind::NotALibrary, "it is empty");
    let text = folder.file("t.so", b"[[feed]]\nname = \"gate\"\n");
    check(&text, LoadErrorKind::NotALibrary, "it is a text file, not a shared library");
    let program = std::env::current_exe().unwrap();
    check(&program, LoadErrorKind::NotALibrary, "it is a program, not a shared library");
    if Path::new("/dev/zero").exists() {
        check(Path::new("/dev/zero"), LoadErrorKind::NotALibrary, "it is no regular file");
    }
}

#[test]
fn a_truncated_library_is_not_even_mapped() {
    let (folder, file) = (Folder::new(), fs::read(probe_file()).unwrap());
    let need = file.len();
    for have in [64, 1000, need / 2, need - 1] {
        let path = folder.file("cut.so", &file[..have]);
        let error = loader().load(&path).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Truncated, "{error}");
        let expected = format!("bytes and has {have}");
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
}

#[test]
fn a_library_for_another_machine() {
    let folder = Folder::new();
    let mut file = fs::read(probe_file()).unwrap();
    // s390x: whatever this is, it is not that.
    file[18..20].copy_from_slice(&22u16.to_ne_bytes());
    let expected = format!("it is built for s390x, and this program for {}", std::env::consts::ARCH);
    check(&folder.file("s390.so", &file), LoadErrorKind::OtherTarget, &expected);

    let file = with_note(note::TARGET, b"wasm");
    let error = loader().load(folder.file("w.so", &file)).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::OtherTarget);
    assert!(error.to_string().contains("it is built for the target wasm"), "{error}");
}

#[test]
fn a_library_whose_note_will_not_do() {
    use LoadErrorKind::{Damaged, NotAPlugin, OtherAbi, PanicAbort};
    let folder = Folder::new();
    let check = |offset, bytes: &[u8], kind, expected: &str| {
        check(&folder.file("note.so", &with_note(offset, bytes)), kind, expected);
    };
    check(
        0,
        b"OtherVision",
        NotAPlugin,
        "it is a shared library, but no NextVision plugin (it has no plugin note; plugins are made with export_plugin! of \
         nv-plugin-sdk)",
    );
    check(
        note::GENERATION,
        &2u32.to_ne_bytes(),
        OtherAbi,
        "it is built for generation 2 of the plugin boundary, and this program speaks generation 1: the program must be \
         brought up to date",
    );
    check(
        note::GENERATION,
        &0u32.to_ne_bytes(),
        OtherAbi,
        "it is built for generation 0 of the plugin boundary, and this program speaks generation 1: the plugin must be \
         brought up to date",
    );
    check(
        note::ABI_VERSION,
        b"2.3.4\0",
        OtherAbi,
        &format!(
            "it is built for version 2.3.4 of the plugin boundary, and this program speaks {}",
            nv_plugin_abi::VERSION
        ),
    );
    check(
        note::PANIC,
        b"abort\0\0",
        PanicAbort,
        "it is compiled with panic = \"abort\", so that a panic in it would end this program: it must be compiled with \
         panic = \"unwind\"",
    );
    check(note::NAME, &[0xff, 0xfe], Damaged, "it is damaged: the plugin note's name is no text");
}

#[test]
fn a_library_that_the_system_cannot_link() {
    let folder = Folder::new();
    let missing = folder.file("missing.so", &with_text(b"\0memcpy\0", b"\0memcpX\0"));
    let error = loader().load(&missing).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Link);
    let message = error.to_string();
    assert!(message.contains("the system can't link it: undefined symbol: memcpX"), "{message}");
    assert_eq!(message.lines().count(), 1);

    let elsewhere = folder.file("entry.so", &with_note(note::ENTRY, b"nowhere\0"));
    let error = loader().load(&elsewhere).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Link);
    assert!(error.to_string().ends_with(r#"its note names the entry "nowhere", which it does not export"#), "{error}");
}

#[test]
fn a_library_whose_types_are_not_ours() {
    let folder = Folder::new();
    // The description of a type, not the type: that is what is compared.
    let renamed = folder.file("renamed.so", &with_text(b"received_ns", b"received_ms"));
    let error = loader().load(&renamed).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::OtherAbi);
    let message = error.to_string();
    let version = nv_plugin_abi::VERSION;
    let expected = format!(
        "its types are laid out otherwise than this program's (boundary {version} in the plugin, {version} here): at create_"
    );
    assert!(message.contains(&expected), "{message}");
    assert!(message.ends_with("field received_ns expected, received_ms found"), "{message}");

    let other = folder.file("header.so", &with_text(b"abi stable library", b"abi stably library"));
    let error = loader().load(&other).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::OtherAbi, "{error}");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

#[test]
fn the_lock_decides() {
    let file = loader().inspect(probe_file()).unwrap();
    let lock = |name: &str, hash| PluginLock { plugins: [(name.into(), hash)].into() };
    loader().with_lock(lock("test-plugin", file.sha256)).load(probe_file()).unwrap();

    let other = Sha256::of(b"another file");
    let error = loader().with_lock(lock("test-plugin", other)).load(probe_file()).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Lock);
    assert!(
        error.to_string().ends_with(&format!("its SHA-256 is {}, and the lock says {other}", file.sha256)),
        "{error}"
    );
    let error = loader().with_lock(lock("track", file.sha256)).load(probe_file()).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Lock);
    assert!(error.to_string().ends_with("the lock does not list a plugin \"test-plugin\""), "{error}");
}

#[test]
fn a_name_that_is_taken() {
    let mut registry = Registry::with_loader(loader());
    registry.load(probe_file()).unwrap();
    let error = registry.load(probe_file()).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::DuplicateName);
    let first = probe_file().display().to_string();
    assert!(
        error.to_string().ends_with(&format!("a plugin called \"test-plugin\" is there already ({first})")),
        "{error}"
    );
}
