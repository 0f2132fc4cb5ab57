//! The guest's root: busybox, the kernel's modules, the agent, and the user's files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::builder::{Builder, RbdModule};
use crate::cluster;
use crate::error::{Context as _, Error, Result};
use crate::host;
use crate::kernel::KernelImage;
use crate::machine::PORT;
use crate::programs::{self, Program};
use crate::tree::Tree;

const AGENT: &[u8] = include_bytes!(env!("RBD_TESTVM_GUEST"));

/// The modules that every guest loads at boot.
const LOADED: &[&str] = &["virtio_pci", "virtio_console", "virtio_net"];

/// The modules that the kernel or commands can load, if the kernel has them as modules: ciphers of
/// Ceph's protocol, file systems, and device-mapper targets and the like.
const SHIPPED: &[&str] = &[
    "aes_generic",
    "aesni_intel",
    "authenc",
    "cbc",
    "ccm",
    "crc32c_generic",
    "crc32c_intel",
    "ctr",
    "dm_crypt",
    "dm_mod",
    "ecb",
    "ext4",
    "gcm",
    "gf128mul",
    "ghash_generic",
    "hmac",
    "loop",
    "nbd",
    "sha256_generic",
    "xts",
];

/// Debian's udev rules that concern block devices.
const UDEV_RULES: &[&str] =
    &["50-rbd.rules", "50-udev-default.rules", "60-block.rules", "60-persistent-storage.rules"];

/// Writes the initramfs into a file without a name, which disappears with its last user.
pub(crate) fn write(wanted: &Builder, kernel: &KernelImage) -> Result<(File, u64)> {
    let mut tree = Tree::default();
    for directory in
        ["dev", "proc", "sys", "tmp", "root", "mnt", "run/ceph", "run/lock", "var/log/ceph", "var/lib/ceph"]
    {
        tree.directory(directory);
    }
    tree.link("var/run", "/run");
    tree.link("etc/mtab", "/proc/self/mounts");
    tree.bytes("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    tree.bytes("etc/group", "root:x:0:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\ncdrom:x:24:\n", 0o644);
    tree.bytes("etc/hosts", "127.0.0.1 localhost\n10.0.2.15 testvm\n", 0o644);
    tree.bytes("init", include_str!("init.sh"), 0o755);
    tree.bytes("usr/lib/testvm/agent", AGENT, 0o755);

    let mut inside = vec![
        Program { host: "busybox".into(), guest: Some("/usr/bin/busybox".into()) },
        Program { host: "mke2fs".into(), guest: Some("/usr/sbin/mke2fs".into()) },
    ];
    if wanted.udev {
        udev(&mut tree, &mut inside)?;
    }
    inside.extend(wanted.programs.iter().cloned());
    programs::add(&mut tree, &inside)?;
    applets(&mut tree)?;
    if let Some(config) = Some("/etc/mke2fs.conf").filter(|path| Path::new(path).is_file()) {
        tree.copy(config, config, 0o644);
    }
    modules(&mut tree, wanted, kernel)?;
    if let Some(configuration) = &wanted.cluster {
        cluster::add(&mut tree, configuration)?;
    }
    for (guest, host) in &wanted.files {
        if !host.is_file() {
            return Err(Error::Unpackable { path: host.clone(), reason: "there is no such file".into() });
        }
        tree.copy(guest, host, 0o600);
    }
    for (guest, content) in &wanted.texts {
        tree.bytes(guest, content.clone(), 0o755);
    }

    let file =
        tempfile::tempfile().context(|| "cannot make a temporary file for the initramfs".to_owned())?;
    let length = tree.write(BufWriter::with_capacity(1 << 20, &file))?;
    Ok((file, length))
}

/// Adds a link to busybox for each of its commands that does not exist yet.
fn applets(tree: &mut Tree) -> Result<()> {
    for ext in ["mkfs.ext2", "mkfs.ext3", "mkfs.ext4"] {
        tree.link(Path::new("/usr/sbin").join(ext), "mke2fs");
    }
    for applet in host::succeed(host::command("busybox").arg("--list"))?.lines() {
        let taken = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|place| Path::new(place).join(applet));
        if !taken.iter().any(|path| tree.contains(path)) {
            tree.link(&taken[0], "busybox");
        }
    }
    // The kernel loads modules through this path, and users expect both commands.
    for administrator in ["modprobe", "modinfo"] {
        let path = Path::new("/usr/sbin").join(administrator);
        if !tree.contains(&path) {
            tree.link(path, "/usr/bin/busybox");
        }
    }
    Ok(())
}

fn udev(tree: &mut Tree, inside: &mut Vec<Program>) -> Result<()> {
    host::require(&[("udevadm", "udev")])?;
    inside.push(Program { host: "udevadm".into(), guest: Some("/usr/bin/udevadm".into()) });
    tree.link("/usr/lib/systemd/systemd-udevd", "/usr/bin/udevadm");
    tree.directory("/etc/udev/rules.d");
    tree.directory("/run/udev");
    for rules in UDEV_RULES.iter().map(|name| Path::new("/usr/lib/udev/rules.d").join(name)) {
        if rules.is_file() {
            tree.copy(&rules, &rules, 0o644);
        }
    }
    if let Some(namer) = host::find("ceph-rbdnamer") {
        inside.push(Program { host: namer, guest: None });
    }
    Ok(())
}

fn modules(tree: &mut Tree, wanted: &Builder, kernel: &KernelImage) -> Result<()> {
    let known = Modules::read(kernel)?;
    let mut loaded: Vec<&str> = LOADED.to_vec();
    loaded.extend(wanted.modules.iter().map(String::as_str));
    let mut shipped: Vec<&str> =
        SHIPPED.iter().copied().filter(|name| known.paths.contains_key(*name)).collect();
    match wanted.rbd {
        RbdModule::Loaded => loaded.push("rbd"),
        RbdModule::Unloaded => shipped.push("rbd"),
        RbdModule::Absent => {}
    }
    // Built-in modules need no loading.
    loaded.retain(|name| !known.built_in.contains(*name));
    let home = Path::new("/usr/lib/modules").join(&kernel.release);
    for path in known.closure(loaded.iter().copied().chain(shipped), kernel)? {
        tree.copy(home.join(&path), kernel.modules.join(&path), 0o644);
    }
    // The complete indices: they are small, and a missing module fails to load, as intended.
    let listing = || format!("cannot list {}", kernel.modules.display());
    for entry in fs::read_dir(&kernel.modules).context(listing)? {
        let entry = entry.context(listing)?;
        if entry.file_name().to_string_lossy().starts_with("modules.") {
            tree.copy(home.join(entry.file_name()), entry.path(), 0o644);
        }
    }
    let udev = u8::from(wanted.udev);
    let config = format!("MODULES=\"{}\"\nUDEV={udev}\nPORT={PORT}\n", loaded.join(" "));
    tree.bytes("/etc/testvm.conf", config, 0o644);
    Ok(())
}

/// The kernel's modules, by name (with `_`, as in the kernel).
struct Modules {
    paths: BTreeMap<String, PathBuf>,
    needs: BTreeMap<PathBuf, Vec<PathBuf>>,
    built_in: BTreeSet<String>,
}

impl Modules {
    fn read(kernel: &KernelImage) -> Result<Self> {
        let read = |name: &str| {
            let path = kernel.modules.join(name);
            fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self::parse(&read("modules.dep")?, &read("modules.builtin")?))
    }

    fn parse(dependencies: &str, built_in: &str) -> Self {
        let mut modules = Self {
            paths: BTreeMap::new(),
            needs: BTreeMap::new(),
            built_in: built_in.lines().map(|path| name(Path::new(path))).collect(),
        };
        for (path, needs) in dependencies.lines().filter_map(|line| line.split_once(':')) {
            modules.paths.insert(name(Path::new(path)), path.into());
            modules.needs.insert(path.into(), needs.split_whitespace().map(PathBuf::from).collect());
        }
        modules
    }

    /// Returns these modules and their dependencies.
    fn closure<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        kernel: &KernelImage,
    ) -> Result<BTreeSet<PathBuf>> {
        let mut queue = VecDeque::new();
        for name in names {
            queue.push_back(self.paths.get(&name.replace('-', "_")).ok_or_else(|| Error::BadKernel {
                package: kernel.release.clone(),
                reason: format!("it has no module {name}"),
            })?);
        }
        let mut closure = BTreeSet::new();
        while let Some(path) = queue.pop_front() {
            if closure.insert(path.clone()) {
                queue.extend(self.needs.get(path).into_iter().flatten());
            }
        }
        Ok(closure)
    }
}

fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_with_all_that_it_needs() {
        let modules = Modules::parse(
            "kernel/block/rbd.ko: kernel/net/libceph.ko\nkernel/net/libceph.ko: kernel/lib/libcrc32c.ko\n\
             kernel/lib/libcrc32c.ko:\nkernel/other-one.ko:\n",
            "kernel/fs/ext4/ext4.ko\nkernel/crypto/sha256-generic.ko\n",
        );
        let kernel = KernelImage { release: "6.1".into(), vmlinuz: PathBuf::new(), modules: PathBuf::new() };
        let closure = modules.closure(["rbd"].into_iter(), &kernel).unwrap();
        let expected = ["kernel/block/rbd.ko", "kernel/lib/libcrc32c.ko", "kernel/net/libceph.ko"];
        assert_eq!(closure, expected.map(PathBuf::from).into());
        assert_eq!(modules.closure(["other-one"].into_iter(), &kernel).unwrap().len(), 1);
        assert!(modules.built_in.contains("sha256_generic"));
        let text = modules.closure(["gone"].into_iter(), &kernel).unwrap_err().to_string();
        assert_eq!(text, "kernel package 6.1: it has no module gone");
    }
}
