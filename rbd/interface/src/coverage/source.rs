//! Reads the sources of `rbd`: where C functions are called, and which items claim to implement
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Expr, ImplItem, Item, Type, Visibility};
use walkdir::WalkDir;

use crate::root;

/// A function or method.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) file: PathBuf,
    /// `Image::flatten`.
    pub(super) title: String,
    pub(super) public: bool,
    /// The C functions of its `Implements:` lines.
    pub(super) claims: Vec<String>,
    /// The first word of its documentation; empty if it has none.
    pub(super) first: String,
}

#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) functions: Vec<Function>,
    /// The names that the code uses of the raw crate, with the files.
    pub(super) named: BTreeMap<String, BTreeSet<String>>,
}

impl Source {
    pub(super) fn read() -> Result<Source> {
        let root = root().join("rbd/src");
        let mut source = Source::default();
        for entry in WalkDir::new(&root).sort_by_file_name() {
            let path = entry?.into_path();
            let name = path.to_string_lossy();
            if name.ends_with(".rs") && !name.ends_with("_tests.rs") {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                source.add(path.strip_prefix(&root)?, &text)?;
            }
        }
        Ok(source)
    }

    pub(super) fn add(&mut self, file: &Path, text: &str) -> Result<()> {
        let parsed = syn::parse_file(text).with_context(|| format!("cannot parse {}", file.display()))?;
        self.items(file, &parsed.items);
        let tokens: TokenStream = text.parse().map_err(|error| anyhow::anyhow!("not Rust: {error}"))?;
        let mut names = Vec::new();
        names_of(&tokens.into_iter().collect::<Vec<_>>(), &mut names);
        for name in names {
            self.named.entry(name).or_default().insert(file.display().to_string());
        }
        Ok(())
    }

    fn items(&mut self, file: &Path, items: &[Item]) {
        let raw = file.starts_with("raw");
        let mut add = |of: Option<&str>, name: &syn::Ident, vis: &Visibility, attrs: &[Attribute]| {
            self.functions.push(Function {
                file: file.to_owned(),
                title: of.map_or_else(|| name.to_string(), |of| format!("{of}::{name}")),
                public: !raw && matches!(vis, Visibility::Public(_)),
                claims: claims(attrs),
                first: lines(attrs)
                    .next()
                    .and_then(|line| line.split_whitespace().next().map(str::to_owned))
                    .unwrap_or_default(),
            });
        };
        for item in items {
            match item {
                Item::Fn(function) => add(None, &function.sig.ident, &function.vis, &function.attrs),
                Item::Impl(block) => {
                    let of = type_name(&block.self_ty);
                    let public: Visibility = syn::parse_quote!(pub);
                    for item in &block.items {
                        if let ImplItem::Fn(method) = item {
                            let vis = if block.trait_.is_some() { &public } else { &method.vis };
                            add(of.as_deref(), &method.sig.ident, vis, &method.attrs);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Collects the names after `sys::`, `late::` and `librbd_sys::`. Unit tests do not count.
fn names_of(tokens: &[TokenTree], names: &mut Vec<String>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at..] {
            [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(_), ..]
                if word == "mod" && name == "tests" =>
            {
                at += 2;
            }
            [
                TokenTree::Ident(word),
                TokenTree::Punct(a),
                TokenTree::Punct(b),
                TokenTree::Ident(name),
                ..,
            ] if (word == "sys" || word == "late" || word == "librbd_sys")
                && a.as_char() == ':'
                && b.as_char() == ':' =>
            {
                names.push(name.to_string());
                at += 2;
            }
            [TokenTree::Group(group), ..] => {
                names_of(&group.stream().into_iter().collect::<Vec<_>>(), names);
            }
            _ => {}
        }
        at += 1;
    }
}

/// Returns the functions that ``Implements: `a`, `b` `` in a documentation comment names, up to the
/// end of the paragraph.
fn claims(attrs: &[Attribute]) -> Vec<String> {
    let mut claims = Vec::new();
    let mut within = false;
    for line in lines(attrs) {
        within = line.trim_start().starts_with("Implements:") || within && !line.trim().is_empty();
        if within {
            let quoted = line.split('`').skip(1).step_by(2);
            // Constants are in capitals.
            let is_function = |word: &&str| word.starts_with("rbd_") || word.starts_with("rados_");
            claims.extend(quoted.filter(is_function).map(str::to_owned));
        }
    }
    claims
}

/// Returns the lines of a documentation comment.
fn lines(attrs: &[Attribute]) -> impl Iterator<Item = String> {
    attrs.iter().filter(|attr| attr.path().is_ident("doc")).filter_map(|attr| {
        let syn::Meta::NameValue(pair) = &attr.meta else { return None };
        let Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return None };
        Some(text.value())
    })
}

fn type_name(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        Type::Reference(inner) => type_name(&inner.elem),
        _ => None,
    }
}
