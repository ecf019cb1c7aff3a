//! Compiled pipelines, kept from one run to the next in the user's cache folder.
//!
//! wgpu can keep them on Vulkan alone. Drivers keep some themselves: Mesa does so in `$HOME/.cache/mesa_shader_cache`, or
//! where `MESA_SHADER_CACHE_DIR` says, and needs one of the two to be writable; its software driver, lavapipe, keeps
//! everything there and gives wgpu nothing.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::{fs, process};

use sha2::{Digest as _, Sha256};

/// A driver's compiled pipelines, and the file that they come from and go to.
///
/// A file that is missing, damaged, of another driver or of another version of ours is as good as none. Several processes
/// may use the same file: the last to write wins, and none ever sees half of it.
#[derive(Debug)]
pub(crate) struct CacheFile {
    pipelines: wgpu::PipelineCache,
    place: Option<Place>,
    /// SHA-256 of what the file holds, as far as we know.
    written: Mutex<Option<[u8; 32]>>,
}

/// The file, and what its content is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    /// Adapter, driver and our version: what was compiled for others is of no use.
    key: String,
}

/// Larger files are neither written nor read. The pipelines of a model take some hundreds of kilobytes.
const MAX_BYTES: usize = 64 << 20;

/// What a file begins with.
const MAGIC: [u8; 8] = *b"NVPIPE1\n";

impl CacheFile {
    /// The pipelines that are kept for this adapter; `None` where wgpu can't keep any.
    pub(crate) fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let place = folder(|name| std::env::var_os(name)).and_then(|folder| Place::new(&folder, info));
        let data = place.as_ref().and_then(Place::read);
        let written = data.as_deref().map(digest);
        Some(Self { pipelines: create(device, data.as_deref()), place, written: Mutex::new(written) })
    }

    /// What new pipelines are compiled with.
    pub(crate) fn pipelines(&self) -> &wgpu::PipelineCache {
        &self.pipelines
    }

    /// Writes what was compiled since, if anything was. To be called when a model's kernels are all compiled.
    ///
    /// # Errors
    /// Where the folder can't be written. Nothing depends on it but the time that the next start takes.
    pub(crate) fn save(&self) -> io::Result<()> {
        let (Some(place), Some(data)) = (&self.place, self.pipelines.get_data()) else { return Ok(()) };
        let now = digest(&data);
        // Held while writing, so that of two sessions that end their warm-up at once the later one's state remains.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written != Some(now) && data.len() <= MAX_BYTES {
            place.write(&data)?;
            *written = Some(now);
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "wgpu can't know where the bytes of a pipeline cache come from")]
fn create(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let descriptor = wgpu::PipelineCacheDescriptor { label: None, data, fallback: true };
    // SAFETY: the bytes must be what `get_data` gave. `Place::read` gives only bytes whose digest says that `Place::write`
    // wrote them, which wrote what `get_data` gave, on the same adapter and driver; and only from a file that no other user
    // can write. wgpu and the driver check their own headers besides.
    unsafe { device.create_pipeline_cache(&descriptor) }
}

impl Place {
    fn new(folder: &Path, info: &wgpu::AdapterInfo) -> Option<Self> {
        let adapter = wgpu::util::pipeline_cache_key(info)?;
        let version = env!("CARGO_PKG_VERSION");
        let path = folder.join(format!("{adapter}.bin"));
        let key = [version, &adapter, &info.name, &info.driver, &info.driver_info].join("\n");
        Some(Self { path, key })
    }

    /// The pipelines in the file, where it is whole, of the same key, and nobody else's to write.
    fn read(&self) -> Option<Vec<u8>> {
        let file = fs::File::open(&self.path).ok()?;
        if !is_private(&file.metadata().ok()?) {
            return None;
        }
        let header = MAGIC.len() + 32;
        let mut content = Vec::new();
        file.take((header + MAX_BYTES + 1) as u64).read_to_end(&mut content).ok()?;
        let (magic, rest) = content.split_first_chunk::<{ MAGIC.len() }>()?;
        let (seal, data) = rest.split_first_chunk::<32>()?;
        let whole = *magic == MAGIC && data.len() <= MAX_BYTES && *seal == self.seal(data);
        whole.then(|| data.to_vec())
    }

    /// Puts the file in place as a whole.
    fn write(&self, data: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        create_private_folder(folder)?;
        let content = [&MAGIC[..], &self.seal(data), data].concat();
        let part = self.path.with_extension(format!("{}.part", process::id()));
        write_private(&part, &content).and_then(|()| fs::rename(&part, &self.path)).inspect_err(|_| {
            // There may be none.
            let _ = fs::remove_file(&part);
        })
    }

    /// What ties the data to the key: SHA-256 of both.
    fn seal(&self, data: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.key.len() as u64).to_le_bytes());
        hash.update(&self.key);
        hash.update(data);
        hash.finalize().into()
    }
}

fn digest(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// The folder for our files: below `XDG_CACHE_HOME`, else `HOME/.cache`, on Windows `LOCALAPPDATA`. `None` where the
/// environment has none of them.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(windows) {
        path("LOCALAPPDATA")
    } else {
        path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("nextvision").join("pipelines"))
}

#[cfg(unix)]
fn create_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(unix)]
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}

#[cfg(not(unix))]
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)
}

/// Whether nobody but its owner may write the file.
#[cfg(unix)]
fn is_private(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o022 == 0
}

#[cfg(not(unix))]
fn is_private(_: &fs::Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path) -> Place {
        Place { path: folder.join("a/b/gpu.bin"), key: "0.1.0\ngpu\ndriver 1".into() }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        assert_eq!(place.read(), None);
        for data in [&[][..], b"pipelines", b"more"] {
            place.write(data).unwrap();
            assert_eq!(place.read().as_deref(), Some(data));
        }
        let left: Vec<_> = fs::read_dir(place.path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no part is left: {left:?}");
    }

    #[test]
    fn damage_and_strangers_are_as_good_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        place.write(b"pipelines").unwrap();
        let whole = fs::read(&place.path).unwrap();
        for n in 0..whole.len() {
            fs::write(&place.path, &whole[..n]).unwrap();
            assert_eq!(place.read(), None, "cut to {n}");
            let mut changed = whole.clone();
            changed[n] ^= 1;
            fs::write(&place.path, &changed).unwrap();
            assert_eq!(place.read(), None, "changed at {n}");
        }
        fs::write(&place.path, &whole).unwrap();
        assert_eq!(Place { key: "0.1.0\ngpu\ndriver 2".into(), ..place.clone() }.read(), None);
        assert_eq!(place.read().as_deref(), Some(&b"pipelines"[..]));

        let file = fs::File::create(&place.path).unwrap();
        file.set_len(4 * MAX_BYTES as u64).unwrap();
        assert_eq!(place.read(), None, "a large file is not even read");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_write_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        place.write(b"pipelines").unwrap();
        let mode = |mode| fs::set_permissions(&place.path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o666);
        assert_eq!(place.read(), None);
        mode(0o644);
        assert!(place.read().is_some());
    }

    #[cfg(not(windows))]
    #[test]
    fn the_folder_is_the_user_s_cache() {
        fn check(set: &[(&str, &str)], expected: Option<&str>) {
            let found = folder(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()));
            assert_eq!(found.as_deref(), expected.map(Path::new), "{set:?}");
        }
        check(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/c")], Some("/c/nextvision/pipelines"));
        check(&[("HOME", "/u")], Some("/u/.cache/nextvision/pipelines"));
        check(&[("HOME", "/u"), ("XDG_CACHE_HOME", "relative")], Some("/u/.cache/nextvision/pipelines"));
        check(&[("HOME", "/u"), ("XDG_CACHE_HOME", "")], Some("/u/.cache/nextvision/pipelines"));
        check(&[], None);
    }

    #[test]
    fn a_driver_takes_its_pipelines_back() {
        let Some(context) = crate::gpu::testing::context("a_driver_takes_its_pipelines_back") else { return };
        let Some(cache) = context.cache() else { return };
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path(), &context.device().adapter_info()).unwrap();
        let data = cache.pipelines().get_data().expect("a cache of this device");
        place.write(&data).unwrap();
        let again = context.scoped("a pipeline cache", || create(context.device(), place.read().as_deref())).unwrap();
        assert!(again.get_data().is_some_and(|again| again.len() >= data.len()));
    }
}
