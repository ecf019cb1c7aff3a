use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::lock::Sha256;

/// A private folder of libraries, each under its hash. Loading from it, a plugin runs the bytes that were checked, and goes on
/// running them when the file that it came from is overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    dir: PathBuf,
}

/// More files than this are not kept: the oldest go. A file that is mapped stays mapped when it is removed.
const KEEP: usize = 32;

impl Cache {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where caches may be, best first: the user's cache folder, then the system's temporary one.
    pub(crate) fn standard() -> Vec<Self> {
        let user = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let user = user.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
        let temporary = std::env::temp_dir().join(format!("nextvision-{}", user_id()));
        let dirs = user.map(|dir| dir.join("nextvision")).into_iter().chain([temporary]);
        dirs.map(|dir| Self::new(dir.join("plugins"))).collect()
    }

    /// The path of a file with just these bytes, which is put there if need be.
    pub(crate) fn put(&self, sha256: Sha256, bytes: &[u8]) -> io::Result<PathBuf> {
        self.open_dir()?;
        let path = self.dir.join(format!("{sha256}.so"));
        if holds(&path, bytes) {
            // Marks it as used lately; of no consequence if that is not possible.
            let _ = File::options().append(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
            return Ok(path);
        }
        // Whole or not at all, also beside another process that does the same: written under a name of its own, then renamed.
        let nonce = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let partial = self.dir.join(format!("{sha256}.{}-{nonce}.partial", std::process::id()));
        let written = write_new(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        self.prune(&path);
        Ok(path)
    }

    /// Makes the folder if need be, and sees that nobody else can write to it.
    fn open_dir(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.dir)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let found = fs::symlink_metadata(&self.dir)?;
            if !found.is_dir() || found.mode() & 0o022 != 0 || found.uid() != user_id() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{} belongs to somebody else, or others may write to it", self.dir.display()),
                ));
            }
        }
        Ok(())
    }

    /// Removes all but the newest files. Best effort: another process may be at it too.
    fn prune(&self, just_put: &Path) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "so") && path != just_put)
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(KEEP - 1) {
            let _ = fs::remove_file(path);
        }
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o500);
    options.open(path)?.write_all(bytes)
}

/// Whether the file is there and has these bytes: a full disk or a flipped bit must not be believed because of a name.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    if !file.metadata().is_ok_and(|m| m.is_file() && m.len() == bytes.len() as u64) {
        return false;
    }
    let mut chunk = vec![0; 1 << 18];
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = chunk.len().min(rest.len());
        let (expected, tail) = rest.split_at(n);
        if file.read_exact(&mut chunk[..n]).is_err() || chunk[..n] != *expected {
            return false;
        }
        rest = tail;
    }
    true
}

/// The user that this process runs as.
#[cfg(target_os = "linux")]
fn user_id() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    // A process's folder in /proc belongs to its user. Without /proc no folder is found to be ours, and no cache is used.
    fs::metadata("/proc/self").map_or(u32::MAX, |m| m.uid())
}

#[cfg(not(target_os = "linux"))]
fn user_id() -> u32 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        std::env::home_dir().and_then(|home| fs::metadata(home).ok()).map_or(u32::MAX, |m| m.uid())
    }
    #[cfg(not(unix))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_file_is_put_once_and_repaired_if_damaged() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().join("a/b"));
        let bytes = vec![7; 300_000];
        let hash = Sha256::of(&bytes);
        let path = cache.put(hash, &bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(cache.put(hash, &bytes).unwrap(), path);

        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes[1..]).unwrap();
        cache.put(hash, &bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(files(path.parent().unwrap()), 1, "nothing is left over");
    }

    #[test]
    fn the_cache_keeps_the_newest() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().into());
        make_private(root.path());
        let first = cache.put(Sha256::of(b"first"), b"first").unwrap();
        File::options().read(true).open(&first).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        for i in 0..KEEP as u32 {
            let bytes = i.to_ne_bytes();
            let path = cache.put(Sha256::of(&bytes), &bytes).unwrap();
            assert!(path.exists());
        }
        assert_eq!(files(root.path()), KEEP);
        assert!(!first.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Cache::new(root.path().into()).put(Sha256::of(b""), b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    fn make_private(dir: &Path) {
        #[cfg(unix)]
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
}
