//! Finds the modules of its crate that a source file names.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path into the crate, from its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    /// The path without `crate`. The last word is `*` for a glob. Never empty.
    pub(super) path: Vec<String>,
}

/// Returns the paths into the crate in `tokens`, the content of the module `module`: those after
/// `crate::` and `super::`, and those of a `use` that begins with a word, which may be a child of
/// the module.
pub(super) fn from_root(tokens: TokenStream, module: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    scan(&tokens.into_iter().collect::<Vec<_>>(), module, &mut found);
    found
}

/// Returns the lines with a word of the code.
pub(super) fn lines_of(tokens: TokenStream, wanted: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(word) if word == wanted => lines.push(word.span().start().line),
            TokenTree::Group(group) => lines.extend(lines_of(group.stream(), wanted)),
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
                at += 1;
                if behind_colons(&tokens[at..]).is_some() {
                    at += 2;
                    at += follow(&tokens[at..], &[], found);
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
                at += follow(&tokens[at..], &module[..left], found);
            }
            [TokenTree::Ident(word), TokenTree::Ident(first), ..] if word == "use" => {
                at += 1;
                if first != "crate" && first != "super" {
                    at += follow(&tokens[at..], module, found);
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

/// Returns the token after a leading `::`.
fn behind_colons(tokens: &[TokenTree]) -> Option<&TokenTree> {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), next, ..] if a.as_char() == ':' && b.as_char() == ':' => {
            Some(next)
        }
        _ => None,
    }
}

/// Adds the path at the start of the tokens, which continues `base`, or one path for each member of
/// its braces. Returns how many tokens it has.
fn follow(tokens: &[TokenTree], base: &[String], found: &mut Vec<Named>) -> usize {
    let with = |word: String| [base, &[word]].concat();
    match tokens {
        [TokenTree::Ident(word), rest @ ..] => {
            let path = with(word.to_string());
            if word == "self" {
                return 1 + follow(rest.get(2..).unwrap_or_default(), base, found);
            }
            match rest {
                [TokenTree::Punct(a), TokenTree::Punct(b), behind @ ..]
                    if a.as_char() == ':' && b.as_char() == ':' && may_follow(behind) =>
                {
                    3 + follow(behind, &path, found)
                }
                _ => {
                    found.push(Named { line: word.span().start().line, path });
                    1
                }
            }
        }
        [TokenTree::Punct(star), ..] if star.as_char() == '*' => {
            found.push(Named { line: star.span().start().line, path: with("*".to_owned()) });
            1
        }
        [TokenTree::Group(members), ..] => {
            let members: Vec<_> = members.stream().into_iter().collect();
            for member in members.split(|token| matches!(token, TokenTree::Punct(c) if c.as_char() == ',')) {
                follow(member, base, found);
            }
            1
        }
        _ => 0,
    }
}

/// Returns whether this continues a path after `::`. A turbofish does not.
fn may_follow(tokens: &[TokenTree]) -> bool {
    match tokens {
        [TokenTree::Punct(star), ..] => star.as_char() == '*',
        [TokenTree::Group(group), ..] => group.delimiter() == Delimiter::Brace,
        [TokenTree::Ident(_), ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(module: &[&str], text: &str) -> Vec<String> {
        let module: Vec<_> = module.iter().map(|&part| part.to_owned()).collect();
        from_root(text.parse().unwrap(), &module).into_iter().map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn every_form_of_path_is_seen() {
        assert_eq!(names(&["image"], "use crate::error::Error;"), ["error::Error"]);
        assert_eq!(
            names(&["image"], "use crate::{error::{self, Error}, ioctx::IoCtx as I, raw};"),
            ["error::Error", "ioctx::IoCtx", "raw"]
        );
        assert_eq!(
            names(&["image"], "fn f() -> crate::Result<()> { crate::raw::go::<u8>() }"),
            ["Result", "raw::go"]
        );
        assert_eq!(names(&["image"], "use crate::*;"), ["*"]);
        assert_eq!(names(&["image"], "pub(crate) fn f() {} pub(in crate::image) fn g() {}"), ["image"]);
        assert_eq!(names(&["image"], "macro_rules! m { () => { $crate::aio::go() } }"), ["aio::go"]);
    }

    #[test]
    fn paths_from_the_module_lead_from_the_root() {
        assert_eq!(names(&["image"], "use super::aio::Aio;"), ["aio::Aio"]);
        assert_eq!(names(&["image", "io"], "use super::aio::Aio;"), ["image::aio::Aio"]);
        assert_eq!(names(&["image", "io"], "use super::super::aio::Aio;"), ["aio::Aio"]);
        assert_eq!(
            names(&["image"], "mod tests { use super::*; use super::super::aio; }"),
            ["image::*", "aio"]
        );
        assert_eq!(
            names(&["image"], "use io::{Read, self}; use self::x::Y;"),
            ["image::io::Read", "image::x::Y"]
        );
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
        assert_eq!(found[1], Named { line: 5, path: vec!["aio".to_owned()] });
        assert_eq!(lines_of("fn f() {\n    librbd_sys::rbd_open()\n}".parse().unwrap(), "librbd_sys"), [2]);
    }
}
