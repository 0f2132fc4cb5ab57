//! The check that lines of text wrap: comments in Rust, and prose in Markdown.

use std::collections::BTreeSet;
use std::path::Path;

/// The longest line in columns.
const WIDTH: usize = 100;

/// The files that are not converted yet, one per line. The list only gets shorter.
const NOT_YET: &str = include_str!("long_lines.txt");

/// Returns the faults of these files, by name and text.
pub(super) fn check<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    check_with(&NOT_YET.lines().collect(), files)
}

fn check_with<'a>(not_yet: &BTreeSet<&str>, files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut converted = not_yet.clone();
    for (file, text) in files {
        let long = if Path::new(file).extension().is_some_and(|kind| kind == "md") {
            long_prose(text)
        } else {
            long_comments(text)
        };
        if not_yet.contains(file) {
            if !long.is_empty() {
                converted.remove(file);
            }
            continue;
        }
        faults.extend(
            long.into_iter().map(|line| format!("{file}:{line}: text of more than {WIDTH} columns; wrap it")),
        );
    }
    let list = "xtask/src/tidy/long_lines.txt";
    faults.extend(
        converted
            .into_iter()
            .map(|file| format!("{list}: `{file}` has no long line any more; remove it here")),
    );
    faults
}

fn is_long(line: &str) -> bool {
    // A long word that cannot be broken, such as an address, may be longer.
    line.chars().count() > WIDTH
        && line.trim_start_matches(['/', '!', ' ', '-', '*', '>']).contains(' ')
        && !line.contains("](")
        && !line.contains("://")
}

fn long_comments(text: &str) -> Vec<usize> {
    let comment = |line: &str| line.trim_start().starts_with("//");
    // Tables in doc comments cannot wrap.
    let table = |line: &str| line.trim_start_matches(['/', '!', ' ']).starts_with('|');
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| comment(line) && !table(line) && is_long(line))
        .map(|(at, _)| at)
        .collect()
}

fn long_prose(text: &str) -> Vec<usize> {
    let mut code = false;
    let mut long = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code && !line.trim_start().starts_with('|') && !line.starts_with("    ") && is_long(line) {
            long.push(at);
        }
    }
    long
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_prose_wrap_but_not_code_tables_and_links() {
        let words = "word ".repeat(WIDTH / 5 + 1);
        let rust = format!(
            "/// {words}\n    // {words}\nlet a = \"{words}\";\n//! | {words} |\n// https://{words}\n"
        );
        assert_eq!(long_comments(&rust), [1, 2]);
        let prose =
            format!("{words}\n\n    {words}\n```\n{words}\n```\n| {words}|\n[{words}](x)\n- {words}\n");
        assert_eq!(long_prose(&prose), [1, 9]);
        assert_eq!(long_comments(&format!("// {}", "x".repeat(WIDTH - 3))), [] as [usize; 0]);
    }

    #[test]
    fn the_list_of_files_only_gets_shorter() {
        let long = format!("// {}", "word ".repeat(WIDTH));
        let check = |not_yet: &[&str], file: &str, text: &str| {
            check_with(&not_yet.iter().copied().collect(), [(file, text)].into_iter()).len()
        };
        assert_eq!(check(&["a.rs"], "a.rs", &long), 0);
        assert_eq!(check(&[], "a.rs", &long), 1);
        assert_eq!(check(&["a.rs"], "a.rs", "// short"), 1, "converted");
        assert_eq!(check(&["a.rs"], "b.rs", "// short"), 1, "gone");
    }
}
