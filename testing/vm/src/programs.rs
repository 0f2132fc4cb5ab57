//! Programs for the guest, with the libraries that they need.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};
use crate::host;
use crate::tree::Tree;

/// A file of the host to run or load in the guest.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// A path, or a name to search in `PATH`.
    pub(crate) host: PathBuf,
    /// Its path in the guest. By default, a path of the system is kept, and other files go to
    /// `/usr/local/bin`.
    pub(crate) guest: Option<PathBuf>,
}

/// Adds the programs, and all libraries that the dynamic loader would load for them, at the host's
/// paths.
///
/// Libraries that a program loads at run time are not found. The clients of Ceph 16.2 load none for
/// images (traced, in crc and secure mode).
pub(crate) fn add(tree: &mut Tree, programs: &[Program]) -> Result<()> {
    let mut found = Vec::new();
    for program in programs {
        let path = locate(&program.host)?;
        let guest = program.guest.clone().unwrap_or_else(|| place(&path));
        let mode =
            fs::metadata(&path).context(|| format!("cannot read {}", path.display()))?.permissions().mode();
        tree.copy(guest, &path, mode & 0o777);
        found.push(path);
    }
    for library in libraries(&found)? {
        // The loader searches a library by the name with which it was linked, which is often a
        // symbolic link on the host.
        tree.copy(&library, &library, 0o755);
    }
    Ok(())
}

fn locate(program: &Path) -> Result<PathBuf> {
    let unpackable = |reason: &str| Error::Unpackable { path: program.to_owned(), reason: reason.to_owned() };
    match program.to_str() {
        Some(name) if !name.contains('/') => host::find(name).ok_or_else(|| unpackable("it is not in PATH")),
        _ if program.is_file() => std::path::absolute(program).context(|| "no current directory".to_owned()),
        _ => Err(unpackable("there is no such file")),
    }
}

fn place(host: &Path) -> PathBuf {
    let system = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];
    if system.iter().any(|root| host.starts_with(root)) {
        return host.to_owned();
    }
    Path::new("/usr/local/bin").join(host.file_name().unwrap_or(OsStr::new("program")))
}

fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    if programs.is_empty() {
        return Ok(BTreeSet::new());
    }
    // The exit status depends on the last file: static programs and scripts have no libraries.
    let output = host::finish(host::command("ldd").args(programs))?;
    parse(&String::from_utf8_lossy(&output.stdout), &programs[0])
}

/// Parses ldd's output. It belongs to the program `first` until a headline names another.
fn parse(answer: &str, first: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    let mut program = first.to_owned();
    for line in answer.lines() {
        if let Some(headline) = line.strip_suffix(':').filter(|_| !line.starts_with(char::is_whitespace)) {
            program = headline.into();
        }
        if line.trim_end().ends_with("=> not found") {
            let name = line.split_whitespace().next().unwrap_or_default();
            return Err(Error::Unpackable {
                path: program,
                reason: format!("its library {name} is not found"),
            });
        }
        // `name => path (address)`, or `path (address)` for the loader itself; the kernel's vdso
        // has no path.
        let file = line.split_once(" => ").map_or(line, |(_, path)| path).trim();
        if let Some((path, _)) = file.split_once(" (0x").filter(|(path, _)| path.starts_with('/')) {
            libraries.insert(path.into());
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_loaders_answer() {
        let answer = "/usr/bin/a:\n\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f01)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n/usr/bin/s:\n\tnot a dynamic executable\n";
        let libraries = parse(answer, Path::new("/usr/bin/a")).unwrap();
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries, expected.map(PathBuf::from).into());
    }

    #[test]
    fn a_library_that_is_nowhere_is_named() {
        let answer = "/a:\n\tlibc.so.6 => /lib/libc.so.6 (0x01)\n/b:\n\tlibgone.so.1 => not found\n";
        let text = parse(answer, Path::new("/a")).unwrap_err().to_string();
        assert_eq!(text, "/b cannot be put into the guest: its library libgone.so.1 is not found");
    }

    #[test]
    fn a_program_of_the_system_keeps_its_place() {
        assert_eq!(place(Path::new("/usr/sbin/mke2fs")), Path::new("/usr/sbin/mke2fs"));
        assert_eq!(place(Path::new("/home/me/target/debug/it")), Path::new("/usr/local/bin/it"));
    }

    #[test]
    fn a_program_that_does_not_exist_is_refused() {
        for name in ["no-such-program", "/no/such/program"] {
            let text = locate(Path::new(name)).unwrap_err().to_string();
            assert!(text.starts_with(name), "{text}");
        }
    }
}
