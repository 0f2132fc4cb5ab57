//! Finds the library and its headers. Ceph has no pkg-config files.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::INSTALL;

/// The library's name for the linker, and the file that a runtime package installs.
const LIBRARIES: [(&str, &str); 2] = [("rbd", "librbd.so.1"), ("rados", "librados.so.2")];

pub(crate) type Version = (u32, u32, u32);

/// Both libraries, in one directory.
pub(crate) struct Library {
    pub(crate) dir: PathBuf,
    /// Values for `rustc-link-lib`.
    pub(crate) links: Vec<String>,
    /// Whether the linker searches this directory by default.
    pub(crate) searched_by_linker: bool,
}

impl Library {
    /// Returns the libraries in `dir`: of the development packages, otherwise of the runtime
    /// packages, linked by file name.
    fn in_dir(dir: &Path) -> Option<Self> {
        let all = |names: [String; 2]| names.iter().all(|name| dir.join(name).exists());
        let links = if all(LIBRARIES.map(|(name, _)| format!("lib{name}.so"))) {
            LIBRARIES.map(|(name, _)| format!("dylib={name}"))
        } else if all(LIBRARIES.map(|(_, file)| file.to_owned())) {
            LIBRARIES.map(|(_, file)| format!("dylib:+verbatim={file}"))
        } else {
            return None;
        };
        Some(Self { dir: dir.to_owned(), links: links.to_vec(), searched_by_linker: false })
    }

    /// Returns the version in the name of the file to which `librbd.so.1` points,
    /// `librbd.so.1.16.0`.
    pub(crate) fn version(&self) -> Option<Version> {
        let file = fs::canonicalize(self.dir.join(LIBRARIES[0].1)).ok()?;
        let version = file.file_name()?.to_str()?.strip_prefix("librbd.so.")?;
        let mut parts = version.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??, parts.next()??))
    }
}

/// Finds the library in `LIBRBD_LIB_DIR` if it is set, otherwise in the directories of the linker
/// and of common systems.
pub(crate) fn library() -> Result<Library, String> {
    if let Some(dir) = directory("LIBRBD_LIB_DIR")? {
        return Library::in_dir(&dir).ok_or_else(|| {
            format!("LIBRBD_LIB_DIR={} does not hold librbd.so and librados.so; {INSTALL}", dir.display())
        });
    }
    let linker = linker_directories();
    let found = linker.iter().find_map(|dir| Library::in_dir(dir));
    if let Some(library) = found {
        return Ok(Library { searched_by_linker: true, ..library });
    }
    let mut usual = usual_directories("lib");
    usual.retain(|dir| !linker.contains(dir));
    usual.iter().find_map(|dir| Library::in_dir(dir)).ok_or_else(|| {
        let searched: Vec<_> = linker.iter().chain(&usual).map(|dir| dir.to_string_lossy()).collect();
        format!(
            "librbd and librados are not in any of [{}]; {INSTALL}, or set LIBRBD_LIB_DIR",
            searched.join(", ")
        )
    })
}

/// Returns the directory of `rbd/librbd.h`, if there is one. The bindings do not need it.
pub(crate) fn include(library: &Library) -> Result<Option<PathBuf>, String> {
    let has_header =
        |dir: &PathBuf| dir.join("rbd/librbd.h").is_file() && dir.join("rados/librados.h").is_file();
    if let Some(dir) = directory("LIBRBD_INCLUDE_DIR")? {
        if !has_header(&dir) {
            let dir = dir.display();
            return Err(format!(
                "LIBRBD_INCLUDE_DIR={dir} does not hold rbd/librbd.h and rados/librados.h; {INSTALL}"
            ));
        }
        return Ok(Some(dir));
    }
    // Next to the library: PREFIX/lib, PREFIX/lib/x86_64-linux-gnu.
    let beside = library.dir.ancestors().skip(1).take(2).map(|dir| dir.join("include"));
    if let Some(dir) = beside.into_iter().find(has_header) {
        return Ok(Some(dir));
    }
    // The system's headers do not describe a library in another place.
    let system =
        if env::var_os("LIBRBD_LIB_DIR").is_some() { Vec::new() } else { usual_directories("include") };
    Ok(system.into_iter().find(has_header))
}

/// Returns the version that `rbd/librbd.h` defines.
pub(crate) fn header_version(include: &Path) -> Result<Version, String> {
    let path = include.join("rbd/librbd.h");
    let text =
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let value = |name: &str| {
        let mut definitions = text.lines().map(str::split_whitespace);
        definitions.find_map(|mut words| {
            (words.next() == Some("#define") && words.next() == Some(name))
                .then(|| words.next()?.parse().ok())?
        })
    };
    value("LIBRBD_VER_MAJOR")
        .zip(value("LIBRBD_VER_MINOR"))
        .zip(value("LIBRBD_VER_EXTRA"))
        .map(|((major, minor), extra)| (major, minor, extra))
        .ok_or_else(|| format!("{} defines no LIBRBD_VER_MAJOR, _MINOR and _EXTRA", path.display()))
}

/// Reads an environment variable that names a directory.
fn directory(variable: &str) -> Result<Option<PathBuf>, String> {
    match env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
        Some(dir) if !dir.is_dir() => Err(format!("{variable}={} is not a directory", dir.display())),
        dir => Ok(dir),
    }
}

/// Returns the default directories of the linker, from the compiler with which rustc links. Without
/// a configured linker, only that of this machine is known.
fn linker_directories() -> Vec<PathBuf> {
    let linker = env::var_os("RUSTC_LINKER").or_else(|| native().then(|| "cc".into()));
    let output = linker.and_then(|linker| Command::new(linker).arg("-print-search-dirs").output().ok());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let searched = text.lines().find_map(|line| line.strip_prefix("libraries: =")).unwrap_or_default();
    let asked_for = env::var_os("LIBRARY_PATH").unwrap_or_default();
    let mut dirs = Vec::new();
    for dir in env::split_paths(&asked_for).chain(env::split_paths(searched)) {
        // Most directories that compilers print do not exist or are printed twice.
        if let Some(dir) = fs::canonicalize(dir).ok().filter(|dir| !dirs.contains(dir)) {
            dirs.push(dir);
        }
    }
    dirs
}

/// Returns whether the target is this machine.
fn native() -> bool {
    env::var_os("TARGET") == env::var_os("HOST")
}

/// Returns the `lib` and `include` directories of common systems: Debian has one per architecture,
/// Fedora has lib64. For another target, only /usr/include of this machine is valid.
fn usual_directories(kind: &str) -> Vec<PathBuf> {
    let target = env::var("TARGET").unwrap_or_default();
    // x86_64-unknown-linux-gnu is x86_64-linux-gnu in Debian, riscv64gc-… riscv64-….
    let architecture = target.split('-').next().unwrap_or_default().trim_end_matches("gc");
    let abi = target.splitn(3, '-').nth(2).unwrap_or_default();
    let multiarch = format!("{architecture}-{abi}");
    let mut dirs = vec![format!("/usr/{kind}/{multiarch}"), format!("/usr/{multiarch}/{kind}")];
    if native() && kind == "lib" {
        dirs.extend(["/usr/local/lib", "/usr/local/lib64", "/usr/lib64", "/usr/lib"].map(str::to_owned));
    } else if kind == "include" {
        dirs.extend(["/usr/local/include", "/usr/include"].map(str::to_owned));
    }
    dirs.into_iter().map(PathBuf::from).filter(|dir| dir.is_dir()).collect()
}
