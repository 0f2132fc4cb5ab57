//! The checks of prose, which is comments in Rust and text in Markdown: lines wrap, and idioms do
//! not stop a reader.

use std::path::Path;

/// The longest line in columns.
const WIDTH: usize = 100;

/// Idioms that readers stumble over. Write a plain main clause.
const IDIOMS: &[&str] =
    &["as of", "be it", ", for one", "of ours", "whoever", "whomever", "lest", "for ever"];

/// Returns the faults of a file, by its name and text.
pub(super) fn check(file: &str, text: &str) -> Vec<String> {
    let is_guide = Path::new(file).extension().is_some_and(|extension| extension == "md");
    let mut faults = Vec::new();
    let mut in_code = false;
    // An idiom can be broken over two lines: the words of the line before this one.
    let mut before = String::new();
    for (at, line) in (1..).zip(text.lines()) {
        let Some(prose) = (if is_guide { Some(line) } else { line.trim_start().strip_prefix("//") }) else {
            in_code = false;
            before.clear();
            continue;
        };
        let prose = prose.trim_start_matches(['/', '!']);
        let is_fence = prose.trim_start().starts_with("```");
        in_code ^= is_fence;
        let is_code = in_code || is_fence;
        // Tables cannot wrap. Code in a guide is indented or fenced.
        let wraps =
            !prose.trim_start().starts_with('|') && !(is_guide && (is_code || line.starts_with("    ")));
        if wraps && is_long(line) {
            faults.push(format!("{file}:{at}: text of more than {WIDTH} columns; wrap it"));
        }
        let now = if is_code { String::new() } else { words(prose) };
        for idiom in IDIOMS {
            let count = |words: &str| format!(" {words}").matches(&format!(" {idiom} ")).count();
            if count(&format!("{before}{now}")) > count(&before) {
                faults.push(format!("{file}:{at}: \"{idiom}\" stops a reader; use a plain main clause"));
            }
        }
        before = now;
    }
    faults
}

fn is_long(line: &str) -> bool {
    // A long word that cannot be broken, such as an address, may be longer.
    line.chars().count() > WIDTH
        && line.trim_start_matches(['/', '!', ' ', '-', '*', '>']).contains(' ')
        && !line.contains("](")
        && !line.contains("://")
}

/// Returns the words and commas of a line, each with a space after it. Text in backticks is code.
fn words(line: &str) -> String {
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" code ");
    prose
        .replace(',', " , ")
        .split(|c: char| c != ',' && !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.to_lowercase() + " ")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the numbers of the lines with faults.
    fn lines(file: &str, text: &str) -> Vec<usize> {
        let line = |fault: &String| fault.split(':').nth(1).unwrap().parse().unwrap();
        check(file, text).iter().map(line).collect()
    }

    #[test]
    fn comments_and_prose_wrap_but_not_code_tables_and_links() {
        let long = "word ".repeat(WIDTH / 5 + 1);
        let rust =
            format!("/// {long}\n    // {long}\nlet a = \"{long}\";\n//! | {long} |\n// https://{long}\n");
        assert_eq!(lines("a.rs", &rust), [1, 2]);
        assert_eq!(lines("a.rs", &format!("/// ```\n/// {long}\n/// ```\n")), [2]);
        let prose = format!("{long}\n\n    {long}\n```\n{long}\n```\n| {long}|\n[{long}](x)\n- {long}\n");
        assert_eq!(lines("a.md", &prose), [1, 9]);
        assert_eq!(lines("a.rs", &format!("// {}", "x".repeat(WIDTH - 3))), [0; 0]);
    }

    #[test]
    fn an_idiom_is_found_in_prose_and_not_in_code() {
        let rust = "// Whoever polls waits.\nlet as_of = \"whoever\";\n/// A list `of ours`.\n/// \
            ```\n/// be it\n/// ```\n/// be it\n";
        assert_eq!(lines("a.rs", rust), [1, 7]);
        assert!(check("a.rs", rust)[0].contains("a.rs:1: \"whoever\""));
        assert_eq!(lines("a.md", "A snapshot, for one, is\n```\nas of\n```\nbe it a pool\n"), [1, 5]);
        assert_eq!(lines("a.rs", "// A list of\n// ours.\nlet a = 1; // of\n// ours\n"), [2]);
        assert_eq!(lines("a.md", "A pool as\nof now, as of then.\n\nAs\n\nof now.\n"), [2]);
        let fine = "Wait for one second. Maybe it is known. As often as it can. Hours of use.";
        assert_eq!(lines("a.md", fine), [0; 0]);
    }
}
