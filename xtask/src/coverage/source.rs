//! The functions of `rbd` as far as coverage needs them: what they name, what they call, what they
//! claim.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, ReturnType, Signature, Token, Type, Visibility};

use crate::cmd;

/// A function or method.
#[derive(Debug, Default)]
pub(super) struct Function {
    pub(super) file: PathBuf,
    /// The type whose `impl` it is in.
    pub(super) of: Option<String>,
    pub(super) name: String,
    /// Parameters without `self`.
    pub(super) arity: usize,
    pub(super) takes_self: bool,
    pub(super) public: bool,
    /// Below `raw/`.
    pub(super) raw: bool,
    /// The C functions of its `Implements:` lines.
    pub(super) claims: Vec<String>,
    /// The C functions that its body names in code.
    pub(super) symbols: BTreeSet<String>,
    pub(super) calls: Vec<Call>,
    /// The types that its signature returns.
    pub(super) returns: BTreeSet<String>,
    /// The types that it makes values of, as far as that is seen: `T { … }` and `T(…)`.
    pub(super) makes: BTreeSet<String>,
}

/// A call, or a function that is named to be called by somebody else.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) on: Receiver,
    /// Arguments, where they are seen.
    pub(super) arity: Option<usize>,
}

/// On what a function is called.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Receiver {
    /// `self.name()`.
    Own,
    /// `raw.name()`, `self.raw.name()`, `ioctx.raw().name()`.
    Raw,
    /// `Type::name`; and whether `raw` is on the path.
    Of(String, bool),
    /// `name()` or `module::name()`.
    Free,
    /// Anything else.
    Any,
}

/// All functions of `rbd`, and the types that do nothing until they are run.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) functions: Vec<Function>,
    pub(super) builders: BTreeSet<String>,
}

impl Source {
    pub(super) fn read() -> Result<Source> {
        let root = cmd::root().join("rbd/src");
        let mut source = Source::default();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs")
                    && path.file_stem().is_some_and(|name| !name.to_string_lossy().ends_with("_tests"))
                {
                    let text = std::fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    let file = path.strip_prefix(&root).unwrap_or(&path);
                    source.add(file, &text)?;
                }
            }
        }
        source.functions.sort_by(|a, b| (&a.file, &a.of, &a.name).cmp(&(&b.file, &b.of, &b.name)));
        Ok(source)
    }

    pub(super) fn add(&mut self, file: &Path, text: &str) -> Result<()> {
        let parsed = syn::parse_file(text).with_context(|| format!("cannot parse {}", file.display()))?;
        self.items(file, &parsed.items);
        Ok(())
    }

    fn items(&mut self, file: &Path, items: &[Item]) {
        for item in items {
            match item {
                Item::Fn(f) if !is_test(&f.attrs) => {
                    self.function(file, None, &f.attrs, &f.vis, &f.sig, |names| names.visit_block(&f.block));
                }
                Item::Impl(block) if !is_test(&block.attrs) => {
                    let of = type_names(&block.self_ty).into_iter().next();
                    let of_trait = block.trait_.is_some();
                    for item in &block.items {
                        let ImplItem::Fn(f) = item else { continue };
                        let public: Visibility = syn::parse_quote!(pub);
                        let vis = if of_trait { &public } else { &f.vis };
                        self.function(file, of.clone(), &f.attrs, vis, &f.sig, |names| {
                            names.visit_block(&f.block);
                        });
                    }
                }
                Item::Struct(item) if item.attrs.iter().any(|attr| attr.path().is_ident("must_use")) => {
                    self.builders.insert(item.ident.to_string());
                }
                Item::Mod(module) if !is_test(&module.attrs) => {
                    if let Some((_, items)) = &module.content {
                        self.items(file, items);
                    }
                }
                _ => {}
            }
        }
    }

    fn function(
        &mut self,
        file: &Path,
        of: Option<String>,
        attrs: &[Attribute],
        vis: &Visibility,
        sig: &Signature,
        walk: impl FnOnce(&mut Names),
    ) {
        let mut names = Names::default();
        walk(&mut names);
        let raw = file.starts_with("raw");
        self.functions.push(Function {
            file: file.to_owned(),
            of,
            name: sig.ident.to_string(),
            arity: sig.inputs.len() - usize::from(sig.receiver().is_some()),
            takes_self: sig.receiver().is_some_and(|receiver| receiver.reference.is_none()),
            public: !raw && matches!(vis, Visibility::Public(_)),
            raw,
            claims: claims(attrs),
            symbols: names.symbols,
            calls: names.calls,
            makes: names.makes,
            returns: match &sig.output {
                ReturnType::Default => BTreeSet::new(),
                ReturnType::Type(_, output) => type_names(output).into_iter().collect(),
            },
        });
    }
}

fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        attr.path().is_ident("test")
            || attr.path().is_ident("cfg")
                && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// The functions that ``Implements: `a`, `b` `` in a documentation comment names, up to the end of
/// the paragraph.
fn claims(attrs: &[Attribute]) -> Vec<String> {
    let mut claims = Vec::new();
    let mut within = false;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        let syn::Meta::NameValue(pair) = &attr.meta else { continue };
        let Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { continue };
        let line = text.value();
        within = line.trim_start().starts_with("Implements:") || within && !line.trim().is_empty();
        if within {
            let quoted = line.split('`').skip(1).step_by(2);
            claims.extend(quoted.filter(|word| is_symbol(word)).map(str::to_owned));
        }
    }
    claims
}

/// A C function: constants are in capitals.
fn is_symbol(word: &str) -> bool {
    word.starts_with("rbd_") || word.starts_with("rados_")
}

/// All names in a type, outermost first.
fn type_names(of: &Type) -> Vec<String> {
    struct Paths(Vec<String>);
    impl<'a> Visit<'a> for Paths {
        fn visit_path(&mut self, path: &'a syn::Path) {
            self.0.extend(path.segments.last().map(|last| last.ident.to_string()));
            visit::visit_path(self, path);
        }
    }
    let mut paths = Paths(Vec::new());
    paths.visit_type(of);
    paths.0
}

/// What a body names.
#[derive(Default)]
struct Names {
    symbols: BTreeSet<String>,
    calls: Vec<Call>,
    makes: BTreeSet<String>,
}

impl<'a> Visit<'a> for Names {
    fn visit_expr_struct(&mut self, made: &'a syn::ExprStruct) {
        self.makes.extend(made.path.segments.last().map(|last| last.ident.to_string()));
        visit::visit_expr_struct(self, made);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        let on = match receiver_name(&call.receiver).as_deref() {
            Some("self") => Receiver::Own,
            Some("raw") => Receiver::Raw,
            _ => Receiver::Any,
        };
        self.calls.push(Call { name: call.method.to_string(), on, arity: Some(call.args.len()) });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'a syn::ExprPath) {
        let words: Vec<String> = path.path.segments.iter().map(|word| word.ident.to_string()).collect();
        let (name, before) = words.split_last().expect("a path has a segment");
        if is_symbol(name)
            && before.iter().any(|word| word == "sys" || word == "late" || word == "librbd_sys")
        {
            self.symbols.insert(name.clone());
            return;
        }
        if name.starts_with(char::is_uppercase) {
            self.makes.insert(name.clone());
        }
        let on = match before.last() {
            Some(word) if word == "Self" => Receiver::Own,
            // A type parameter, which stands for types that are not told here.
            Some(word) if word.len() == 1 => Receiver::Any,
            Some(word) if word.starts_with(char::is_uppercase) => {
                Receiver::Of(word.clone(), before.iter().any(|word| word == "raw"))
            }
            _ => Receiver::Free,
        };
        self.calls.push(Call { name: name.clone(), on, arity: None });
        visit::visit_expr_path(self, path);
    }

    /// The arguments of `matches!`, `format!` and the like, where they are expressions.
    fn visit_macro(&mut self, makro: &'a syn::Macro) {
        let parser = Punctuated::<Expr, Token![,]>::parse_terminated;
        if let Ok(arguments) = makro.parse_body_with(parser) {
            let mut inner = Names::default();
            for argument in &arguments {
                inner.visit_expr(argument);
            }
            self.symbols.append(&mut inner.symbols);
            self.calls.append(&mut inner.calls);
            self.makes.append(&mut inner.makes);
        }
    }
}

/// The last word of what a method is called on: `raw` of `self.raw`, `ioctx.raw()` and `raw`.
fn receiver_name(receiver: &Expr) -> Option<String> {
    match receiver {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(name.to_string()),
            syn::Member::Unnamed(_) => None,
        },
        Expr::MethodCall(call) => Some(call.method.to_string()),
        Expr::Paren(inner) => receiver_name(&inner.expr),
        Expr::Reference(inner) => receiver_name(&inner.expr),
        Expr::Try(inner) => receiver_name(&inner.expr),
        _ => None,
    }
}

/// Functions by their name.
pub(super) fn by_name(functions: &[Function]) -> BTreeMap<&str, Vec<usize>> {
    let mut index: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, function) in functions.iter().enumerate() {
        index.entry(&function.name).or_default().push(number);
    }
    index
}
