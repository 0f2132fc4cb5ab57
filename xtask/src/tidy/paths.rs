//! Which top-level modules of its crate a source file names.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path that starts at the crate's root, or one that starts at another crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    /// The first word behind `crate::`; `*` for a glob.
    pub(super) name: String,
}

/// What `tokens`, the content of the module `module`, names behind `crate::`, and behind `super::` where that leads to
/// the root.
pub(super) fn from_root(tokens: TokenStream, module: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    scan(&tokens.into_iter().collect::<Vec<_>>(), module, &mut found);
    found
}

/// Lines that name the crate `name` at the start of a path.
pub(super) fn of_crate(tokens: TokenStream, name: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(word) if word == name => lines.push(word.span().start().line),
            TokenTree::Group(group) => lines.extend(of_crate(group.stream(), name)),
            _ => {}
        }
    }
    lines
}

fn scan(tokens: &[TokenTree], module: &[String], found: &mut Vec<Named>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at..] {
            [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..]
                if word == "mod" && body.delimiter() == Delimiter::Brace =>
            {
                let inner = [module, &[name.to_string()]].concat();
                scan_group(body, &inner, found);
                at += 3;
            }
            [TokenTree::Ident(word), ..] if word == "crate" => {
                if behind_colons(&tokens[at + 1..]).is_some() {
                    at += 3;
                    name(tokens.get(at), found);
                } else {
                    at += 1;
                }
            }
            [TokenTree::Ident(word), ..] if word == "super" => {
                let mut left = module.len().saturating_sub(1);
                at += 1;
                while let Some(next) = behind_colons(&tokens[at..]) {
                    at += 2;
                    if !matches!(next, TokenTree::Ident(word) if word == "super") {
                        break;
                    }
                    left = left.saturating_sub(1);
                    at += 1;
                }
                if left == 0 {
                    name(tokens.get(at), found);
                }
            }
            [TokenTree::Group(group), ..] => {
                scan_group(group, module, found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

fn scan_group(group: &Group, module: &[String], found: &mut Vec<Named>) {
    scan(&group.stream().into_iter().collect::<Vec<_>>(), module, found);
}

/// The token behind a leading `::`.
fn behind_colons(tokens: &[TokenTree]) -> Option<&TokenTree> {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), next, ..] if a.as_char() == ':' && b.as_char() == ':' => {
            Some(next)
        }
        _ => None,
    }
}

/// Notes the word, the glob, or the first word of each member of the braces.
fn name(token: Option<&TokenTree>, found: &mut Vec<Named>) {
    match token {
        Some(TokenTree::Ident(word)) => {
            found.push(Named { line: word.span().start().line, name: word.to_string() });
        }
        Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
            found.push(Named { line: star.span().start().line, name: "*".to_owned() });
        }
        Some(TokenTree::Group(members)) => {
            let mut first = true;
            for token in members.stream() {
                if first {
                    name(Some(&token), found);
                }
                first = matches!(&token, TokenTree::Punct(comma) if comma.as_char() == ',');
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(module: &[&str], text: &str) -> Vec<String> {
        let module: Vec<_> = module.iter().map(|&part| part.to_owned()).collect();
        from_root(text.parse().unwrap(), &module).into_iter().map(|named| named.name).collect()
    }

    #[test]
    fn every_form_of_path_is_seen() {
        assert_eq!(names(&["image"], "use crate::error::Error;"), ["error"]);
        assert_eq!(
            names(&["image"], "use crate::{error::{self, Error}, ioctx::IoCtx as I, raw};"),
            ["error", "ioctx", "raw"]
        );
        assert_eq!(names(&["image"], "fn f() -> crate::Result<()> { crate::raw::go() }"), ["Result", "raw"]);
        assert_eq!(names(&["image"], "use crate::*;"), ["*"]);
        assert_eq!(names(&["image"], "pub(crate) fn f() {} pub(in crate::image) fn g() {}"), ["image"]);
        assert_eq!(names(&["image"], "macro_rules! m { () => { $crate::aio::go() } }"), ["aio"]);
    }

    #[test]
    fn super_counts_only_where_it_leads_to_the_root() {
        assert_eq!(names(&["image"], "use super::aio::Aio;"), ["aio"]);
        assert_eq!(names(&["image", "io"], "use super::aio::Aio;"), [] as [&str; 0]);
        assert_eq!(names(&["image", "io"], "use super::super::aio::Aio;"), ["aio"]);
        assert_eq!(names(&["image"], "mod tests { use super::*; use super::super::aio; }"), ["aio"]);
    }

    #[test]
    fn comments_and_strings_are_no_paths() {
        assert_eq!(
            names(&["image"], "// crate::aio\n/// [`crate::aio`]\nconst A: &str = \"crate::aio\";"),
            [] as [&str; 0]
        );
    }

    #[test]
    fn lines_are_right() {
        let found =
            from_root("\n\nuse crate::{\n    error,\n    aio,\n};".parse().unwrap(), &["image".to_owned()]);
        assert_eq!(found[1], Named { line: 5, name: "aio".to_owned() });
        assert_eq!(of_crate("fn f() {\n    librbd_sys::rbd_open()\n}".parse().unwrap(), "librbd_sys"), [2]);
    }
}
