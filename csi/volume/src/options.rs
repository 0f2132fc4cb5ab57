//! Mount options as people write them: flags of the kernel, and words for the file system.

use rustix::mount::MountFlags;

/// Options of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    name: &'static str,
    flag: MountFlags,
    set: bool,
}

const fn on(name: &'static str, flag: MountFlags) -> Word {
    Word { name, flag, set: true }
}

const fn off(name: &'static str, flag: MountFlags) -> Word {
    Word { name, flag, set: false }
}

const WORDS: [Word; 20] = [
    on("ro", MountFlags::RDONLY),
    off("rw", MountFlags::RDONLY),
    on("nosuid", MountFlags::NOSUID),
    off("suid", MountFlags::NOSUID),
    on("nodev", MountFlags::NODEV),
    off("dev", MountFlags::NODEV),
    on("noexec", MountFlags::NOEXEC),
    off("exec", MountFlags::NOEXEC),
    on("sync", MountFlags::SYNCHRONOUS),
    off("async", MountFlags::SYNCHRONOUS),
    on("dirsync", MountFlags::DIRSYNC),
    on("noatime", MountFlags::NOATIME),
    off("atime", MountFlags::NOATIME),
    on("nodiratime", MountFlags::NODIRATIME),
    off("diratime", MountFlags::NODIRATIME),
    on("relatime", MountFlags::RELATIME),
    off("norelatime", MountFlags::RELATIME),
    on("strictatime", MountFlags::STRICTATIME),
    on("lazytime", MountFlags::LAZYTIME),
    off("nolazytime", MountFlags::LAZYTIME),
];

/// Options that would turn the mount into another operation, such as a move.
const REFUSED: [&str; 8] = ["remount", "bind", "rbind", "move", "loop", "shared", "rshared", "private"];

/// Sorts options into the kernel's flags and the text for the file system. `Err` is an option that
/// a volume cannot have.
pub(crate) fn sort(options: &[String], mut flags: MountFlags) -> Result<(MountFlags, Vec<String>), String> {
    let mut rest = Vec::new();
    for option in options.iter().flat_map(|options| options.split(',')) {
        let option = option.trim();
        if REFUSED.contains(&option) || option.contains('\0') {
            return Err(option.to_owned());
        }
        match WORDS.iter().find(|word| word.name == option) {
            Some(word) => flags.set(word.flag, word.set),
            None if option.is_empty() || option == "defaults" || option == "_netdev" => {}
            None => rest.push(option.to_owned()),
        }
    }
    Ok((flags, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_words_of_the_file_system() {
        let start = MountFlags::NOSUID | MountFlags::NODEV;
        let options = ["noatime,discard".to_owned(), "suid".into(), "defaults".into(), "commit=5".into()];
        let (flags, rest) = sort(&options, start).unwrap();
        assert_eq!(flags, MountFlags::NODEV | MountFlags::NOATIME);
        assert_eq!(rest, ["discard", "commit=5"]);
        assert_eq!(sort(&["ro,remount".into()], start), Err("remount".into()));
    }
}
