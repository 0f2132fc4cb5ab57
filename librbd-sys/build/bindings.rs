//! The configuration of bindgen. `cargo xtask bindgen` uses it for the checked-in bindings, and the
//! build script for the feature `bindgen`.

use std::error::Error;
use std::path::Path;

use bindgen::callbacks::{
    DeriveTrait, EnumVariantCustomBehavior, EnumVariantValue, ImplementsTrait, IntKind, ParseCallbacks,
};

/// The headers, which are bound completely.
pub(crate) const HEADERS: [&str; 3] = ["rados/librados.h", "rbd/librbd.h", "rbd/features.h"];

/// Types of the C library, which the crate `libc` declares. Their members need no declarations.
const LIBC: &str = "iovec|timespec|timeval|time_t|ssize_t|off_t";

/// Generates the bindings from the headers in `include`, without the items and enum values named in
/// `hidden`.
pub(crate) fn generate(include: &Path, hidden: &[&str]) -> Result<String, Box<dyn Error>> {
    let includes = HEADERS.map(|header| format!("#include <{header}>\n")).concat();
    let mut builder = bindgen::Builder::default()
        .header_contents("ceph.h", &includes)
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_file(r".*/(rados/librados|rados/rados_types|rbd/librbd|rbd/features)\.h")
        .blocklist_type(LIBC)
        .raw_line("use libc::{iovec, time_t, timespec, timeval};")
        .blocklist_type("__.*")
        .blocklist_item("CEPH_.*_API|CEPH_.*_H|VOIDPTR_.*")
        .use_core()
        .rust_target(bindgen::RustTarget::stable(85, 0).map_err(|_| "bindgen does not know Rust 1.85")?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .default_enum_style(bindgen::EnumVariation::NewType { is_bitfield: false, is_global: true })
        .prepend_enum_name(false)
        .constified_enum(r"^_bindgen_ty_.*|.*\((unnamed|anonymous).*")
        .generate_cstr(true)
        .generate_comments(false)
        .disable_header_comment()
        .formatter(bindgen::Formatter::Prettyplease)
        .parse_callbacks(Box::new(Callbacks { hidden: hidden.iter().map(ToString::to_string).collect() }));
    for name in hidden {
        builder = builder.blocklist_item(name);
    }
    Ok(name_anonymous_enums(&builder.generate()?.to_string()))
}

/// Gives the values of a C enum without a name their integer type, because they are flags and plain
/// numbers. bindgen uses an alias whose number depends on its position in the headers.
fn name_anonymous_enums(bindings: &str) -> String {
    let lines = bindings.lines().filter(|line| !line.starts_with("pub type _bindgen_ty_"));
    let lines = lines.map(|line| {
        match line.split_once(": _bindgen_ty_").map(|(name, rest)| (name, rest.split_once(" = "))) {
            Some((name, Some((_, value)))) => format!("{name}: ::core::ffi::c_uint = {value}\n"),
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[derive(Debug)]
struct Callbacks {
    hidden: Vec<String>,
}

impl ParseCallbacks for Callbacks {
    /// Gives a macro the type of the parameter for which it is used.
    fn int_macro(&self, name: &str, _value: i64) -> Option<IntKind> {
        let kind = if name.starts_with("RBD_FEATURE")
            || name.starts_with("RBD_OPERATION_FEATURE")
            || name.starts_with("RBD_FLAG_")
            || name.starts_with("LIBRADOS_SNAP_")
        {
            IntKind::U64
        } else if name.starts_with("LIBRADOS_LOCK_FLAG_") {
            IntKind::U8
        } else if name.starts_with("LIBRADOS_CREATE_") {
            IntKind::Int
        } else {
            return None;
        };
        Some(kind)
    }

    fn enum_variant_behavior(
        &self,
        _enum_name: Option<&str>,
        variant: &str,
        _value: EnumVariantValue,
    ) -> Option<EnumVariantCustomBehavior> {
        self.hidden.iter().any(|name| name == variant).then_some(EnumVariantCustomBehavior::Hide)
    }

    /// The types of [`LIBC`] are plain data.
    fn blocklisted_type_implements_trait(&self, _name: &str, derive: DeriveTrait) -> Option<ImplementsTrait> {
        matches!(derive, DeriveTrait::Copy | DeriveTrait::Debug).then_some(ImplementsTrait::Yes)
    }
}
